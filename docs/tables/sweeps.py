"""Tables of the experiments with residual and with recurrent networks of [A]."""

import json
import math
import pathlib
from typing import Any

from docs.tables.parts import DATA, NOT_MEASURED, mean, origin, table
from train.indrnn.published import Log, Point, log_beside
from train.report import tables as report
from train.report.sweep_figure import history, schedule, title, updates

REGULARISERS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}


def residual_picture(results: pathlib.Path) -> str:
    """The figures of residual networks."""
    return _pictures(results, "resnet", "residual networks")


def recurrent_picture(results: pathlib.Path) -> str:
    """The figures of recurrent networks."""
    return _pictures(results, "indrnn", "recurrent networks")


def residual_networks(results: pathlib.Path) -> str:
    """Test errors of residual networks on CIFAR-10 by regulariser and rate."""
    return _errors(results, "resnet")


def recurrent_networks(results: pathlib.Path) -> str:
    """Test errors of recurrent networks on sequences of pixels by regulariser and rate."""
    return _errors(results, "indrnn")


def recurrent_training(results: pathlib.Path) -> str:
    """Accuracies on the way with dropout 0.1, beside the logs of the authors of IndRNN."""
    rows = []
    for result in report.merged_by_settings(_read(results, "indrnn")):
        log = log_beside(result["settings"])
        runs = [r for r in result["runs"] if (r["regulariser"], r["rate"]) == ("dropout", 0.1)]
        if log is None or not runs:
            continue
        per_epoch = updates(result)
        training, validation = (1 - history(runs, f"{p}_error") for p in ("train", "validation"))
        epoch, point = _nearest(log, per_epoch, len(training))
        rows.append(
            [
                f"{_name(result)}, {schedule(result)}",
                f"{training[epoch - 1]:.3f} ({_span(epoch * per_epoch, per_epoch)})",
                f"{point.training:.3f} ({_span(point.updates, point.span)})",
                f"{validation[epoch - 1]:.3f}",
                "-" if point.validation is None else f"{point.validation:.3f}",
            ]
        )
    headings = ["with dropout 0.1", "training accuracy (updates)", "authors of IndRNN (updates)"]
    headings += ["validation accuracy", "authors of IndRNN"]
    return table(headings, rows) if rows else NOT_MEASURED


def _nearest(log: Log, per_epoch: int, epochs: int) -> tuple[int, Point]:
    """The epoch and the logged point whose numbers of updates are nearest to each other; of
    equals those whose means span the same, then the last."""

    def apart(pair: tuple[int, Point]) -> tuple[float, float, int]:
        epoch, point = pair
        updates_apart = abs(math.log(epoch * per_epoch / point.updates))
        return round(updates_apart, 9), abs(math.log(point.span / per_epoch)), -epoch

    return min(((e, p) for e in range(1, epochs + 1) for p in log.points), key=apart)


def _span(last: int, span: int) -> str:
    return f"{last - span + 1:,}-{last:,}"


def _read(results: pathlib.Path, experiment: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(results.glob(f"{experiment}/*/result.json"))]


def _pictures(results: pathlib.Path, experiment: str, what: str) -> str:
    """The pictures that docs/figures/sweeps.py draws."""
    if not _read(results, experiment):
        return NOT_MEASURED
    return (
        f"![Test errors of {what} by rate](figures/{experiment}.svg)\n\n"
        f"![Learning curves of {what}](figures/{experiment}_curves.svg)"
    )


def _errors(results: pathlib.Path, experiment: str) -> str:
    return "\n\n".join(map(_of_one, _read(results, experiment))) or NOT_MEASURED


def _of_one(result: dict[str, Any]) -> str:
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
    headings = ["regulariser", "rate", "test error %", "NLL", "seeds"]
    return f"{_name(result)}: {schedule(result)}.\n\n{table(headings, rows)}\n\n{origin(result)}"


def _name(result: dict[str, Any]) -> str:
    parts = title(result).split(", ")
    return ", ".join([DATA.get(parts[0], parts[0]), *parts[1:]])


TABLES = [
    residual_picture,
    recurrent_picture,
    residual_networks,
    recurrent_networks,
    recurrent_training,
]
