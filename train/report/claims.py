"""What the papers claim, and what became of it: one record, one judge for all experiments.

A claim is that differences have a sign, in all or in some of several cases. Which sign a difference
has is decided by `train.report.statistics.Mean.sign` alone: the 95 % interval of Student's t, over
the paired differences of seeds or splits, leaves out 0, or nothing is decided.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from train.report import tables as report
from train.report.settings import but_epochs
from train.report.statistics import Mean

SEEDS = 3  # at least, for claims of [A], each of which is on means of three runs
COMPARABLE = 0.1  # percentage points: [A] calls 0.11 worse and 0.01 comparable, on sequential MNIST
SMALL = "no run of the whole schedule; smaller ones decide nothing"

Cases = dict[tuple[str, float], list[report.Run]]


class Verdict(enum.StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "not decided"
    ABSENT = "not yet measured"


HOLDS, FAILS, OPEN, ABSENT = Verdict


class Finding(NamedTuple):
    """What results say of a claim."""

    verdict: Verdict = ABSENT
    evidence: str = SMALL


class Claim(NamedTuple):
    """A claim and what became of it."""

    source: str  # where the paper makes it, as "[A] 5.1, dense networks"
    text: str
    verdict: Verdict
    evidence: str
    command: str  # what measures it


def judged(signs: Iterable[int], wanted: int, at_least: int | None = None) -> Verdict:
    """Whether differences have the wanted sign in at least so many cases, without a number in all.

    Of each case's difference the sign is 1 or -1, or 0 where it is not decided. The claim "holds";
    it "does not hold" if not even with every 0 taken to be as wanted; else it is "not decided";
    "not yet measured" without cases.

    Example:
        >>> [judged(signs, -1).value for signs in ([-1, -1], [-1, 0], [0, 1], [])]
        ['holds', 'not decided', 'does not hold', 'not yet measured']
        >>> judged([-1, 1, 0], -1, at_least=1).value, judged([1, 1, 0], -1, at_least=2).value
        ('holds', 'does not hold')
    """
    found = list(signs)
    if not found:
        return ABSENT
    needed = len(found) if at_least is None else at_least
    if found.count(wanted) >= needed:
        return HOLDS
    return OPEN if len(found) - found.count(-wanted) >= needed else FAILS


def comparable(difference: Mean, margin: float) -> Verdict:
    """Whether a difference is known to be smaller than a margin, by its 95 % interval.

    Example:
        >>> [comparable(Mean(value, 0.1, 20), 0.5).value for value in (0.1, 0.4, 0.9)]
        ['holds', 'not decided', 'does not hold']
    """
    low, high = difference.interval
    if -margin < low and high < margin:
        return HOLDS
    return FAILS if low > margin or high < -margin else OPEN


def of_three(difference: Mean) -> Mean:
    """A difference as claims of [A] take it: one of fewer than three seeds decides nothing.

    Example:
        >>> of_three(Mean(1.0, 0.01, 2)).sign, of_three(Mean(1.0, 0.01, 3)).sign
        (0, 1)
    """
    enough = difference.number >= SEEDS
    return difference if enough else difference._replace(number=min(difference.number, 1))


def on_differences(found: Mapping[str, Mean], wanted: int, at_least: int | None = None) -> Finding:
    """What is found of a claim that differences have a sign; see `judged`.

    Example:
        >>> found = {"MNIST": Mean(-0.5, 0.1, 3), "digits": Mean(0.1, 0.1, 3)}
        >>> on_differences(found, -1)
        Finding(verdict=<Verdict.OPEN: 'not decided'>, evidence='MNIST -0.50 ± 0.10, \
digits +0.10 ± 0.10')
    """
    if not any(each.number for each in found.values()):
        return Finding()
    return Finding(judged([each.sign for each in found.values()], wanted, at_least), told(found))


def on_margin(found: Mapping[str, Mean], margin: float) -> Finding:
    """What is found of a claim that all differences are smaller than a margin; see `comparable`."""
    finding = on_differences(found, 1)
    if finding.verdict == ABSENT:
        return finding
    return finding._replace(verdict=together(comparable(each, margin) for each in found.values()))


def told(found: Mapping[str, Mean], digits: int = 2, factor: float = 1) -> str:
    """Differences by name, in percentage points or in another unit; see `Mean.told`."""
    words = (f"{name} {each.told(digits, factor, signed=True)}" for name, each in found.items())
    return ", ".join(words)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """Of a claim that is several: it holds if all do, and fails if one does.

    Example:
        >>> [together(some).value for some in ([HOLDS, OPEN], [FAILS, ABSENT], [HOLDS, ABSENT])]
        ['not decided', 'does not hold', 'not yet measured']
    """
    found = set(verdicts)
    return next((v for v in (FAILS, ABSENT, OPEN) if v in found), HOLDS if found else ABSENT)


def whole(
    folder: Path, settings: Mapping[str, Any], ended: Callable[[report.Result, report.Run], bool]
) -> Cases:
    """Runs of a sweep with the whole schedule of [A], by regulariser and rate, each with a seed
    that stands for the permutation too; ValueError if one is there twice.

    The results of the experiment lie in a folder, each in one of its own. Of the settings of [A] it
    does not count which runs there are, nor which permutation; `ended` says whether a run of a
    result came to its end.
    """
    cases: Cases = {}
    wanted = but_epochs(dict(settings))
    for path in sorted(folder.glob("*/result.json")):
        result = report.read(path)
        found = but_epochs(result["settings"])
        free = {"order_seed", *report.RUN_SETTINGS}
        if any(found.get(name) != value for name, value in wanted.items() if name not in free):
            continue
        for run in (r for r in result["runs"] if r["test"] is not None and ended(result, r)):
            seed = found.get("order_seed"), run["seed"]
            known = cases.setdefault((run["regulariser"], run["rate"]), [])
            if any(other["seed"] == seed for other in known):
                raise ValueError(f"{path} repeats {run['regulariser']} {run['rate']} {seed}")
            known.append(run | {"seed": seed})
    return cases


def summary(claims: Sequence[Claim]) -> str:
    """Which experiments are measured and which are not, and how many claims hold, in two sentences.

    An experiment, that is a source, is measured in part if nothing is known of some of its claims.
    """
    known: dict[str, set[bool]] = {}
    for claim in claims:
        known.setdefault(claim.source, set()).add(claim.verdict != ABSENT)
    measured = [name + " (in part)" * (False in some) for name, some in known.items() if any(some)]
    rest = [name for name, some in known.items() if not any(some)]
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in Verdict}
    return (
        f"Measured are {len(measured)} of the papers' {len(known)} experiments "
        f"({'; '.join(measured) or 'none'}), and not yet measured the others "
        f"({'; '.join(rest) or 'none'}). Of their {len(claims)} claims {counts[HOLDS]} hold, "
        f"{counts[FAILS]} do not, {counts[OPEN]} are not decided by what was measured, and "
        f"{counts[ABSENT]} wait for a run."
    )
