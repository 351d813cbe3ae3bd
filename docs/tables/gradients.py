"""Tables of the experiment on the variance of gradients."""

from typing import Any

from docs.tables.parts import Parts, columns, from_each, of, origin, picture, table
from train.gradient_variance.figure import GROUPS, NETWORKS, variance_grids
from train.report.statistics import Mean
from train.report.tables import DATA, Result, over_seeds

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


@of(lambda results: [*results.glob(FILES)])
def gradient_picture(files: list[Any]) -> str:
    """The figure of the experiment, where it was measured."""
    return picture("Variance of gradients and learning curves", "../figures/gradient_variance.svg")


@from_each(FILES)
def gradient_variance(result: Result) -> Parts:
    """Variances of gradients by batch size, due to batch and weights, and to the weights alone."""
    grids = variance_grids(result, PROCEDURES)
    for title, grid in zip(GROUPS.values(), grids, strict=True):
        title = f"{_setting(result)}; gradient with respect to the {title}"
        yield grid._replace(title=title, names=len(grid.head))
    yield origin(result)


@from_each(FILES)
def gradient_bias(result: Result) -> Parts:
    """Distances of expected gradients from the exact one, relative to its norm."""
    rows = {name: [PROCEDURES[name]] for name in result["settings"]["procedures"]}
    for row in result["bias"]:
        rows[row["procedure"]] += [_distance(row[group]) for group in GROUPS]
    headings = [f"{point}, {group}" for point in POINTS for group in GROUPS.values()]
    title = f"{_setting(result)}, one batch of {result['settings']['batch_size']}:"
    return [title, table(["procedure", *headings], [*rows.values()])]


@from_each(FILES)
def gradient_cost(result: Result) -> str:
    """Times of a gradient."""
    plain = {row["procedure"]: row["fastest milliseconds"] for row in result["cost"]}.get("plain")
    for row in result["cost"]:
        row["ratio"] = plain and row["fastest milliseconds"] / plain
        row["name"] = PROCEDURES[row["procedure"]]
    figures = columns(
        result["cost"],
        "procedure {name} | ms, fastest round {fastest milliseconds:.2f}",
        "relative to plain {ratio:.1f} | ms, median {milliseconds:.2f}",
    )
    return f"{_setting(result)}, batch {result['settings']['batch_size']}:\n\n{figures}"


@from_each(FILES)
def learning_curves(result: Result) -> str:
    """What training by each procedure led to, by the same recipe."""
    rows = []
    for procedure in result["settings"]["procedures"]:
        runs = [run for run in result["runs"] if run["procedure"] == procedure]
        curve = runs[0]["history"]["validation_loss"]
        row = {"name": PROCEDURES[procedure], "first": curve[0], "last": curve[-1]}
        for way in ("test", "weight samples"):
            row[f"{way} nll"] = over_seeds(runs, way, "nll").told(4)
            row[f"{way} error"] = over_seeds(runs, way, "error").told(2, 100)
        rows.append(row)
    epochs, seeds = result["settings"]["epochs"], len(result["settings"]["seeds"])
    figures = columns(
        rows,
        "trained by {name} | validation NLL, epoch 1 {first:.4f}",
        f"epoch {epochs} {{last:.4f}} | test NLL {{test nll}} | error % {{test error}}",
        "NLL, averaged {weight samples nll} | error %, averaged {weight samples error}",
    )
    return f"{_setting(result)}, {seeds} seed{'s' if seeds > 1 else ''}:\n\n{figures}"


def _distance(found: dict[str, Any]) -> str:
    """A relative distance in percent; what its interval cannot tell from 0 as a bound."""
    difference, reference = found["difference"], found["reference"]["value"]
    squared = Mean(difference["value"], difference["standard error"], ESTIMATES)
    _, high = squared.interval
    counts = squared.sign > 0
    root = 100 * ((squared.value if counts else max(high, 0)) / reference) ** 0.5
    return f"{root:.1f} %" if counts else f"< {root:.1f} %"


def _setting(result: Result) -> str:
    chosen, sizes = result["settings"], result["sizes"]
    hidden = f", {chosen['hidden']} nodes a layer" if chosen["hidden"] else ""
    return (
        f"{DATA[chosen['data']]}, {sizes['training images']} training images, "
        f"{NETWORKS[chosen['network']]} network{hidden}, "
        f"{sizes['uncertain weights']} uncertain weights"
    )
