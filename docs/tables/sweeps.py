"""Tables of the experiments with residual and with recurrent networks of [A]."""

import math
from typing import Any

from docs.tables.parts import Parts, columns, of, of_runs, origin, picture
from train.indrnn.claims import Accuracy, accuracies
from train.indrnn.published import Log, Point, log_beside
from train.report import tables as report
from train.report.sweep_figure import history, schedule, title, updates
from train.report.tables import DATA, REGULARISERS, Result

residual = of(lambda results: report.read_all(results / "resnet", "*/result.json"))
recurrent = of(lambda results: report.read_all(results / "indrnn", "*/result.json"))


@residual
def residual_picture(measured: list[Result]) -> Parts:
    """The figures of residual networks."""
    return _pictures("resnet", "residual networks")


@recurrent
def recurrent_picture(measured: list[Result]) -> Parts:
    """The figures of recurrent networks."""
    return _pictures("indrnn", "recurrent networks")


def _pictures(experiment: str, what: str) -> Parts:
    yield picture(f"Test errors of {what} by rate", f"figures/{experiment}.svg")
    yield picture(f"Learning curves of {what}", f"figures/{experiment}_curves.svg")


def _errors(measured: list[Result]) -> Parts:
    for result in measured:
        yield from (f"{_name(result)}: {schedule(result)}.", of_runs(result), origin(result))


@residual
def residual_networks(measured: list[Result]) -> Parts:
    """Test errors of residual networks on CIFAR-10 by regulariser and rate."""
    return _errors(measured)


@recurrent
def recurrent_networks(measured: list[Result]) -> Parts:
    """Test errors of recurrent networks on sequences of pixels by regulariser and rate."""
    return _errors(measured)


def _name(result: Result) -> str:
    first, *rest = title(result).split(", ")
    return ", ".join([DATA.get(first, first), *rest])


@of(accuracies)
def recurrent_accuracies(found: list[Accuracy]) -> str:
    """Test accuracies of recurrent networks beside those of [A] and of the authors of IndRNN."""
    rows: list[Any] = [a._asdict() | {"name": REGULARISERS[a.regulariser]} for a in found]
    for row in rows:
        row |= {"told": row["ours"].told(4), "less": row["apart"].told(2, signed=True)}
    return columns(
        rows,
        "task {order} MNIST | regulariser {name} | [A] {published:.4f}",
        "authors of IndRNN {log:.4f} | ours {told} | ours − [A], points {less}",
    )


@recurrent
def recurrent_training(measured: list[Result]) -> Parts:
    """Accuracies on the way with dropout 0.1, beside the logs of the authors of IndRNN."""
    rows = []
    for result in report.merged_by_settings(measured):
        log = log_beside(result["settings"])
        runs = [r for r in result["runs"] if (r["regulariser"], r["rate"]) == ("dropout", 0.1)]
        if log is None or not runs:
            continue
        per_epoch = updates(result)
        training, validation = (1 - history(runs, f"{p}_error") for p in ("train", "validation"))
        epoch, point = _nearest(log, per_epoch, len(training))
        row = {"training": training[epoch - 1], "validation": validation[epoch - 1]}
        row["log"] = point._asdict() | {"updates": _span(point.updates, point.span)}
        row["name"] = f"{_name(result)}, {schedule(result)}"
        rows.append(row | {"updates": _span(epoch * per_epoch, per_epoch)})
    return rows and columns(
        rows,
        "with dropout 0.1 {name} | training accuracy (updates) {training:.3f} ({updates})",
        "authors of IndRNN (updates) {log[training]:.3f} ({log[updates]})",
        "validation accuracy {validation:.3f} | authors of IndRNN {log[validation]:.3f}",
    )


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
