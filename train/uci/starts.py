"""Where trainings of a posterior end from different starts: its bound, beside its predictions.

    python -m train.uci --starts --data-dir FOLDER --methods moments_adam --splits 5

A start that ends with worse predictions is one of three things. If its bound is lower as well, its
end is a poor optimum. If the same training twice as long makes up for half of it, it converges
slowly. Else the bound prefers the worse prediction. Everything is judged on validation rows; the
test rows are not touched.

**Left behind** in `--out`: `starts-NAME.json` for each table and noise, and `starts.md`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from train.data.uci import FILES, Table, scaled
from train.report import machine, results
from train.report.files import write_atomic
from train.report.statistics import Mean, mean, paired
from train.uci import experiment as uci
from train.uci.settings import CANDIDATES, VALIDATION, Cell, Config, cells, recipe
from train.uci.training import Scores, bounds, scorer, trainer

RECIPE, FULL, LONGER = "recipe", "full cost at once", "full cost at once, twice as long"
# What is changed in the first candidate, and how many times as long the training is.
STARTS: dict[str, tuple[dict[str, float], int]] = {
    RECIPE: ({}, 1),
    # The cost rises as in the recipe; then as many steps follow at its full size.
    "recipe, then as long again": ({"warm_up": 0.45}, 2),
    FULL: ({"warm_up": 0.0}, 1),
    LONGER: ({"warm_up": 0.0}, 2),
    "full cost at once, small noise": ({"warm_up": 0.0, "first_noise": -4.6}, 1),
}
FIGURES = ("bound", "log likelihood", "rmse", "coverage")


def main(config: Config, tables: Mapping[str, Table], command: str, console: Any) -> list[Any]:
    """Trains every start of every table, and writes what came of it.

    Args:
        config: the settings; of the methods, those by moments.
        tables: the data by name.
        command: what was typed.
        console: to tell progress on.
    """
    say, made = results.said_on(console), []
    for cell in cells(config):
        if not cell.method.startswith("moments"):
            continue
        made.append(run(config, cell, tables[cell.data], command))
        results.write(config.out / f"starts-{cell.data}-{cell.method}-{cell.noise}.json", made[-1])
        say(" | ".join(line(made[-1])))
    write_atomic(config.out / "starts.md", markdown(made).encode())
    return made


def run(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """All starts of a table, with the figures of each split.

    Args:
        config: the settings.
        cell: which entry of the tables.
        table: its data.
        command: what was typed.
    """
    made = uci.settings(config, cell, table)
    splits = [scaled(table, split) for split in range(made["splits"])]
    given = uci.problem(config, cell, splits)
    shape, keys = given.shape, given.keys
    rows = given.x.shape[1]
    fit = rows - max(rows // VALIDATION, 1)
    x, y, held_x, held_y = (
        part
        for cut in (slice(fit), slice(fit, rows))
        for part in (given.x[:, cut], given.y[:, cut])
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (change, times) in STARTS.items():
        hyper = given.same(CANDIDATES[cell.method][0]._replace(**change))
        epochs = times * recipe(config, cell.data).epochs
        params = trainer(shape)(epochs, keys, hyper, given.number(fit), x, y)
        ends = np.asarray(bounds(shape)(params, keys, hyper, x, y))
        scores = jax.tree.map(np.asarray, scorer(shape)(params, keys, hyper, held_x, held_y))
        found[name] = [
            {
                "bound": float(ends[i]),
                **uci.figures(split, Scores(*(values[i] for values in scores)), held_y[i]),
            }
            for i, split in enumerate(splits)
        ]
    return {
        **results.origin(
            "starts of regression",
            "[B] 4.2, Table 2",
            command=command,
            identity=machine.identity("vmap"),
            data=table.source if cell.data == "diabetes" else FILES[cell.data],
            settings=made,
        ),
        "starts": found,
    }


def over_splits(result: Mapping[str, Any], start: str, figure: str) -> Mean:
    """A figure of a start; a split's that is not finite makes it not a number."""
    return mean([_number(split[figure]) for split in result["starts"][start]])


def gain(result: Mapping[str, Any], one: str, other: str, figure: str) -> Mean:
    """By how much a figure of a start is above another's, split by split."""
    return paired(
        *(
            {i: _number(split[figure]) for i, split in enumerate(result["starts"][start])}
            for start in (one, other)
        )
    )


def verdict(result: Mapping[str, Any]) -> str:
    """What is wrong with the training that pays its full cost from the first step."""
    better = gain(result, RECIPE, FULL, "log likelihood")
    if better.sign <= 0:
        return "no difference that counts"
    if gain(result, RECIPE, FULL, "bound").sign > 0:
        return "a poor optimum"
    if gain(result, LONGER, FULL, "log likelihood").value > better.value / 2:
        return "slow convergence"
    return "the bound prefers the worse prediction"


def line(result: Mapping[str, Any]) -> list[str]:
    """A row of the table: the bound and the log-likelihood of each start, and the verdict."""
    return [
        f"{result['settings']['data']}, {result['settings']['noise']}",
        *(
            f"{over_splits(result, start, 'bound').value:.3f}, "
            f"{over_splits(result, start, 'log likelihood').value:.3f}, "
            f"{over_splits(result, start, 'rmse').value:.4g}"
            for start in STARTS
        ),
        verdict(result),
    ]


def markdown(made: Sequence[Mapping[str, Any]]) -> str:
    """The table of all results."""
    head = ["data", *STARTS, f"what is wrong with {FULL}"]
    rows = [head, ["---"] * len(head), *map(line, made)]
    return (
        "Bound of a training row at the end (scaled units), log-likelihood and RMSE of validation "
        "rows, means over splits:\n\n"
    ) + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
