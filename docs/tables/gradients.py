"""Tables of the experiment on the variance of gradients."""

import pathlib
from typing import Any

from docs.tables.parts import NOT_MEASURED, columns, from_each, origin, picture, shown, table
from train.gradient_variance.figure import GROUPS, NETWORKS, variance_grids
from train.report.statistics import Mean
from train.report.tables import DATA, over_seeds

FILES = "gradient_variance/**/result.json"
PROCEDURES = {
    "moments": "moments (`deterministic`)",
    "local": "`local_reparameterization`",
    "flipout": "`flipout`",
    "weights": "`weight_sample`",
    "plain": "plain network at the means",
}
POINTS = ("initial", "trained")
ESTIMATES = 8  # of each bias, from which its error comes


@shown
def gradient_picture(results: pathlib.Path) -> str:
    """The figure of the experiment, where it was measured."""
    told = "Variance of gradients and learning curves"
    made = picture(told, "../figures/gradient_variance.svg")
    return made if any(results.glob(FILES)) else NOT_MEASURED


@from_each(FILES)
def gradient_variance(result: dict[str, Any]) -> str:
    """Variances of gradients by batch size, due to batch and weights, and to the weights alone."""
    grids = [grid._replace(names=len(grid.head)) for grid in variance_grids(result, PROCEDURES)]
    parts = [
        f"{_setting(result)}; gradient with respect to the {title}:\n\n{grid.markdown()}"
        for title, grid in zip(GROUPS.values(), grids, strict=True)
    ]
    return "\n\n".join([*parts, origin(result)])


@from_each(FILES)
def gradient_bias(result: dict[str, Any]) -> str:
    """Distances of expected gradients from the exact one, relative to its norm."""
    rows = []
    for procedure in result["settings"]["procedures"]:
        cells = [
            _distance(row[group])
            for row in result["bias"]
            if row["procedure"] == procedure
            for group in GROUPS
        ]
        rows.append([PROCEDURES[procedure], *cells])
    headings = [f"{point}, {group}" for point in POINTS for group in GROUPS.values()]
    batch = result["settings"]["batch_size"]
    return f"{_setting(result)}, one batch of {batch}:\n\n{table(['procedure', *headings], rows)}"


@from_each(FILES)
def gradient_cost(result: dict[str, Any]) -> str:
    """Times of a gradient."""
    plain = {row["procedure"]: row["fastest milliseconds"] for row in result["cost"]}.get("plain")
    rows = [
        row
        | {
            "name": PROCEDURES[row["procedure"]],
            "ratio": row["fastest milliseconds"] / plain if plain else None,
        }
        for row in result["cost"]
    ]
    figures = columns(
        rows,
        "procedure {name} | ms, fastest round {fastest milliseconds:.2f}",
        "relative to plain {ratio:.1f} | ms, median {milliseconds:.2f}",
    )
    return f"{_setting(result)}, batch {result['settings']['batch_size']}:\n\n{figures}"


@from_each(FILES)
def learning_curves(result: dict[str, Any]) -> str:
    """What training by each procedure led to, by the same recipe."""
    rows = []
    for procedure in result["settings"]["procedures"]:
        runs = [run for run in result["runs"] if run["procedure"] == procedure]
        curve = runs[0]["history"]["validation_loss"]
        rows.append(
            [PROCEDURES[procedure]]
            + ["-" if curve[k] is None else f"{curve[k]:.4f}" for k in (0, -1)]
            + [
                over_seeds(runs, way, figure).told(digits, factor)
                for way in ("test", "weight samples")
                for figure, digits, factor in (("nll", 4, 1), ("error", 2, 100))
            ]
        )
    epochs = result["settings"]["epochs"]
    headings = ["trained by", "validation NLL, epoch 1", f"epoch {epochs}", "test NLL"]
    headings += ["error %", "NLL, averaged", "error %, averaged"]
    seeds = len(result["settings"]["seeds"])
    told = f"{_setting(result)}, {seeds} seed{'s' if seeds > 1 else ''}"
    return f"{told}:\n\n{table(headings, rows)}"


def _distance(found: dict[str, Any]) -> str:
    """A relative distance in percent; what its interval cannot tell from 0 as a bound."""
    difference, reference = found["difference"], found["reference"]["value"]
    squared = Mean(difference["value"], difference["standard error"], ESTIMATES)
    _, high = squared.interval
    counts = squared.sign > 0
    root = 100 * ((squared.value if counts else max(high, 0)) / reference) ** 0.5
    return f"{root:.1f} %" if counts else f"< {root:.1f} %"


def _setting(result: dict[str, Any]) -> str:
    chosen, sizes = result["settings"], result["sizes"]
    hidden = f", {chosen['hidden']} nodes a layer" if chosen["hidden"] else ""
    return (
        f"{DATA[chosen['data']]}, {sizes['training images']} training images, "
        f"{NETWORKS[chosen['network']]} network{hidden}, "
        f"{sizes['uncertain weights']} uncertain weights"
    )
