"""Tables of the experiment on the variance of gradients."""

import pathlib
from typing import Any

from docs.tables.parts import DATA, NOT_MEASURED, from_each, mean, origin, table

FILES = "gradient_variance/**/result.json"
NETWORKS = {"dense": "dense", "small_vgg": "small VGG", "vgg16": "VGG16"}
PROCEDURES = {
    "moments": "moments (`deterministic`)",
    "local": "`local_reparameterization`",
    "flipout": "`flipout`",
    "weights": "`weight_sample`",
    "plain": "plain network at the means",
}


def gradient_picture(results: pathlib.Path) -> str:
    """The figure of the experiment, where it was measured."""
    if not any(results.glob(FILES)):
        return NOT_MEASURED
    return "![Variance of gradients and learning curves](../figures/gradient_variance.svg)"


@from_each(FILES)
def gradient_variance(result: dict[str, Any]) -> str:
    """Variances of gradients by batch size, due to batch and weights, and to the weights alone."""
    parts = []
    sizes = result["settings"]["batch_sizes"]
    headings = ["posterior", "procedure", *(f"batch {size}" for size in sizes)]
    for group, title in (("means", "the means"), ("log variances", "the log-variances")):
        found = {
            (row["point"], row["procedure"], row["batch size"]): row[group]
            for row in result["variance"]
        }
        rows = [
            [point, PROCEDURES[procedure]]
            + [_with_part(found[point, procedure, size]) for size in sizes]
            for point in ("initial", "trained")
            for procedure in result["settings"]["procedures"]
            if group == "means" or procedure != "plain"
        ]
        parts.append(f"{_setting(result)}; gradient with respect to {title}:")
        parts.append(table(headings, rows))
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
            for group in ("means", "log variances")
        ]
        rows.append([PROCEDURES[procedure], *cells])
    headings = ["procedure"] + [
        f"{point}, {group}"
        for point in ("initial", "trained")
        for group in ("means", "log-variances")
    ]
    batch = result["settings"]["batch_size"]
    return f"{_setting(result)}, one batch of {batch}:\n\n{table(headings, rows)}"


@from_each(FILES)
def gradient_cost(result: dict[str, Any]) -> str:
    """Times of a gradient."""
    times = {row["procedure"]: row for row in result["cost"]}
    plain = times.get("plain", {}).get("fastest milliseconds")
    rows = [
        [
            PROCEDURES[name],
            f"{row['fastest milliseconds']:.2f}",
            f"{row['fastest milliseconds'] / plain:.1f}" if plain else "-",
            f"{row['milliseconds']:.2f}",
        ]
        for name, row in times.items()
    ]
    headings = ["procedure", "ms, fastest round", "relative to plain", "ms, median"]
    batch = result["settings"]["batch_size"]
    return f"{_setting(result)}, batch {batch}:\n\n{table(headings, rows)}"


@from_each(FILES)
def learning_curves(result: dict[str, Any]) -> str:
    """What training by each procedure led to, by the same recipe."""
    rows = []
    for procedure in result["settings"]["procedures"]:
        runs = [run for run in result["runs"] if run["procedure"] == procedure]
        curve = runs[0]["history"]["validation_loss"]
        rows.append(
            [
                PROCEDURES[procedure],
                *("-" if curve[k] is None else f"{curve[k]:.4f}" for k in (0, -1)),
                mean(runs, "test", "nll", 1, 4),
                mean(runs, "test", "error", 100, 2),
                mean(runs, "weight samples", "nll", 1, 4),
                mean(runs, "weight samples", "error", 100, 2),
            ]
        )
    epochs = result["settings"]["epochs"]
    headings = ["trained by", "validation NLL, epoch 1", f"epoch {epochs}", "test NLL"]
    headings += ["error %", "NLL, averaged", "error %, averaged"]
    seeds = len(result["settings"]["seeds"])
    told = f"{_setting(result)}, {seeds} seed{'s' if seeds > 1 else ''}"
    return f"{told}:\n\n{table(headings, rows)}"


def _with_part(found: dict[str, Any]) -> str:
    total, own = found["total"], found["weights"]
    relative = 100 * total["standard error"] / total["value"] if total["value"] else 0
    part = f"{own['value']:.2g}" if own["value"] else "0"
    return f"{total['value']:.2g} ± {relative:.0f} % ({part})"


def _distance(found: dict[str, Any]) -> str:
    """A relative distance in percent; what noise cannot tell from 0 as a bound.

    Errors are those of eight estimates, and a table has a dozen that may be 0: hence four of them.
    """
    value, error = (found["difference"][k] for k in ("value", "standard error"))
    reference = found["reference"]["value"]
    if value > 4 * error:
        return f"{100 * (value / reference) ** 0.5:.1f} %"
    return f"< {100 * ((max(value, 0) + 2 * error) / reference) ** 0.5:.1f} %"


def _setting(result: dict[str, Any]) -> str:
    chosen, sizes = result["settings"], result["sizes"]
    hidden = f", {chosen['hidden']} nodes a layer" if chosen["hidden"] else ""
    return (
        f"{DATA[chosen['data']]}, {sizes['training images']} training images, "
        f"{NETWORKS[chosen['network']]} network{hidden}, "
        f"{sizes['uncertain weights']} uncertain weights"
    )


TABLES = [gradient_picture, gradient_variance, gradient_bias, gradient_cost, learning_curves]
