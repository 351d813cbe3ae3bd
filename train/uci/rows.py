"""Which test rows make a cell of the regression tables bad: its last training again, row by row.

    python -m train.uci --trial rows --data-dir FOLDER --methods moments_adam --out results/uci

The hyperparameters are those of the cell's JSON in `--out`, so nothing is searched. The same code
on the same machine makes the same bits; the result tells how far the figures are from the cell's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.data.uci import Scaled, Table
from train.report import results
from train.report.tables import Grid
from train.uci import experiment as uci
from train.uci import table as uci_table
from train.uci.methods import METHODS
from train.uci.settings import Cell, Config, Hyper

FAR = 10.0  # inputs of more than so many deviations from the mean of the training rows
UNSURE = 2.0  # predictions with a deviation of more than so many of the target's
LARGEST = 10  # so many errors are left out to see what few rows do


def run(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """A cell row by row, trained again with its hyperparameters: what its JSON says. One of another
    recipe than today's is refused."""
    path = config.out / cell.file
    before = uci_table.read(path)
    results.same_settings(path, before, uci.settings(config, cell, table))
    given = uci.problem(config, cell, table)
    chosen = [Hyper(**split["hyperparameters"]) for split in before["splits"]]
    hyper = Hyper(*map(np.array, zip(*chosen, strict=True)))
    params = given.trained(before["settings"]["epochs"], hyper)
    scores = given.scored(params, hyper, given.test)
    numbers = np.stack([np.asarray(values, np.float64) for values in scores[:3]], 1)
    found = [described(*each) for each in zip(given.splits, numbers, table.test, strict=False)]
    for split, other in zip(found, before["splits"], strict=True):
        split["distance"] = abs(split["rmse"] / other["rmse"] - 1)
    told = {**cell._asdict(), "cell's commit": before["commit"], "splits": found}
    return {**uci.origin("rows of regression cells", config, cell, table, command), "cells": [told]}


def described(split: Scaled, numbers: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """What the test rows of a split, with these numbers in the table, contribute to its figures;
    from their means, deviations and NLLs, float[3, test rows], in scaled units."""
    mean, deviation, nll = numbers
    errors = (mean - split.test_y) ** 2
    unsure = deviation > UNSURE
    size, training_size = (np.abs(x).max(1) for x in (split.test_x, split.train_x))
    worst, unit = int(nll.argmax()), math.log(split.scale)

    def rmse(squares: np.ndarray) -> float:
        return float(np.sqrt(squares.mean()) * split.scale)

    return {
        "rmse": rmse(errors),
        "log likelihood": float(-nll.mean() - unit),
        "without the worst row": float(-np.delete(nll, worst).mean() - unit),
        "worst row": {
            "number": int(rows[worst]),
            "nll": float(nll[worst]),
            "predicted deviation": float(deviation[worst]),
            "error": float(errors[worst] ** 0.5),
            "largest input": float(size[worst]),
            "column": int(np.abs(split.test_x[worst]).argmax()),
        },
        "test rows": len(nll),
        "rmse without the largest errors": rmse(np.sort(errors)[:-LARGEST]),
        "unsure rows": int(unsure.sum()),
        "rmse without unsure rows": rmse(errors[~unsure]),
        "far test rows": int((size > FAR).sum()),
        "training rows": len(split.train_x),
        "far training rows": int((training_size > FAR).sum()),
    }


def grid(made: Sequence[Mapping[str, Any]]) -> Grid:
    """The table of all splits."""
    columns = {
        "method": "{method}",
        "split": "{number}",
        "RMSE": "{rmse:.2f}",
        "without the ten largest errors": "{rmse without the largest errors:.2f}",
        "without unsure rows (their number)": "{rmse without unsure rows:.2f} ({unsure rows})",
        "LL": "{log likelihood:.2f}",
        "without its worst row": "{without the worst row:.2f}",
        "that row's error": "{worst row[error]:.1f}",
        "its predicted deviation": "{worst row[predicted deviation]:.2g}",
        "its largest input (column)": "{worst row[largest input]:.1f} ({column})",
    }
    splits = [
        {**split, "method": METHODS[cell["method"]].title, "number": number}
        | {"column": split["worst row"]["column"] + 1}
        for result in made
        for cell in result["cells"]
        for number, split in enumerate(cell["splits"], 1)
    ]
    lines = [[template.format_map(split) for template in columns.values()] for split in splits]
    return Grid("Test rows that make a split bad", list(columns), lines, names=2)
