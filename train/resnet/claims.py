"""What residual networks on CIFAR-10 say about the claims of [A] 5.1. Only whole schedules do."""

import math
from collections.abc import Mapping
from pathlib import Path

from train.report import claims as judge
from train.report.claims import SEEDS, Claim, Finding, Verdict, judged
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
    """All of them, from the folder of results."""
    cases = judge.whole(results / "resnet", Config().facts(), _ended)
    none = cases.get(("none", 0.0), [])
    pcff, dropout = (
        {rate: runs for (name, rate), runs in sorted(cases.items()) if name == regulariser}
        for regulariser in ("pcff", "dropout")
    )
    gains, losses = (
        {rate: judge.of_three(difference(runs, none)) for rate, runs in by_rate.items()}
        for by_rate in (pcff, dropout)
    )
    others = {
        rate: judge.of_three(difference(runs, pcff.get(0.3, [])))
        for rate, runs in pcff.items()
        if rate != 0.3
    }
    only = [-each.sign if rate == 0.1 else each.sign for rate, each in losses.items()]
    large = [each.sign for rate, each in losses.items() if rate >= LARGE]
    best = judged([each.sign for each in others.values()], 1)
    text = f"Dropout is worse than none at large rates ({LARGE} and above)"
    return [
        _claim("PCFF improves on none over a wide range of rates", gains, wide_range(gains)),
        _claim("PCFF's best rate is 0.3", gains, best, _lowest(pcff, others)),
        _claim("Dropout improves on none at 0.1 only", losses, judged(only, 1)),
        _claim(text, losses, judged(large, 1)),
    ]


def wide_range(gains: Mapping[float, Mean]) -> Verdict:
    """Whether errors are lower at all measured rates of a range of at least `WIDE`; it fails if
    that is so not even with what is open taken to be lower."""

    def spanned(*among: int) -> bool:
        """Whether the widest range of neighbouring rates whose signs are among some is so wide."""
        widest, start = -math.inf, None
        for rate in sorted(gains):
            start = (rate if start is None else start) if gains[rate].sign in among else None
            if start is not None:
                widest = max(widest, round(rate - start, 9))
        return widest >= WIDE

    return judged([1 if spanned(-1) else 0 if spanned(-1, 0) else -1], 1)


def _claim(text: str, found: Mapping[float, Mean], verdict: Verdict, lowest: str = "") -> Claim:
    finding = judge.on_differences(_named(found), 1)
    missing = [rate for rate in RATES if rate not in found or found[rate].number < SEEDS]
    if finding.verdict != Verdict.ABSENT:
        finding = Finding(verdict, f"{lowest}less that of none: {finding.evidence}")
        if missing:
            needed = f"fewer than {SEEDS} seeds at {', '.join(map(str, missing))}"
            finding = Finding(Verdict.OPEN, f"{needed}; {finding.evidence}")
    return Claim(SOURCE, text, *finding, COMMAND)


def _lowest(pcff: Mapping[float, list[Run]], others: Mapping[float, Mean]) -> str:
    means = {rate: over_seeds(runs, "test", "error").value for rate, runs in pcff.items()}
    best = min(means, key=lambda rate: means[rate], default=math.nan)
    lowest = 100 * means.get(best, math.nan)
    return (
        f"lowest mean: {lowest:.2f} % at {best:g}; less that at 0.3: {judge.told(_named(others))}; "
    )


def _named(found: Mapping[float, Mean]) -> dict[str, Mean]:
    return {f"at {rate:g}": each for rate, each in found.items()}


def _ended(result: Result, run: Run) -> bool:
    return run["epochs"] >= result["settings"]["recipe"]["length"]
