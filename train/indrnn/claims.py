"""What recurrent networks on sequences of pixels say about the claims of [A] 5.1. Only whole
schedules do."""

from pathlib import Path
from typing import NamedTuple

from train.engine.loop import STATUS, STOPPED
from train.indrnn.published import LOGS, PAPER
from train.indrnn.settings import Config
from train.report.claims import COMPARABLE, Cases, Claim, of_three, on_differences, on_margin, whole
from train.report.statistics import Mean, mean
from train.report.tables import REGULARISERS, difference

SOURCE = "[A] 5.1: IndRNN on MNIST, pixel by pixel"
COMMAND = "python -m train.indrnn --data-dir FOLDER"
# Percentage points within which an accuracy is taken to be that of [A], whose scatter is not told.
SAME = 0.5


class Accuracy(NamedTuple):
    """A test accuracy beside published ones."""

    order: str
    regulariser: str
    published: float  # by [A], the mean of three runs
    log: float | None  # by the authors of IndRNN, one run
    ours: Mean
    apart: Mean  # ours less [A]'s, percentage points


def accuracies(results: Path) -> list[Accuracy]:
    """The six of [A], and ours where whole schedules were run."""
    made = []
    for order, by_regulariser in PAPER.items():
        cases = _cases(results, order)
        for regulariser, published in by_regulariser.items():
            runs = cases.get((regulariser, 0.0 if regulariser == "none" else 0.1), [])
            found = [1 - run["test"]["error"] for run in runs]
            log = LOGS[order].test if regulariser == "dropout" else None
            apart = mean([100 * (each - published) for each in found])
            made.append(Accuracy(order, regulariser, published, log, mean(found), apart))
    return made


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results."""
    made = []
    for order, names, wanted, text in (
        ("sequential", ["dropout"], 1, "dropout is worse than none"),
        ("sequential", ["pcff"], 0, f"PCFF is comparable to none (within {COMPARABLE} points)"),
        ("permuted", ["dropout", "pcff"], -1, "dropout and PCFF improve on none"),
    ):
        cases = _cases(results, order)
        none = cases.get(("none", 0.0), [])
        found = {
            f"{REGULARISERS[name]} − none": of_three(difference(cases.get((name, 0.1), []), none))
            for name in names
        }
        finding = on_differences(found, wanted) if wanted else on_margin(found, COMPARABLE)
        command = COMMAND + " --order permuted" * (order == "permuted")
        made.append(Claim(SOURCE, f"{order.capitalize()}: {text}", *finding, command))
    six = {
        f"{a.order} {REGULARISERS[a.regulariser]}": of_three(a.apart) for a in accuracies(results)
    }
    text = f"Both: the six accuracies are those that [A] prints (within {SAME} points)"
    return [*made, Claim(SOURCE, text, *on_margin(six, SAME), f"{COMMAND} --order ORDER")]


def _cases(results: Path, order: str) -> Cases:
    facts = Config(order=order).facts()  # pyright: ignore[reportArgumentType]
    return whole(results / "indrnn", facts, lambda _, run: run["status"] == STATUS[STOPPED])
