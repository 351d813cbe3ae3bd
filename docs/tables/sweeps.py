"""Tables of the experiments with residual and with recurrent networks of [A]."""

import json
import pathlib
from typing import Any

from docs.tables.parts import DATA, NOT_MEASURED, mean, origin, table
from train import report
from train.sweep_figure import title

REGULARISERS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}


def residual_networks(results: pathlib.Path) -> str:
    """Test errors of residual networks on CIFAR-10 by regulariser and rate."""
    return _errors(results, "resnet")


def recurrent_networks(results: pathlib.Path) -> str:
    """Test errors of recurrent networks on sequences of pixels by regulariser and rate."""
    return _errors(results, "indrnn")


def _errors(results: pathlib.Path, experiment: str) -> str:
    found = [json.loads(p.read_text()) for p in sorted(results.glob(f"{experiment}/*/result.json"))]
    return "\n\n".join(map(_of_one, found)) or NOT_MEASURED


def _of_one(result: dict[str, Any]) -> str:
    images = result["settings"].get("images")
    epochs = sorted({run["epochs"] for run in result["runs"]})
    rows = [
        [
            REGULARISERS[regulariser],
            "" if regulariser == "none" else rate,
            mean(runs, "test", "error", 100, 2),
            mean(runs, "test", "nll", 1, 3),
            str(len(runs)),
        ]
        for regulariser, rate, runs in report.rows(result)
    ]
    parts = title(result).split(", ")
    name = ", ".join([DATA.get(parts[0], parts[0]), *parts[1:]])
    trained = f"{images or 'all'} training images, {'-'.join(map(str, epochs))} epochs"
    headings = ["regulariser", "rate", "test error %", "NLL", "seeds"]
    return f"{name}: {trained}.\n\n{table(headings, rows)}\n\n{origin(result)}"


TABLES = [residual_networks, recurrent_networks]
