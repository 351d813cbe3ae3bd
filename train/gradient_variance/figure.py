"""Draws the results of `train.gradient_variance` in the manner of [B] Figure 1. It reads JSON only.

python -m train.gradient_variance.figure results/gradient_variance/*/result.json --out figure.png
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report import commandline
from train.report import tables as report
from train.report.files import write_atomic

COLOURS = {
    "moments": "#cc6677",
    "local": "#4477aa",
    "flipout": "#228833",
    "weights": "#8a5fb0",
    "plain": "#555555",
}
LABELS = {
    "moments": "moments",
    "local": "local reparameterisation",
    "flipout": "flipout",
    "weights": "weight sample",
    "plain": "plain",
}
DATA = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}
NETWORKS = {"dense": "dense", "small_vgg": "small VGG", "vgg16": "VGG16"}
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

    Args:
        results: files that `train.gradient_variance` has written.
        out: the picture to write; its suffix decides the format.
    """
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import lines, pyplot

    loaded = [json.loads(path.read_text()) for path in results]
    figure, axes = pyplot.subplots(
        len(loaded), 4, figsize=(15, 0.7 + 3.3 * len(loaded)), squeeze=False, layout="constrained"
    )
    for row, result in zip(axes, loaded, strict=True):
        chosen = result["settings"]
        title = f"{DATA[chosen['data']]}, {NETWORKS[chosen['network']]}"
        _variance(row[0], result, "initial", f"{title}: initial posterior")
        _variance(row[1], result, "trained", f"{title}: trained posterior")
        for panel, (name, label, factor) in zip(row[2:], CURVES, strict=True):
            _curves(panel, result, name, label, factor)
    drawn = {name for result in loaded for name in result["settings"]["procedures"]}
    handles = [
        lines.Line2D([], [], color=COLOURS[name], label=label)
        for name, label in LABELS.items()
        if name in drawn
    ]
    handles.append(lines.Line2D([], [], color="black", linestyle=":", label="weights alone"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lstrip(".") or "png", dpi=120)
    pyplot.close(figure)
    write_atomic(out, buffer.getvalue())


def _variance(panel: Any, result: dict[str, Any], point: str, title: str) -> None:
    for procedure in result["settings"]["procedures"]:
        rows = [
            row
            for row in result["variance"]
            if (row["procedure"], row["point"]) == (procedure, point)
        ]
        sizes = [row["batch size"] for row in rows]
        for kind, style in (("total", "o-"), ("weights", ".:")):
            values = [row["means"][kind]["value"] for row in rows]
            errors = [2 * row["means"][kind]["standard error"] for row in rows]
            if max(values) > 0:  # without noise of weights there is nothing on a logarithmic axis
                panel.errorbar(
                    sizes,
                    values,
                    errors,
                    fmt=style,
                    color=COLOURS[procedure],
                    markersize=4,
                    linewidth=1.2,
                )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlabel("batch size")
    panel.set_ylabel("variance of the gradient")
    panel.set_title(title, fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)


def _curves(panel: Any, result: dict[str, Any], name: str, label: str, factor: float) -> None:
    for run in result["runs"]:
        values = [float("nan") if v is None else factor * v for v in run["history"][name]]
        panel.plot(
            range(1, len(values) + 1), values, color=COLOURS[run["procedure"]], linewidth=1.2
        )
    panel.set_xlabel("epoch")
    panel.set_ylabel(label)
    panel.spines[["top", "right"]].set_visible(False)


def final(result: dict[str, Any], procedure: str, way: str, figure: str) -> report.Mean:
    """Mean over seeds of a figure of the tests of a procedure.

    Args:
        result: as in `result.json`.
        procedure: by which the networks were trained.
        way: "test" (moments) or "weight samples".
        figure: "error", "nll" or "ece".
    """
    runs = [run for run in result["runs"] if run["procedure"] == procedure]
    return report.over_seeds(runs, way, figure)


def cli() -> None:
    """The command line."""
    import tyro

    def arguments(results: tuple[Path, ...], /, out: Path = Path("figure.png")) -> None:
        """Draws the results of train.gradient_variance.

        Args:
            results: the files result.json to draw, one row of panels for each.
            out: the picture to write.
        """
        with commandline.drawing():
            draw(results, out)

    tyro.cli(arguments, prog="python -m train.gradient_variance.figure")


if __name__ == "__main__":
    cli()
