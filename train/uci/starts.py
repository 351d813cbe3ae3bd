"""Where trainings of a posterior end from different starts: its bound, beside its predictions.

    python -m train.uci --starts --data-dir FOLDER --methods moments_adam --splits 5

A start that ends with worse predictions is one of three things. If its bound stays lower, where
both trainings go on for as long again, its end is a poor optimum. If twice the training makes up
for half of it, it converges slowly. Else the bound prefers the worse prediction. Everything is
judged on validation rows; the test rows are not touched.

**Left behind** in `--out`: `starts-NAME.json` for each table and noise, and `starts.md`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from train.data.uci import Table, scaled
from train.report import results
from train.report.files import write_atomic
from train.report.statistics import Mean, mean, paired
from train.report.tables import Grid
from train.uci import experiment as uci
from train.uci.settings import CANDIDATES, VALIDATION, Cell, Config, cells, recipe
from train.uci.training import Scores, at_once, bound, scored, trained

RECIPE, SETTLED = "recipe", "recipe, then as long again"
FULL, LONGER = "full cost at once", "full cost at once, twice as long"
# What is changed in the first candidate, and how many times as long the training is.
STARTS: dict[str, tuple[dict[str, float], int]] = {
    RECIPE: ({}, 1),
    # The cost rises as in the recipe; then as many steps follow at its full size.
    SETTLED: ({"warm_up": 0.45}, 2),
    FULL: ({"warm_up": 0.0}, 1),
    LONGER: ({"warm_up": 0.0}, 2),
    "full cost at once, small noise": ({"warm_up": 0.0, "first_noise": -4.6}, 1),
}


def main(config: Config, tables: Mapping[str, Table], command: str, console: Any) -> list[Any]:
    """Trains every start of every table by the methods with moments; tells and writes the rest."""
    made: list[Any] = []
    for cell in cells(config):
        if cell.method.startswith("moments"):
            made.append(run(config, cell, tables[cell.data], command))
            name = f"starts-{cell.data}-{cell.method}-{cell.noise}.json"
            results.write(config.out / name, made[-1])
            results.said_on(console)(" | ".join(line(made[-1])))
    write_atomic(config.out / "starts.md", f"{table(made).titled()}\n".encode())
    return made


def run(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """All starts of a table, with the figures of each split: what its JSON says."""
    splits = [scaled(table, split) for split in range(config.splits or len(table.train))]
    given = uci.problem(config, cell, splits)
    shape, keys, rows = given.shape, given.keys, given.x.shape[1]
    fit = rows - max(rows // VALIDATION, 1)
    x, y, held_x, held_y = given.x[:, :fit], given.y[:, :fit], given.x[:, fit:], given.y[:, fit:]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (change, times) in STARTS.items():
        hyper = given.same(CANDIDATES[cell.method][0]._replace(**change))
        epochs = times * recipe(config, cell.data).epochs
        params = at_once(trained, shape)(epochs, keys, hyper, given.number(fit), x, y)
        ends = np.asarray(at_once(bound, shape)(params, keys, hyper, x, y))
        scores = jax.tree.map(
            np.asarray, at_once(scored, shape)(params, keys, hyper, held_x, held_y)
        )
        each = [Scores(*(values[i] for values in scores)) for i in range(len(splits))]
        found[name] = [
            {"bound": float(end), **uci.figures(*split)}
            for end, split in zip(ends, zip(splits, each, held_y, strict=True), strict=True)
        ]
    return {**uci.origin("starts of regression", config, cell, table, command), "starts": found}


def figures(result: Mapping[str, Any], start: str, figure: str) -> dict[Any, float]:
    """A figure of a start by split; what was not finite is not a number."""
    values = (split[figure] for split in result["starts"][start])
    return {i: math.nan if value is None else value for i, value in enumerate(values)}


def verdict(result: Mapping[str, Any]) -> str:
    """What is wrong with the training that pays its full cost from the first step."""

    def gain(one: str, other: str, figure: str) -> Mean:
        return paired(figures(result, one, figure), figures(result, other, figure))

    better = gain(RECIPE, FULL, "log likelihood")
    if better.sign <= 0:
        return "no difference that counts"
    if gain(SETTLED, LONGER, "bound").sign > 0:
        return "a poor optimum"
    if gain(LONGER, FULL, "log likelihood").value > better.value / 2:
        return "slow convergence"
    return "the bound prefers the worse prediction"


def line(result: Mapping[str, Any]) -> list[str]:
    """A row of the table: bound, log-likelihood and RMSE of each start, and the verdict."""

    def average(start: str, figure: str) -> float:
        return mean(list(figures(result, start, figure).values())).value

    cells = [
        f"{average(start, 'bound'):.3f}, {average(start, 'log likelihood'):.3f}, "
        f"{average(start, 'rmse'):.4g}"
        for start in STARTS
    ]
    made = result["settings"]
    return [f"{made['data']}, {made['noise']}", *cells, verdict(result)]


def table(made: Sequence[Mapping[str, Any]]) -> Grid:
    """The table of all results."""
    return Grid(
        "Bound of a training row at the end (scaled units), log-likelihood and RMSE of validation "
        "rows, means over splits",
        ["data", *STARTS, f"what is wrong with {FULL}"],
        [line(result) for result in made],
    )
