"""Published figures of recurrent networks on MNIST, pixel by pixel, to stand beside ours.

Six independently recurrent layers of 128 nodes. Two sources, which differ: [A] 5.1, whose schedule
is not told; and the logs that the authors of IndRNN have put beside their code
(Sunnydreamrain/IndRNN_pytorch, folder pixelMNIST, one run of each task with dropout 0.1).
"""

from typing import Any, NamedTuple

EPOCH = 1700  # updates of what the authors of IndRNN count as an epoch


class Point(NamedTuple):
    """A point of a learning curve."""

    updates: int  # since the beginning
    span: int  # over how many updates, up to this one, the training accuracy is the mean
    training: float  # accuracy on the batches, with dropout
    validation: float | None  # accuracy by running statistics, without dropout


class Log(NamedTuple):
    """A training by the authors of IndRNN, with dropout 0.1."""

    test: float  # accuracy in the end
    epochs: int
    points: tuple[Point, ...]


# [A] 5.1: test accuracies, means of three runs; rates of 0.1.
PAPER = {
    "sequential": {"none": 0.9841, "dropout": 0.9830, "pcff": 0.9842},
    "permuted": {"none": 0.9045, "dropout": 0.9203, "pcff": 0.9145},
}


def _log(test: float, epochs: int, first: str, later: str) -> Log:
    """The log of a test accuracy, a number of epochs, and accuracies: of training in hundreds of
    updates of the first epoch ("hundred/training"), and by epoch ("epoch/training/validation")."""
    points = [
        Point(100 * int(hundred), 100, float(training), None)
        for hundred, training in (entry.split("/") for entry in first.split())
    ]
    points += [
        Point(EPOCH * int(epoch), EPOCH, float(training), float(validation))
        for epoch, training, validation in (entry.split("/") for entry in later.split())
    ]
    return Log(test, epochs, tuple(points))


LOGS = {
    "sequential": _log(
        0.99042,
        413,
        "1/.212 3/.465 5/.562 10/.664 17/.742",
        "1/.603/.777 2/.784/.851 3/.833/.897 5/.886/.940 10/.935/.962 20/.958/.974 50/.973/.983 "
        "100/.981/.985 200/.985/.987 413/.990/.992",
    ),
    "permuted": _log(
        0.95637,
        702,
        "1/.265 3/.370 5/.414 10/.508 17/.580",
        "1/.473/.631 2/.612/.700 3/.658/.698 5/.720/.660 10/.789/.419 20/.843/.782 50/.885/.853 "
        "100/.910/.943 200/.929/.937 702/.954/.960",
    ),
}


def log_beside(settings: dict[str, Any]) -> Log | None:
    """The log of the network and task of some settings of `train.indrnn`, if there is one.

    Example:
        >>> settings = {"data": "mnist", "order": "permuted", "stack": "plain", "depth": 6}
        >>> log_beside(settings | {"features": 128}).test
        0.95637
        >>> log_beside(settings | {"features": 16}) is None
        True
    """
    wanted = {"data": "mnist", "stack": "plain", "depth": 6, "features": 128}
    if any(settings.get(name) != value for name, value in wanted.items()):
        return None
    return LOGS.get(settings["order"])
