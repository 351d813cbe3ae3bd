"""What residual networks on CIFAR-10 say about the claims of [A] 5.1. Only whole schedules do."""

import math
from collections.abc import Mapping
from pathlib import Path

from train.report.claims import ABSENT, OPEN, SEEDS, SMALL, Claim, judged, of_three, whole
from train.report.statistics import Mean
from train.report.tables import Result, Run, difference, over_seeds
from train.resnet.settings import Config

SOURCE = "[A] 5.1, Figure 4 right: ResNet20 on CIFAR-10"
COMMAND = "python -m train.resnet --data-dir FOLDER"
# What has to be measured before claims on rates are looked at.
RATES = (0.1, 0.3, 0.5)
WIDE = 0.4  # what [A]'s "wide range of sampling rates" is taken to span, at the least
LARGE = 0.5  # and from where on drop rates are taken to be "large"


def claims(results: Path) -> list[Claim]:
    """All of them.

    Args:
        results: the folder of results.
    """
    cases = whole(results / "resnet", Config().facts(), _ended)
    none = cases.get(("none", 0.0), [])
    pcff, dropout = (
        {rate: runs for (name, rate), runs in sorted(cases.items()) if name == regulariser}
        for regulariser in ("pcff", "dropout")
    )
    gains, losses = (
        {rate: of_three(difference(runs, none)) for rate, runs in by_rate.items()}
        for by_rate in (pcff, dropout)
    )
    others = {
        rate: of_three(difference(runs, pcff.get(0.3, [])))
        for rate, runs in pcff.items()
        if rate != 0.3
    }
    best, only, large = (
        [each.sign for each in others.values()],
        [-each.sign if rate == 0.1 else each.sign for rate, each in losses.items()],
        [each.sign for rate, each in losses.items() if rate >= LARGE],
    )
    made = [
        _claim("PCFF improves on none over a wide range of rates", gains, wide_range(gains)),
        _claim("PCFF's best rate is 0.3", gains, judged(best, 1), _lowest(pcff, others)),
        _claim("Dropout improves on none at 0.1 only", losses, judged(only, 1)),
        _claim(
            f"Dropout is worse than none at large rates ({LARGE} and above)",
            losses,
            judged(large, 1),
        ),
    ]
    return made


def wide_range(gains: Mapping[float, Mean]) -> str:
    """Whether errors are lower at all measured rates of a range of at least `WIDE`.

    It fails if that is so not even with what is open taken to be lower.
    """
    signs = [
        1 if _widest(gains, among) >= WIDE else -1 for among in ((-1,), (-1, 0))
    ]  # known, possible
    return judged([signs[0] if signs[0] == signs[1] else 0], 1)


def _widest(gains: Mapping[float, Mean], among: tuple[int, ...]) -> float:
    """The span of the widest range of neighbouring rates whose signs are among some."""
    widest, start = -math.inf, None
    for rate in sorted(gains):
        start = (rate if start is None else start) if gains[rate].sign in among else None
        if start is not None:
            widest = max(widest, round(rate - start, 9))
    return widest


def _claim(text: str, found: Mapping[float, Mean], verdict: str, told: str = "") -> Claim:
    missing = [rate for rate in RATES if rate not in found or found[rate].number < SEEDS]
    evidence = f"{told}less that of none: {_rates(found)}"
    if not any(each.number for each in found.values()):
        verdict, evidence = ABSENT, SMALL
    elif missing:
        needed = f"fewer than {SEEDS} seeds at {', '.join(map(str, missing))}"
        verdict, evidence = OPEN, f"{needed}; {evidence}"
    return Claim(SOURCE, text, verdict, evidence, COMMAND)


def _lowest(pcff: Mapping[float, list[Run]], others: Mapping[float, Mean]) -> str:
    if not pcff:
        return ""
    means = {rate: over_seeds(runs, "test", "error").value for rate, runs in pcff.items()}
    best = min(means, key=lambda rate: means[rate])
    told = f"lowest mean: {100 * means[best]:.2f} % at {best:g}; less that at 0.3: {_rates(others)}"
    return f"{told}; "


def _rates(found: Mapping[float, Mean]) -> str:
    told = (f"{each.told(2, signed=True)} at {rate:g}" for rate, each in found.items())
    return ", ".join(told)


def _ended(result: Result, run: Run) -> bool:
    return run["epochs"] >= result["settings"]["recipe"]["length"]
