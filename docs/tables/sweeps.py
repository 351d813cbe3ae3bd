"""Tables of the experiments with residual and with recurrent networks of [A]."""

import math
import pathlib

from docs.tables.parts import NOT_MEASURED, columns, of_runs, origin, picture, shown, table
from train.indrnn.claims import accuracies
from train.indrnn.published import Log, Point, log_beside
from train.report import tables as report
from train.report.sweep_figure import history, schedule, title, updates
from train.report.tables import DATA, REGULARISERS, Result


@shown
def residual_picture(results: pathlib.Path) -> str:
    """The figures of residual networks."""
    return _pictures(results, "resnet", "residual networks")


@shown
def recurrent_picture(results: pathlib.Path) -> str:
    """The figures of recurrent networks."""
    return _pictures(results, "indrnn", "recurrent networks")


@shown
def residual_networks(results: pathlib.Path) -> str:
    """Test errors of residual networks on CIFAR-10 by regulariser and rate."""
    return _errors(results, "resnet")


@shown
def recurrent_networks(results: pathlib.Path) -> str:
    """Test errors of recurrent networks on sequences of pixels by regulariser and rate."""
    return _errors(results, "indrnn")


@shown
def recurrent_accuracies(results: pathlib.Path) -> str:
    """Test accuracies of recurrent networks beside those of [A] and of the authors of IndRNN."""
    rows = [
        each._asdict()
        | {
            "name": REGULARISERS[each.regulariser],
            "told": each.ours.told(4),
            "less": each.apart.told(2, signed=True),
        }
        for each in accuracies(results)
    ]
    return columns(
        rows,
        "task {order} MNIST | regulariser {name} | [A] {published:.4f}",
        "authors of IndRNN {log:.4f} | ours {told} | ours − [A], points {less}",
    )


@shown
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


def _read(results: pathlib.Path, experiment: str) -> list[Result]:
    return report.read_all(results / experiment, "*/result.json")


def _pictures(results: pathlib.Path, experiment: str, what: str) -> str:
    if not _read(results, experiment):
        return NOT_MEASURED
    return (
        f"{picture(f'Test errors of {what} by rate', f'figures/{experiment}.svg')}\n\n"
        f"{picture(f'Learning curves of {what}', f'figures/{experiment}_curves.svg')}"
    )


def _errors(results: pathlib.Path, experiment: str) -> str:
    return "\n\n".join(map(_of_one, _read(results, experiment))) or NOT_MEASURED


def _of_one(result: Result) -> str:
    return f"{_name(result)}: {schedule(result)}.\n\n{of_runs(result)}\n\n{origin(result)}"


def _name(result: Result) -> str:
    parts = title(result).split(", ")
    return ", ".join([DATA.get(parts[0], parts[0]), *parts[1:]])
