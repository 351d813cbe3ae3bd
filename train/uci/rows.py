"""Which test rows make a cell of the regression tables bad: its last training again, row by row.

    python -m train.uci.rows FOLDER_OF_DATA results/uci/protein/*-heteroscedastic.json --out FILE

The hyperparameters are those of the cell's JSON, so nothing is searched. The same code on the same
machine makes the same bits; the result tells how far the figures are from those of the cell.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.uci import Scaled, load_table
from train.engine.checkpoint import CheckpointError
from train.report import machine, results
from train.report.files import DataFileError
from train.uci import experiment as uci
from train.uci import table as uci_table
from train.uci.settings import Config, Hyper

FAR = 10.0  # inputs of more than so many deviations from the mean of the training rows
UNSURE = 2.0  # predictions with a deviation of more than so many of the target's
LARGEST = 10  # so many errors are left out to see what few rows do


def inspected(result: dict[str, Any], data_dir: Path | None) -> dict[str, Any]:
    """A cell row by row, trained again with its hyperparameters.

    Args:
        result: the cell's.
        data_dir: the folder with its table.

    Raises:
        CheckpointError: the cell was made by another recipe than today's.
    """
    made, cell = result["settings"], uci_table.name_of(result)
    table = load_table(cell.data, data_dir)
    given = ("splits", "seed", "samples", "hidden", "epochs")
    config = Config(**{name: made[name] for name in given})
    uci.same_settings("the cell", made, uci.settings(config, cell, table))
    problem = uci.problem(config, cell, table)
    chosen = [Hyper(**split["hyperparameters"]) for split in result["splits"]]
    hyper = Hyper(*map(np.array, zip(*chosen, strict=True)))
    scores = problem.scored(problem.trained(made["epochs"], hyper), hyper, problem.test)
    numbers = np.stack([np.asarray(values, np.float64) for values in scores[:3]], 1)
    parts = zip(problem.splits, numbers, table.test, strict=False)
    found = [described(*each) for each in parts]
    for split, before in zip(found, result["splits"], strict=True):
        split["distance"] = abs(split["rmse"] / before["rmse"] - 1)
    return {**cell._asdict(), "cell's commit": result["commit"], "splits": found}


def described(split: Scaled, numbers: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """What the test rows of a split contribute to its figures.

    Args:
        split: the data.
        numbers: mean, deviation and NLL of each test row, float[3, test rows], in scaled units.
        rows: their numbers in the table.
    """
    mean, deviation, nll = numbers
    errors = (mean - split.test_y) ** 2
    unsure = deviation > UNSURE
    size, training_size = (np.abs(x).max(1) for x in (split.test_x, split.train_x))
    worst = int(nll.argmax())

    def likelihood(nlls: np.ndarray) -> float:
        return float(-nlls.mean() - math.log(split.scale))

    def rmse(squares: np.ndarray) -> float:
        return float(np.sqrt(squares.mean()) * split.scale)

    return {
        "rmse": rmse(errors),
        "log likelihood": likelihood(nll),
        "without the worst row": likelihood(np.delete(nll, worst)),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path, help="the folder with the tables' files")
    parser.add_argument("cells", type=Path, nargs="+", help="results of train.uci")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = parser.parse_args(arguments)
    try:
        found = []
        for result in map(uci_table.read, chosen.cells):
            found.append(inspected(result, chosen.data_dir))
            print(json.dumps(found[-1]), flush=True)
    except (DataFileError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    made = {
        "experiment": "rows of regression cells",
        "command": f"python -m train.uci.rows {' '.join(arguments)}",
        "commit": machine.commit(),
        "machine": machine.identity("vmap"),
        "cells": found,
    }
    results.write(chosen.out, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
