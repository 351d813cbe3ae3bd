"""What was expected of generators that learn from a critic, and what became of it."""

from collections.abc import Sequence
from pathlib import Path

from train.gan.figure import NAMES, by_seed, rows
from train.gan.training import MODES
from train.report.claims import Claim, Finding, Verdict, judged, of_three, on_differences
from train.report.results import read_json
from train.report.statistics import Mean, mean, paired
from train.report.tables import Run

SOURCE = "[C]"
COMMAND = "python -m train.gan"
WITHIN = 0.9  # the share of samples within three standard deviations


def expected(results: Path) -> list[Claim]:
    """All of it, from the results in a folder."""
    ring = _runs(results, "ring")
    images = {name: _runs(results, name) for name in ("digits", "mnist")}
    cases = {"ring, energy distance × 1000": (ring, "distance", 1000)}
    cases |= {f"{name}, Fréchet distance": (runs, "frechet", 1) for name, runs in images.items()}
    saturating = {name: _less(*case) for name, case in cases.items()}
    made = {
        "By some divergence all eight modes are covered in every run": _covered(ring, 1),
        "By every divergence all eight modes are covered in every run": _covered(ring, None),
        f"By some divergence at least {WITHIN:.0%} of the samples lie within three standard "
        "deviations": _within(ring, 1),
        f"By every divergence at least {WITHIN:.0%} of the samples lie within three standard "
        "deviations": _within(ring, None),
        "The non-saturating loss leads closer than the one whose critic it shares": (
            on_differences({name: each for name, each in saturating.items() if each.number}, -1)
        ),
    }
    return [Claim(SOURCE, text, *finding, COMMAND) for text, finding in made.items()]


def _less(runs: dict[str, list[Run]], figure: str, factor: float) -> Mean:
    """What the non-saturating loss changes, times a factor."""
    ours, theirs = (
        {seed: factor * value for seed, value in by_seed(runs.get(name, ()), figure).items()}
        for name in ("non_saturating", "gan")
    )
    return of_three(paired(ours, theirs))


def _runs(results: Path, data: str) -> dict[str, list[Run]]:
    path = results / "gan" / data / "result.json"
    if not path.exists():
        return {}
    return rows(read_json(path, rows, "result of `python -m train.gan`"))


def _covered(ring: dict[str, list[Run]], at_least: int | None) -> Finding:
    """Modes are counted: there is nothing to estimate."""
    if not ring:
        return Finding(evidence="-")
    whole = {name: _whole(runs) for name, runs in ring.items()}
    signs = [1 if count == len(ring[name]) else -1 for name, count in whole.items()]
    told = ", ".join(f"{NAMES[name]} {n} of {len(ring[name])} runs" for name, n in whole.items())
    return Finding(judged(signs, 1, at_least), told)


def _whole(runs: Sequence[Run]) -> int:
    return sum(modes == MODES for modes in by_seed(runs, "modes").values())


def _within(ring: dict[str, list[Run]], at_least: int | None) -> Finding:
    """Whether the mean over all runs is known to be enough; one that has no figure has none
    within."""
    if not ring:
        return Finding(Verdict.ABSENT, "-")
    found: dict[str, Mean] = {}
    for name, runs in ring.items():
        known = by_seed(runs, "within")
        found[name] = of_three(mean([known.get(run["seed"], 0.0) for run in runs]))
    signs = [each._replace(value=each.value - WITHIN).sign for each in found.values()]
    told = ", ".join(f"{NAMES[name]} {each.told(1, 100)} %" for name, each in found.items())
    return Finding(judged(signs, 1, at_least), told)
