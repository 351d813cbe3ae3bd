"""What the regression tables say about the claims of [B] 4.2; where methods go wrong; and the time.

Two methods are compared split by split, by the rule of `train.report.statistics`: the 95 % interval
of the mean difference leaves out 0. The splits of a set share rows, so that the intervals are too
narrow rather than too wide. Published figures, which come without their splits, are compared at
their printed digits.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.report.claims import ABSENT, Claim, judged
from train.report.statistics import Mean, paired
from train.report.tables import Grid
from train.uci.methods import METHODS
from train.uci.published import DIAGONAL_DVI, PAPER, SHORT, number
from train.uci.settings import SETS
from train.uci.table import (
    FIGURES,
    NOISES,
    OURS,
    SIGNS,
    Found,
    Result,
    digits_of,
    name_of,
    ours,
    read_all,
    seconds_per_split,
    standing,
    title,
    together,
    told,
    values,
)

MAIN = ("moments_adam", "heteroscedastic")  # what stands for "BP" where one is to be named
RIVALS = ("ensemble", "local_reparameterization")  # the other two columns of [B]
SOURCE = "[B] Table 2: regression"
COMMAND = "python -m train.uci --data-dir FOLDER"
DECIDED = {1: "better", 0: "not decided", -1: "worse"}
STALL = 4.0  # search and training do the same work; so many times the other's is another's doing


def measured_sets(found: Found) -> list[str]:
    """The sets that `MAIN` and published figures can be compared on."""
    return [data for data in SETS if (data, *MAIN) in found]


# -- the claims of [B]


def claims(results: Path) -> list[Claim]:
    """Those of Table 2, where `MAIN` stands for BP, from the folder of results."""
    found = read_all(results / "uci") if (results / "uci").exists() else {}
    made = []

    def add(text: str, signs: Mapping[str, int], at_least: int, told: str) -> None:
        missing = [0] * (len(SETS) - len(signs))  # not measured, so open
        verdict = judged([*signs.values(), *missing], 1, at_least) if signs else ABSENT
        made.append(Claim(SOURCE, text, verdict, told if signs else "-", COMMAND))

    for short in SHORT.values():
        words = {d: standing(found[d, *MAIN])[f"{short}: BP"] for d in measured_sets(found)}
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
        told = f"{_decided(signs)}; in print behind on {behind}"
        add(text, signs, len(SETS) // 2 + 1, told)
    return made


def gain(found: Found, data: str, figure: str, one: str, other: str, noise: str) -> Mean:
    """How much better a method is than another: positive is better, for RMSE too. One that is not
    finite on a split is infinitely worse."""
    mine, its = (
        {k: SIGNS[figure] * v for k, v in enumerate(values(found[data, method, noise], figure))}
        for method in (one, other)
    )
    for figures, worst in ((mine, -math.inf), (its, math.inf)):
        if any(map(math.isnan, figures.values())):
            return Mean(worst, 0.0, len(mine))
    return paired(mine, its)


def between(found: Found, one: str, noise: str, other: str, figure: str) -> dict[str, int]:
    """On each set the sign of what a method gains over another; 0 where it is not decided. Sets
    on which the two were trained by different recipes are left out."""
    return {
        data: gain(found, data, figure, one, other, noise).sign
        for data in SETS
        if together(found, (data, one, noise), (data, other, noise))
    }


def gains(found: Found) -> Grid:
    """By how much `MAIN` is better than a deep ensemble and local reparameterisation."""
    one, noise = MAIN
    pairs = list(itertools.product(FIGURES, RIVALS))

    def told(data: str, figure: str, other: str) -> str:
        if not together(found, (data, one, noise), (data, other, noise)):
            return "-"
        difference = gain(found, data, figure, one, other, noise)
        return difference.told(digits_of(data, figure), signed=True)

    return Grid(
        f"Gain of {title(*MAIN)}: mean over splits ± standard error, above 0 is better",
        ["data", *(f"{SHORT[figure]}, over {METHODS[other].title}" for figure, other in pairs)],
        [[data, *(told(data, *pair) for pair in pairs)] for data in measured_sets(found)],
    )


def duels(found: Found) -> Grid:
    """On how many sets our two ways of training by moments beat every other method."""
    columns = [(one, noise, figure) for one, noise in ours(found) for figure in FIGURES]
    return Grid(
        "Number of sets better / not decided / worse, by the difference split by split",
        ["against", *(f"{title(one, noise)}: {SHORT[f]}" for one, noise, f in columns)],
        [
            [METHODS[other].title]
            + [
                tally(between(found, one, noise, other, figure).values(), DECIDED)
                for one, noise, figure in columns
            ]
            for other in METHODS
            if other not in OURS
        ],
    )


def natural(found: Found) -> str:
    """Natural gradient against Adam, in a sentence."""
    parts = [
        f"by {short} {_decided(between(found, OURS[0], MAIN[1], OURS[1], figure))}"
        for figure, short in SHORT.items()
    ]
    return f"Natural gradient against Adam, both by moments, {MAIN[1]}: {'; '.join(parts)}."


def summary(found: Found) -> Grid:
    """Log-likelihoods of a few methods with computed noise, and published ones."""
    methods, figure = (MAIN[0], "ensemble", "dropout", "pcff"), "log likelihood"
    columns = (*PAPER[:2], DIAGONAL_DVI)
    return Grid(
        FIGURES[figure],
        ["data", *(METHODS[method].title for method in methods), *(c.title for c in columns)],
        [
            [data]
            + [told(found, data, method, MAIN[1], figure) for method in methods]
            + [column.printed(figure, data) for column in columns]
            for data in measured_sets(found)
        ],
    )


# -- splits that go wrong


def tails(found: Found, data: str) -> Grid:
    """RMSE and log-likelihood of each split of a set, with computed noise."""
    noise = NOISES[0]
    lines = []
    for method in METHODS:
        if result := found.get((data, method, noise)):
            pairs = zip(values(result, "rmse"), values(result, "log likelihood"), strict=True)
            alike = together(found, *((data, method, noise) for noise in NOISES))
            wrong = str(len(gone_wrong(found, data, method))) if alike else "-"
            lines.append([METHODS[method].title, *(f"{a:.2f} ({b:.2f})" for a, b in pairs), wrong])
    splits = len(lines[0]) - 2 if lines else 0
    return Grid(
        f"{data}, {noise}: RMSE (log-likelihood) of each split",
        ["method", *(f"split {number + 1}" for number in range(splits)), "splits gone wrong"],
        lines,
    )


def gone_wrong(found: Found, data: str, method: str) -> list[int]:
    """The splits, from 0, whose heteroscedastic RMSE is 1.5 times the homoscedastic one."""
    varying, fixed = (values(found[data, method, noise], "rmse") for noise in NOISES)
    # Not a number is wrong too.
    return [i for i, each in enumerate(varying) if not each <= 1.5 * fixed[i]]


def overconfident(found: Found) -> str:
    """Splits whose log-likelihood falls by more than 1 if the network computes the noise."""
    texts = []
    for data, method in itertools.product(SETS, METHODS):
        if together(found, *((data, method, noise) for noise in NOISES)):
            varying, fixed = (values(found[data, method, n], "log likelihood") for n in NOISES)
            bad = [each for i, each in enumerate(varying) if not each >= fixed[i] - 1]
            if bad:
                name = METHODS[method].title
                texts.append(f"{len(bad)} of {data} by {name} (lowest {min(bad):.1f})")
    return "; ".join(texts) or "none"


# -- time


def stalls(results: Iterable[Result]) -> list[tuple[str, float]]:
    """Parts of cells in which the machine did something else, as far as times tell, and the seconds
    that were lost so.

    The program of search and training is the same, for another number of epochs.
    """
    made = []
    for result in results:
        settings, seconds = result["settings"], result["seconds"]
        # Earlier recipes' candidates were trained for a shorter time.
        each = settings.get("search_epochs", settings["epochs"])
        epochs = {"search": each * len(settings["candidates"]), "training": settings["epochs"]}
        for part, other in itertools.permutations(epochs):
            expected = seconds[other] / epochs[other] * epochs[part]
            if seconds[part] > STALL * expected:
                data, method, noise = name_of(result)
                told = f"{part} {seconds[part]:.0f} s instead of about {expected:.0f}"
                split = f"{seconds_per_split(result):.1f} s a split"
                name = f"{data}, {title(method, noise)} ({told}; {split})"
                made.append((name, seconds[part] - expected))
    return made


def total(found: Found) -> str:
    """The seconds of all cells, with those that stalled named."""
    seconds = sum(sum(result["seconds"].values()) for result in found.values())
    text = f"All {len(found)} cells took {seconds:.0f} s, {seconds / 3600:.2f} hours"
    stalled = stalls(found.values())
    if not stalled:
        return f"{text}."
    lost = sum(each for _, each in stalled)
    return (
        f"{text}, of which {lost:.0f} s were lost where the machine stalled: "
        f"{'; '.join(name for name, _ in stalled)}. Without them it is "
        f"{(seconds - lost) / 3600:.2f} hours."
    )


# -- words


def _named(words: Mapping[str, str], which: Sequence[str]) -> str:
    """The sets of each word: "better on energy, yacht; worse on none"."""
    names = {word: [data for data, each in words.items() if each == word] for word in which}
    return "; ".join(f"{word} on {', '.join(sets) or 'none'}" for word, sets in names.items())


def _decided(signs: Mapping[str, int]) -> str:
    return _named({data: DECIDED[sign] for data, sign in signs.items()}, ("better", "worse"))


def tally(found: Iterable[Any], values: Iterable[Any]) -> str:
    """How often each value is found: "3 / 4 / 2"."""
    counted = list(found)
    return " / ".join(str(counted.count(value)) for value in values)
