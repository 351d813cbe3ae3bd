"""What the experiments with residual and recurrent networks say about the claims of [A] 5.1.

Only whole schedules decide anything, and only differences beyond chance: those whose 95 % interval
(Student's t, over at least three seeds) leaves out 0. Runs of the same seed are compared.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

from docs.tables import dense
from docs.tables.parts import signed, table
from train.engine.loop import STATUS, STOPPED
from train.indrnn import experiment as indrnn
from train.indrnn.published import LOGS, PAPER
from train.report import tables as report
from train.report.settings import but_epochs
from train.report.tables import Mean, difference
from train.resnet import experiment as resnet

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
NOT_ON_GPU = "**not yet measured on a GPU**"
SMALL = "small runs below decide nothing"
SEEDS = 3  # at least, to decide anything
# What has to be measured before claims on rates are looked at.
RATES = (0.1, 0.3, 0.5)
WIDE = 0.4  # what [A]'s "wide range of sampling rates" is taken to span, at the least
LARGE = 0.5  # and from where on drop rates are taken to be "large"
# Percentage points. [A] calls 0.11 worse and 0.01 comparable, on sequential MNIST.
COMPARABLE = 0.1
# Percentage points within which an accuracy is taken to be that of [A], whose scatter is not told.
SAME = 0.5
# One dense run was ended by hand, long after its learning rate had reached its smallest value.
LONG_ENOUGH = 600

Run = dict[str, Any]
Cases = dict[tuple[str, float], list[Run]]


class Claim(NamedTuple):
    """A claim and what became of it."""

    text: str
    verdict: str
    evidence: str


class Experiment(NamedTuple):
    """An experiment of [A] with its whole schedule."""

    title: str
    folder: str  # under results/
    order: str | None  # of pixels
    schedule: str
    command: str


EXPERIMENTS = (
    Experiment(
        "ResNet20 on CIFAR-10, [A] Figure 4 right",
        "resnet",
        None,
        "45,000 images, 250 epochs, 87,750 updates a run",
        "python -m train.resnet --data-dir FOLDER",
    ),
    Experiment(
        "IndRNN on sequential MNIST",
        "indrnn",
        "sequential",
        "57,000 images, to the end of patience; the authors' run took 702,100 updates",
        "python -m train.indrnn --data-dir FOLDER",
    ),
    Experiment(
        "IndRNN on permuted MNIST",
        "indrnn",
        "permuted",
        "57,000 images, to the end of patience; the authors' run took 1,193,400 updates",
        "python -m train.indrnn --order permuted --data-dir FOLDER",
    ),
)


# -- tables


def structured_schedules(results: pathlib.Path) -> str:
    """The whole schedules, and whether they were measured."""
    rows = []
    for experiment in EXPERIMENTS:
        found = whole(results, experiment.folder, experiment.order)
        runs = [run for some in found.values() for run in some]
        status = NOT_ON_GPU
        if runs:
            kinds = ", ".join(sorted({run["device kind"] for run in runs}))
            seeds = len({run["seed"] for run in runs})
            status = f"{len(runs)} runs, {seeds} seeds: {kinds}"
        rows.append([experiment.title, experiment.schedule, f"`{experiment.command}`", status])
    return table(["experiment", "whole schedule", "command", "measured"], rows)


def structured_claims(results: pathlib.Path) -> str:
    """The claims of [A] on residual and recurrent networks, and on dropout with PCFF."""
    claims = [*residual_claims(results), combination_claim(results), *recurrent_claims(results)]
    return table(["claim of [A] 5.1", "verdict", "evidence"], [list(claim) for claim in claims])


def recurrent_accuracies(results: pathlib.Path) -> str:
    """Test accuracies of recurrent networks beside those of [A] and of the authors of IndRNN."""
    rows = []
    for order, accuracies in PAPER.items():
        cases = whole(results, "indrnn", order)
        for regulariser, published in accuracies.items():
            runs = cases.get((regulariser, 0.0 if regulariser == "none" else 0.1), [])
            log = f"{LOGS[order].test:.4f}" if regulariser == "dropout" else "-"
            ours, apart, verdict = _accuracy(runs, published)
            row = [f"{order} MNIST", dense.REGULARISERS[regulariser], f"{published:.4f}", log]
            rows.append([*row, ours, apart, verdict])
    headings = ["task", "regulariser", "[A]", "authors of IndRNN", "ours", "ours − [A], points"]
    return table([*headings, "the same as in [A]"], rows)


# -- the claims


def residual_claims(results: pathlib.Path) -> list[Claim]:
    """c and d: rates of PCFF and of dropout on CIFAR-10."""
    cases = whole(results, "resnet", None)
    none = cases.get(("none", 0.0), [])
    small = SMALL if _any(results, "resnet") else "-"
    pcff, dropout = (_by_rate(cases, regulariser) for regulariser in ("pcff", "dropout"))
    claims = []
    texts = {
        "wide": "c. CIFAR-10: PCFF improves on no regularisation over a wide range of rates",
        "best": "c. CIFAR-10: its best rate is 0.3",
        "only": "d. CIFAR-10: dropout improves at 0.1 only",
        "large": f"d. CIFAR-10: dropout is worse than none at large rates ({LARGE} and above)",
    }
    gains = {
        name: {rate: difference(runs, none) for rate, runs in by_rate.items()}
        for name, by_rate in (("PCFF", pcff), ("dropout", dropout))
    }
    for which, text in texts.items():
        name = "PCFF" if which in ("wide", "best") else "dropout"
        found = gains[name]
        if not any(gain.seeds for gain in found.values()):
            claims.append(Claim(text, NOT_ON_GPU, small))
            continue
        told = _told(f"{name} − none", found)
        missing = [rate for rate in RATES if rate not in found or found[rate].seeds < SEEDS]
        if missing:
            needed = f"fewer than {SEEDS} seeds at {', '.join(map(str, missing))}"
            claims.append(Claim(text, OPEN, f"{needed}; {told}"))
            continue
        signs = {rate: beyond_chance(gain) for rate, gain in found.items()}
        if which == "wide":
            verdict = wide_range(signs)
        elif which == "best":
            others = {r: difference(runs, pcff[0.3]) for r, runs in pcff.items() if r != 0.3}
            verdict = every(map(beyond_chance, others.values()), 1)
            means = {rate: report.over_seeds(runs, "test", "error") for rate, runs in pcff.items()}
            best = min(means, key=lambda rate: means[rate].value)
            told = f"lowest mean: {100 * means[best].value:.2f} % at {best:g}; "
            told += _told("less that at 0.3", others)
        elif which == "only":
            verdict = every([-signs[0.1], *(s for rate, s in signs.items() if rate != 0.1)], 1)
        else:
            verdict = every([sign for rate, sign in signs.items() if rate >= LARGE], 1)
        claims.append(Claim(text, verdict, told))
    return claims


def combination_claim(results: pathlib.Path) -> Claim:
    """e: dropout with PCFF, on the dense networks."""
    text = "e. Dropout and PCFF together improve further in some case"
    told, verdicts = [], []
    for data, result in dense.by_data(results).items():
        for nodes, name in dense.NODES.items():
            both, *alone = (
                [run for run in dense.runs_of(result, nodes, regulariser) if _whole_dense(run)]
                for regulariser in ("both", "dropout", "pcff")
            )
            found = [difference(both, runs) for runs in alone]
            if not all(gain.seeds for gain in found):
                continue
            signs = [beyond_chance(gain) for gain in found]
            better, worse = set(signs) == {-1}, 1 in signs
            verdicts.append(1 if better else -1 if worse else 0)
            which = "better than either" if better else "worse than one" if worse else "undecided"
            told.append(
                f"{dense.SETS[data]}, {name}: {which} ({signed(found[0])} against dropout, "
                f"{signed(found[1])} against PCFF)"
            )
    if not verdicts:
        return Claim(text, "not yet measured", "-")
    cases = len(dense.SETS) * len(dense.NODES)
    refuted = len(verdicts) == cases and set(verdicts) == {-1}
    verdict = HOLDS if 1 in verdicts else FAILS if refuted else OPEN
    return Claim(text, verdict, f"dense networks: {'; '.join(told)}")


def recurrent_claims(results: pathlib.Path) -> list[Claim]:
    """f: dropout and PCFF on sequences of pixels."""
    small = SMALL if _any(results, "indrnn") else "-"
    claims = []
    for order, regularisers, text in (
        ("sequential", ["dropout"], "dropout is worse than none"),
        ("sequential", ["pcff"], f"PCFF is comparable to none (within {COMPARABLE} points)"),
        ("permuted", ["dropout", "pcff"], "dropout and PCFF improve on none"),
    ):
        cases = whole(results, "indrnn", order)
        none = cases.get(("none", 0.0), [])
        found = [difference(cases.get((name, 0.1), []), none) for name in regularisers]
        text = f"f. {order.capitalize()} MNIST: {text}"
        if not any(gain.seeds for gain in found):
            claims.append(Claim(text, NOT_ON_GPU, small))
            continue
        if order == "permuted":
            verdict = every(map(beyond_chance, found), -1)
        elif regularisers == ["dropout"]:
            verdict = every(map(beyond_chance, found), 1)
        else:
            verdict = within(found[0], COMPARABLE)
        names = (f"{dense.REGULARISERS[name]} − none" for name in regularisers)
        told = (f"{name}: {signed(gain)}" for name, gain in zip(names, found, strict=True))
        claims.append(Claim(text, verdict, "; ".join(told)))
    return claims


# -- what decides


def interval(found: Mean) -> tuple[float, float]:
    """The 95 % interval of a mean by Student's t; everything for fewer than three seeds.

    Example:
        >>> low, high = interval(Mean(1.0, 0.1, 3))
        >>> round(low, 2), round(high, 2)
        (0.57, 1.43)
        >>> interval(Mean(1.0, 0.1, 2))
        (-inf, inf)
    """
    if found.seeds < SEEDS:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.975, found.seeds - 1)) * found.standard_error
    return found.value - half, found.value + half


def beyond_chance(found: Mean) -> int:
    """The sign of a mean difference; 0 where the interval holds it."""
    low, high = interval(found)
    return int(low > 0) - int(high < 0)


def within(found: Mean, margin: float) -> str:
    """Whether a mean difference is known to be smaller than a margin."""
    low, high = interval(found)
    if -margin < low and high < margin:
        return HOLDS
    return FAILS if low > margin or high < -margin else OPEN


def every(signs: Iterable[int], wanted: int) -> str:
    """Holds if all signs are as wanted, fails if one is the opposite."""
    found = set(signs)
    if found == {wanted}:
        return HOLDS
    return FAILS if -wanted in found else OPEN


def wide_range(signs: Mapping[float, int]) -> str:
    """Whether errors are lower (-1) at all measured rates of a range of at least `WIDE`.

    It fails if that is so not even with what is open (0) taken to be lower.
    """
    if _widest(signs, {-1}) >= WIDE:
        return HOLDS
    return OPEN if _widest(signs, {-1, 0}) >= WIDE else FAILS


def _widest(signs: Mapping[float, int], among: set[int]) -> float:
    """The span of the widest range of neighbouring rates whose signs are among some."""
    widest, start = -math.inf, None
    for rate in sorted(signs):
        start = (rate if start is None else start) if signs[rate] in among else None
        if start is not None:
            widest = max(widest, round(rate - start, 9))
    return widest


# -- runs


def whole(results: pathlib.Path, folder: str, order: str | None) -> Cases:
    """Runs with the whole schedule of an experiment, by regulariser and rate.

    Args:
        results: the folder of results.
        folder: "resnet" or "indrnn".
        order: of the pixels.

    Returns:
        entries of `result["runs"]` with the kind of device, each with a seed that stands for the
        permutation too.

    Raises:
        ValueError: if a run is there twice.
    """
    cases: Cases = {}
    for path, result in _read(results, folder):
        settings = result["settings"]
        if settings.get("order") != order or not _whole_settings(folder, settings):
            continue
        for run in result["runs"]:
            if not _whole_run(folder, settings, run):
                continue
            seed = settings.get("order_seed"), run["seed"]
            known = cases.setdefault((run["regulariser"], run["rate"]), [])
            if any(other["seed"] == seed for other in known):
                raise ValueError(f"{path} repeats {run['regulariser']} {run['rate']} {seed}")
            kind = result["machine"]["device kind"]
            known.append(run | {"seed": seed, "device kind": kind})
    return cases


def _whole_settings(folder: str, settings: Mapping[str, Any]) -> bool:
    """Whether they are those of [A], but for what does not count here."""
    free = {"order", "order_seed", *report.RUN_SETTINGS}
    config = resnet.Config() if folder == "resnet" else indrnn.Config()
    wanted, found = but_epochs(config.facts()), but_epochs(dict(settings))
    return all(found.get(name) == value for name, value in wanted.items() if name not in free)


def _whole_run(folder: str, settings: Mapping[str, Any], run: Run) -> bool:
    if run["test"] is None:
        return False
    if folder == "resnet":
        return run["epochs"] >= settings["recipe"]["length"]
    return run["status"] == STATUS[STOPPED]


def _whole_dense(run: Run) -> bool:
    ended = run["status"] == STATUS[STOPPED] or run["epochs"] >= LONG_ENOUGH
    return run["test"] is not None and ended


def _read(results: pathlib.Path, folder: str) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    paths = sorted(results.glob(f"{folder}/*/result.json"))
    return [(path, json.loads(path.read_text())) for path in paths]


def _any(results: pathlib.Path, folder: str) -> bool:
    return any(results.glob(f"{folder}/*/result.json"))


def _by_rate(cases: Cases, regulariser: str) -> dict[float, list[Run]]:
    rates = sorted(rate for name, rate in cases if name == regulariser)
    return {rate: cases[regulariser, rate] for rate in rates}


def _told(what: str, found: Mapping[float, Mean]) -> str:
    each = (f"{signed(gain)} at {rate:g}" for rate, gain in found.items() if gain.seeds)
    return f"{what}: {', '.join(each)}"


def _accuracy(runs: Sequence[Run], published: float) -> tuple[str, str, str]:
    """Our accuracy, the difference from a published one, and whether they are the same."""
    if not runs:
        return "-", "-", NOT_ON_GPU
    found = report.mean([1 - run["test"]["error"] for run in runs])
    apart = Mean(100 * (found.value - published), 100 * found.standard_error, found.seeds)
    ours = f"{found.value:.4f}"
    if found.seeds > 1:
        ours += f" ± {found.standard_error:.4f}"
    return ours, signed(apart), within(apart, SAME)


TABLES = [structured_schedules, structured_claims, recurrent_accuracies]
