"""What the regression tables say: about the claims of [B] 4.2, about what was to be reached, about
splits on which methods go wrong, and about the time.

Two methods are compared split by split, by the rule of `train.report.statistics`: the 95 % interval
of the mean difference leaves out 0. The splits of a set share rows, so that the intervals are too
narrow rather than too wide. Published figures, which come without their splits, are compared at
their printed digits, or within a standard error of ours.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.report.claims import ABSENT, Claim, Verdict, judged
from train.report.statistics import Mean, paired
from train.report.tables import Grid
from train.uci import table
from train.uci.methods import METHODS
from train.uci.published import DIAGONAL_DVI, PAPER, SHORT, TAGI_SECONDS, number
from train.uci.settings import SETS
from train.uci.table import COVERAGE, FIGURES, NOISES, OURS, SIGNS, Found, name_of

MAIN = ("moments_adam", "heteroscedastic")  # what stands for "BP" where one is to be named
RIVALS = ("ensemble", "local_reparameterization")  # the other two columns of [B]
SOURCE = "[B] Table 2: regression"
COMMAND = "python -m train.uci --data-dir FOLDER"
# What was to be reached: on so many sets, and between which shares of rows.
DVI_SETS, ENSEMBLE_SETS, TAGI_SETS, COVERED = 8, 5, 6, (0.93, 0.97)
DECIDED = {1: "better", 0: "not decided", -1: "worse"}
STALL = 4.0  # search and training do the same work; so many times the other's is another's doing


def measured_sets(found: Found) -> list[str]:
    """The sets that `MAIN` and published figures can be compared on."""
    return [data for data in SETS if (data, *MAIN) in found]


# -- the claims of [B]


def claims(results: Path) -> list[Claim]:
    """Those of Table 2, where `MAIN` stands for BP, from the folder of results."""
    found = table.read_all(results / "uci") if (results / "uci").exists() else {}
    made = []

    def add(text: str, signs: Mapping[str, int], at_least: int, told: str) -> None:
        told = told if signs else "-"
        made.append(Claim(SOURCE, text, _verdict(signs, at_least), told, COMMAND))

    for short in SHORT.values():
        words = {d: table.standing(found[d, *MAIN])[f"{short}: BP"] for d in measured_sets(found)}
        reached = {data: -1 if word == "worse" else 1 for data, word in words.items()}
        text = f"BP reaches its {short} of the table on all nine sets, at the printed digits"
        add(text, reached, len(SETS), _named(words, ("worse", "level")))
    for (column, rival), figure in itertools.product(zip(PAPER[1:], RIVALS, strict=True), SHORT):
        behind = sum(
            SIGNS[figure] * (number(PAPER[0].printed(figure, data)) - number(text)) < 0
            for data in SETS
            for text in [column.printed(figure, data)]
        )
        signs = between(found, *MAIN, rival, figure)
        name = "a deep ensemble" if rival == "ensemble" else METHODS[rival].title
        text = f"BP is not behind {name} on most of the nine sets, by {SHORT[figure]}"
        add(text, signs, len(SETS) // 2 + 1, f"{_decided(signs)}; in print behind on {behind}")
    return made


def of_splits(found: Found, data: str, method: str, noise: str, figure: str) -> dict[int, float]:
    """A figure of a cell by split."""
    return table.values(found[data, method, noise]["splits"], figure)


def gain(found: Found, data: str, figure: str, one: str, other: str, noise: str) -> Mean:
    """How much better a method is than another: positive is better, for RMSE too. One that is not
    finite on a split is infinitely worse."""
    mine, its = (of_splits(found, data, method, noise, figure) for method in (one, other))
    for figures, worst in ((mine, -math.inf), (its, math.inf)):
        if any(map(math.isnan, figures.values())):
            return Mean(worst, 0.0, len(mine))
    return paired(mine, its) if SIGNS[figure] > 0 else paired(its, mine)


def between(found: Found, one: str, noise: str, other: str, figure: str) -> dict[str, int]:
    """On each set with both the sign of what a method gains over another; 0 where it is not
    decided."""
    return {
        data: gain(found, data, figure, one, other, noise).sign
        for data in SETS
        if {(data, one, noise), (data, other, noise)} <= found.keys()
    }


def gains(found: Found) -> Grid:
    """By how much `MAIN` is better than a deep ensemble and local reparameterisation."""
    one, noise = MAIN

    def told(figure: str, other: str, data: str) -> str:
        if not {(data, one, noise), (data, other, noise)} <= found.keys():
            return "-"
        difference = gain(found, data, figure, one, other, noise)
        return difference.told(table.digits_of(data, figure), signed=True)

    columns = {
        f"{SHORT[figure]}, over {METHODS[other].title}": functools.partial(told, figure, other)
        for figure, other in itertools.product(FIGURES, RIVALS)
    }
    heading = f"Gain of {table.title(*MAIN)}: mean over splits ± standard error, above 0 is better"
    return table.by_set(heading, measured_sets(found), columns)


def duels(found: Found) -> Grid:
    """On how many sets our two ways of training by moments beat every other method."""
    columns = [(one, noise, figure) for one, noise in table.ours(found) for figure in FIGURES]
    lines = []
    for other in (method for method in METHODS if method not in OURS):
        signs = (between(found, one, noise, other, figure) for one, noise, figure in columns)
        lines.append([METHODS[other].title, *(tally(each.values(), DECIDED) for each in signs)])
    heads = (f"{table.title(one, noise)}: {SHORT[figure]}" for one, noise, figure in columns)
    heading = "Number of sets better / not decided / worse, by the difference split by split"
    return Grid(heading, ["against", *heads], lines)


def natural(found: Found) -> str:
    """Natural gradient against Adam, in a sentence."""
    parts = [
        f"by {short} {_decided(between(found, OURS[0], MAIN[1], OURS[1], figure))}"
        for figure, short in SHORT.items()
    ]
    return f"Natural gradient against Adam, both by moments, {MAIN[1]}: {'; '.join(parts)}."


def summary(found: Found) -> Grid:
    """Log-likelihoods of a few methods with computed noise, and published ones."""
    figure, noise = "log likelihood", MAIN[1]
    methods = (MAIN[0], "ensemble", "dropout", "pcff")
    cells = [(METHODS[method].title, method, noise) for method in methods]
    columns = table.of_cells(found, cells, figure)
    columns |= table.printed((*PAPER[:2], DIAGONAL_DVI), figure)
    return table.by_set(FIGURES[figure], measured_sets(found), columns)


# -- what was to be reached


def counts(found: Found) -> Grid:
    """On how many sets each of our columns is better, level and worse than published ones."""
    lines, head = [], []
    for each in table.ours(found):
        by_set = table.reached(found, *each)
        head = head or by_set.head[1:]
        words = list(zip(*by_set.lines, strict=True))[1:]
        lines.append([table.title(*each), *(tally(column, table.WORDS) for column in words)])
    return Grid("Number of sets better / level / worse", ["", *head], lines)


def targets(found: Found) -> list[str]:
    """What was to be reached by `MAIN`, point by point, in sentences."""
    cells = {data: found[data, *MAIN] for data in measured_sets(found)}
    verdict = {data: table.standing(cell) for data, cell in cells.items()}
    likelihood = {data: table.over_splits(cell, "log likelihood") for data, cell in cells.items()}
    lines = []
    for figure, short in SHORT.items():
        what = f"{FIGURES[figure]} not worse than the best column of [B] on any set, as printed"
        worse = {
            data: f"{table.over_splits(cell, figure).value:.{table.digits_of(data, figure)}f} "
            f"against {table.best_of_paper(figure, data).partition('±')[0]}"
            for data, cell in cells.items()
            if verdict[data][f"{short}: best of [B]"] == "worse"
        }
        lines.append(_target(what, len(SETS), cells, worse))
    what = "Test log-likelihood level with or better than diagonal DVI, within a standard error"
    behind = {
        data: f"by {number(DIAGONAL_DVI.printed('log likelihood', data)) - ours.value:.3f}, "
        f"standard error {ours.standard_error:.3f}"
        for data, ours in likelihood.items()
        if verdict[data]["LL: dDVI"] == "worse"
    }
    lines.append(_target(what, DVI_SETS, cells, behind))
    signs = between(found, *MAIN, "ensemble", "log likelihood")
    what = "Test log-likelihood better than a deep ensemble of the same recipe"
    undecided = {data: DECIDED[sign] for data, sign in signs.items() if sign < 1}
    lines.append(_target(what, ENSEMBLE_SETS, signs, undecided))
    low, high = COVERED
    covered = {
        data: table.over_splits(cell, COVERAGE).value
        for data, cell in cells.items()
        if COVERAGE in cell["splits"][0]
    }
    what = f"A share of {low} to {high} of the test rows within their 95 % intervals"
    outside = {d: f"{share:.3f}" for d, share in covered.items() if not low <= share <= high}
    lines.append(_target(what, len(SETS), covered, outside))
    limits = dict(zip(SETS, TAGI_SECONDS, strict=True))
    slow = {
        data: f"{seconds:.2f} s against {limits[data]:g}"
        for data, cell in cells.items()
        if (seconds := table.seconds_per_split(cell)) >= limits[data]
    }
    what = "Time per split, search included, below that printed for TAGI"
    return [*lines, _target(what, TAGI_SETS, cells, slow)]


def _target(what: str, needed: int, measured: Iterable[str], misses: dict[str, str]) -> str:
    """A sentence on what was to be reached on so many sets, by those on which it was not."""
    signs = {data: -1 if data in misses else 1 for data in measured}
    missed = "; ".join(f"{data} ({told})" for data, told in misses.items()) or "none"
    on = f": on {len(signs) - len(misses)} of {len(signs)}; missed: {missed}" if signs else ""
    return f"*{what}, on at least {needed}*: {_verdict(signs, needed)}{on}."


def _verdict(signs: Mapping[str, int], needed: int) -> Verdict:
    """Whether a sign is 1 on so many of the nine sets, of which some may not be measured."""
    missing = [0] * (len(SETS) - len(signs))
    return judged([*signs.values(), *missing], 1, needed) if signs else ABSENT


# -- splits that go wrong


def tails(found: Found, data: str) -> Grid:
    """RMSE and log-likelihood of each split of a set, with computed noise."""
    noise, lines = NOISES[0], []
    for method in (method for method in METHODS if (data, method, noise) in found):
        pair = [of_splits(found, data, method, noise, f) for f in ("rmse", "log likelihood")]
        each = [f"{pair[0][i]:.2f} ({pair[1][i]:.2f})" for i in pair[0]]
        alike = {(data, method, noise) for noise in NOISES} <= found.keys()
        wrong = str(len(gone_wrong(found, data, method))) if alike else "-"
        lines.append([METHODS[method].title, *each, wrong])
    splits = [f"split {number + 1}" for number in range(len(lines[0]) - 2 if lines else 0)]
    heading = f"{data}, {noise}: RMSE (log-likelihood) of each split"
    return Grid(heading, ["method", *splits, "splits gone wrong"], lines)


def gone_wrong(found: Found, data: str, method: str) -> list[int]:
    """The splits, from 0, whose heteroscedastic RMSE is 1.5 times the homoscedastic one."""
    varying, fixed = (of_splits(found, data, method, noise, "rmse") for noise in NOISES)
    # Not a number is wrong too.
    return [i for i, each in varying.items() if not each <= 1.5 * fixed[i]]


def overconfident(found: Found) -> str:
    """Splits whose log-likelihood falls by more than 1 if the network computes the noise."""
    texts = []
    for data, method in itertools.product(SETS, METHODS):
        if {(data, method, noise) for noise in NOISES} <= found.keys():
            varying, fixed = (
                of_splits(found, data, method, noise, "log likelihood") for noise in NOISES
            )
            if bad := [each for i, each in varying.items() if not each >= fixed[i] - 1]:
                name = METHODS[method].title
                texts.append(f"{len(bad)} of {data} by {name} (lowest {min(bad):.1f})")
    return "; ".join(texts) or "none"


# -- time


def stalls(results: Iterable[table.Result]) -> dict[str, float]:
    """Parts of cells in which the machine did something else, as far as times tell, and the seconds
    that were lost so: the program of search and training is the same, for another number of epochs.
    """
    made = {}
    for result in results:
        settings, seconds, (data, *cell) = result["settings"], result["seconds"], name_of(result)
        each = settings["epochs"]
        epochs = {"search": each * len(settings["candidates"]), "training": each}
        for part, other in itertools.permutations(epochs):
            expected = seconds[other] / epochs[other] * epochs[part]
            if seconds[part] > STALL * expected:
                told = f"{part} {seconds[part]:.0f} s instead of about {expected:.0f}"
                split = f"{table.seconds_per_split(result):.1f} s a split"
                name = f"{data}, {table.title(*cell)} ({told}; {split})"
                made[name] = seconds[part] - expected
    return made


def total(found: Found) -> str:
    """The seconds of all cells, with those that stalled named."""
    seconds = sum(sum(result["seconds"].values()) for result in found.values())
    text = f"All {len(found)} cells took {seconds:.0f} s, {seconds / 3600:.2f} hours"
    if not (stalled := stalls(found.values())):
        return f"{text}."
    lost = sum(stalled.values())
    return (
        f"{text}, of which {lost:.0f} s were lost where the machine stalled: {'; '.join(stalled)}. "
        f"Without them it is {(seconds - lost) / 3600:.2f} hours."
    )


# -- words


def _named(words: Mapping[str, str], which: Sequence[str]) -> str:
    """The sets of each word: "better on energy, yacht; worse on none"."""
    names = {word: [data for data, each in words.items() if each == word] for word in which}
    return "; ".join(f"{word} on {', '.join(sets) or 'none'}" for word, sets in names.items())


def _decided(signs: Mapping[str, int]) -> str:
    words = {data: DECIDED[sign] for data, sign in signs.items()}
    return _named(words, ("better", "worse")) if words else "not compared"


def tally(found: Iterable[Any], values: Iterable[Any]) -> str:
    """How often each value is found: "3 / 4 / 2"."""
    counted = list(found)
    return " / ".join(str(counted.count(value)) for value in values)
