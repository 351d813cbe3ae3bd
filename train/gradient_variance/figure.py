"""Draws the results of `train.gradient_variance` in the manner of [B] Figure 1. It reads JSON only.

python -m train.figure results/gradient_variance/*/result.json --out figure.png
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.report.figures import digest, panels, save
from train.report.statistics import Mean
from train.report.tables import DATA, Grid, read

LABELS = {
    "moments": "moments",
    "local": "local reparameterisation",
    "flipout": "flipout",
    "weights": "weight sample",
    "plain": "plain",
}
SHADES = ("#cc6677", "#4477aa", "#228833", "#8a5fb0", "#555555")
COLOURS = dict(zip(LABELS, SHADES, strict=True))
NETWORKS = {"dense": "dense", "small_vgg": "small VGG", "vgg16": "VGG16"}
TITLED = {"data": DATA, "network": NETWORKS}
GROUPS = {"means": "means", "log variances": "log-variances"}
CURVES = (
    ("validation_loss", "validation NLL", 1),
    ("validation_error", "validation error (%)", 100),
)


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws a row of panels for each result.

    Left: the trace of the covariance of the gradient with respect to the means, by batch size, at
    the initial and at the trained posterior; lines: due to batch and weights, dotted: due to the
    weights alone; bars: two standard errors. Right: validation negative log-likelihood and error by
    epoch, one line for each seed.
    """
    loaded = [read(path) for path in results]
    figure, axes = panels(len(loaded), 4, (15, 0.7 + 3.3 * len(loaded)))
    from matplotlib import lines

    for row, result in zip(axes, loaded, strict=True):
        title = ", ".join(names[result["settings"][n]] for n, names in TITLED.items())
        for panel, point in zip(row[:2], ("initial", "trained"), strict=True):
            _variance(panel, result, point)
            panel.set_title(f"{title}: {point} posterior", fontsize="medium")
        for panel, (name, label, factor) in zip(row[2:], CURVES, strict=True):
            _curves(panel, result, name, factor)
            panel.set(xlabel="epoch", ylabel=label)
    drawn = {name for result in loaded for name in result["settings"]["procedures"]}
    looks = {LABELS[name]: COLOURS[name] for name in LABELS if name in drawn}
    handles = [lines.Line2D([], [], color=c, label=label) for label, c in looks.items()]
    handles.append(lines.Line2D([], [], color="black", linestyle=":", label="weights alone"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    save(figure, out, description=digest(results), dpi=120)


def _variance(panel: Any, result: dict[str, Any], point: str) -> None:
    for procedure in result["settings"]["procedures"]:
        rows = [r for r in result["variance"] if (r["procedure"], r["point"]) == (procedure, point)]
        sizes = [row["batch size"] for row in rows]
        for kind, style in (("total", "o-"), ("weights", ".:")):
            values = [row["means"][kind]["value"] for row in rows]
            errors = [2 * row["means"][kind]["standard error"] for row in rows]
            if max(values) > 0:  # without noise of weights there is nothing on a logarithmic axis
                looks = {"color": COLOURS[procedure], "markersize": 4, "linewidth": 1.2}
                panel.errorbar(sizes, values, errors, fmt=style, **looks)
    panel.set_xscale("log", base=2)
    panel.set(yscale="log", xlabel="batch size", ylabel="variance of the gradient")


def _curves(panel: Any, result: dict[str, Any], name: str, factor: float) -> None:
    for run in result["runs"]:
        values = [float("nan") if v is None else factor * v for v in run["history"][name]]
        epochs = range(1, len(values) + 1)
        panel.plot(epochs, values, color=COLOURS[run["procedure"]], linewidth=1.2)


def variance_grids(result: dict[str, Any], names: Mapping[str, str] = LABELS) -> list[Grid]:
    """Variances by batch size, for the gradient by either group of parameters: the total ± its
    standard error, and the part of the weights alone; with these names of the procedures."""
    settings, of_batches = result["settings"], result["settings"]["batch_sizes"]
    found = {(row["point"], row["procedure"], row["batch size"]): row for row in result["variance"]}

    def cell(group: str, *which: Any) -> str:
        total, own = found[which][group]["total"], found[which][group]["weights"]["value"]
        told = Mean(total["value"], total["standard error"], settings["pairs"]).told(2, style="g")
        return f"{told} ({own:.2g})" if own else f"{told} (0)"

    return [
        Grid(
            f"Variance of the gradient by the {title}: total (part of the weights)",
            ["posterior", "procedure", *(f"batch {size}" for size in of_batches)],
            [
                [point, names[name], *(cell(group, point, name, size) for size in of_batches)]
                for point in ("initial", "trained")
                for name in settings["procedures"]
                if group == "means" or name != "plain"  # which has no log-variances to learn
            ],
            names=2,
        )
        for group, title in GROUPS.items()
    ]
