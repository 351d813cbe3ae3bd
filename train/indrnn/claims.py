"""What recurrent networks on sequences of pixels say about the claims of [A] 5.1. Only whole
schedules do."""

from pathlib import Path
from typing import NamedTuple

from train.engine.loop import STATUS, STOPPED
from train.indrnn.published import LOGS, PAPER
from train.indrnn.settings import Config
from train.report.claims import (
    ABSENT,
    COMPARABLE,
    SMALL,
    Cases,
    Claim,
    comparable,
    judged,
    of_three,
    together,
    whole,
)
from train.report.statistics import Mean, mean
from train.report.tables import REGULARISERS, Result, Run, difference

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
    """The six of [A], and ours where whole schedules were run.

    Args:
        results: the folder of results.
    """
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
    """All of them.

    Args:
        results: the folder of results.
    """
    made = []
    for order, names, text in (
        ("sequential", ["dropout"], "dropout is worse than none"),
        ("sequential", ["pcff"], f"PCFF is comparable to none (within {COMPARABLE} points)"),
        ("permuted", ["dropout", "pcff"], "dropout and PCFF improve on none"),
    ):
        cases = _cases(results, order)
        none = cases.get(("none", 0.0), [])
        found = [of_three(difference(cases.get((name, 0.1), []), none)) for name in names]
        signs = [each.sign for each in found]
        verdict = judged(signs, -1 if order == "permuted" else 1)
        if names == ["pcff"]:
            verdict = comparable(found[0], COMPARABLE)
        evidence = "; ".join(
            f"{REGULARISERS[name]} − none: {each.told(2, signed=True)}"
            for name, each in zip(names, found, strict=True)
        )
        if not any(each.number for each in found):
            verdict, evidence = ABSENT, SMALL
        command = COMMAND + " --order permuted" * (order == "permuted")
        text = f"{order.capitalize()}: {text}"
        made.append(Claim(SOURCE, text, verdict, evidence, command))
    six = accuracies(results)
    reached = together(
        comparable(of_three(each.apart), SAME) if each.ours.number else ABSENT for each in six
    )
    known = [f"{a.order} {REGULARISERS[a.regulariser]} {a.apart.told(2, signed=True)}" for a in six]
    text = f"Both: the six accuracies are those that [A] prints (within {SAME} points)"
    evidence = ", ".join(known) if any(each.ours.number for each in six) else SMALL
    return [*made, Claim(SOURCE, text, reached, evidence, f"{COMMAND} --order ORDER")]


def _cases(results: Path, order: str) -> Cases:
    facts = Config(order=order).facts()  # pyright: ignore[reportArgumentType]
    return whole(results / "indrnn", facts, _ended)


def _ended(result: Result, run: Run) -> bool:
    return run["status"] == STATUS[STOPPED]
