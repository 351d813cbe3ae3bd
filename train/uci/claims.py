"""What the regression tables were to reach, and whether they did: counted from their results.

Two methods are compared split by split: the difference of their figures on the same test rows, its
mean, and the standard error of that mean. "Level" is within two standard errors. The splits share
rows, so that the standard errors are too small rather than too large.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from train.report.tables import Mean, mean
from train.uci.methods import METHODS
from train.uci.published import ANCHORS, DIAGONAL_DVI, PAPER, SETS, decimals, number
from train.uci.table import (
    FIGURES,
    NOISES,
    OURS,
    Found,
    Grid,
    against_diagonal_dvi,
    against_paper,
    by_cell,
    digits_of,
    figure_of,
    over_splits,
    printed_figure,
    seconds_per_split,
)

MAIN = ("moments_adam", "heteroscedastic")  # what stands for "BP" where one is to be named
VERDICTS = ("better", "level", "worse")
SHORT = {"log likelihood": "LL", "rmse": "RMSE"}
AT_LEAST = 6  # sets on which to be level with or better than diagonal DVI
STALL = 4.0  # search and training do the same work; so many times the other's is another's doing


class Stall(NamedTuple):
    """A part of a cell that took far longer than its work does."""

    data: str
    method: str
    noise: str
    part: str  # "search" or "training"
    seconds: float
    expected: float  # by the other part's seconds per epoch


def main_title() -> str:
    """The heading of `MAIN` in tables."""
    return f"{METHODS[MAIN[0]].title}, {MAIN[1]}"


def measured_sets(found: Found) -> list[str]:
    """The sets that `MAIN` and published figures can be compared on."""
    return [data for data in SETS if (data, *MAIN) in found]


# -- against published figures


def summary(found: Found) -> Grid:
    """Log-likelihoods of a few methods with computed noise, and published ones."""
    noise = MAIN[1]
    methods = ("moments_adam", "ensemble", "dropout", "pcff")
    columns = (*PAPER[:2], DIAGONAL_DVI)
    return Grid(
        "Test log-likelihood",
        ["data", *(METHODS[method].title for method in methods), *(c.title for c in columns)],
        [
            [
                data,
                *(
                    figure_of(found, data, m, noise, "log likelihood").replace("±", "± ")
                    for m in methods
                ),
                *(printed_figure(column, "log likelihood", data) for column in columns),
            ]
            for data in measured_sets(found)
        ],
    )


def verdicts(found: Found, method: str, noise: str) -> dict[str, dict[str, str]]:
    """How a method stands to [B] and to diagonal DVI: `{what: {data: verdict}}`."""
    made: dict[str, dict[str, str]] = {}
    for data in SETS:
        if (data, method, noise) not in found:
            continue
        result = found[data, method, noise]
        for figure, short in SHORT.items():
            best, own = against_paper(over_splits(result, figure).value, figure, data)
            made.setdefault(f"{short}: best of [B]", {})[data] = best
            made.setdefault(f"{short}: BP", {})[data] = own
        likelihood = over_splits(result, "log likelihood")
        made.setdefault("LL: dDVI", {})[data] = against_diagonal_dvi(likelihood, data)
    return made


def counts(found: Found) -> Grid:
    """On how many sets each of our columns is better, level and worse."""
    chosen = [verdicts(found, method, noise) for method, noise in _ours(found)]
    return Grid(
        "Number of sets better / level / worse",
        ["", *(chosen[0] if chosen else ())],
        [
            [f"{METHODS[method].title}, {noise}", *map(_tally, verdict.values())]
            for (method, noise), verdict in zip(_ours(found), chosen, strict=True)
        ],
    )


def reached(found: Found) -> list[str]:
    """What was to be reached by `MAIN`, point by point, in sentences."""
    verdict = verdicts(found, *MAIN)
    sets = len(verdict["LL: BP"])
    lines = []
    for figure, short in SHORT.items():
        best, own = verdict[f"{short}: best of [B]"], verdict[f"{short}: BP"]
        fine = sets - len(_which(best, "worse"))
        lines.append(
            f"*{FIGURES[figure]} not worse than the best column of [B] on any set, at its printed "
            f"precision*: {_holds(fine == sets)}: on {fine} of {sets} (better on "
            f"{_names(best, 'better')}; level on {_names(best, 'level')})"
            f"{_missed(found, figure, best)}."
        )
        level = _which(own, "level")
        room = [data for data in level if _room(data, figure)]
        none = [data for data in level if data not in room]
        worse = _which(own, "worse")
        parts = [
            f"better on {_names(own, 'better')}",
            room and f"level on {_list(room)}, with room",
            none and f"level on {_list(none)}, where the best published figure rounds to the same",
            f"worse on {_list(worse)}",
        ]
        lines.append(
            f"*{FIGURES[figure]} better than the BP column of [B] where the rounding leaves room*: "
            f"{_holds(not room and not worse)}: {'; '.join(part for part in parts if part)}."
        )
    other = verdict["LL: dDVI"]
    fine = sets - len(_which(other, "worse"))
    misses = []
    for data in _which(other, "worse"):
        ours = over_splits(found[data, *MAIN], "log likelihood")
        missing = number(printed_figure(DIAGONAL_DVI, "log likelihood", data)) - ours.value
        misses.append(f"{data} by {missing:.3f} (standard error {ours.standard_error:.3f})")
    lines.append(
        "*Test log-likelihood level with or better than diagonal DVI, within a standard error, on "
        f"at least {AT_LEAST} sets*: {_holds(fine >= AT_LEAST)}: on {fine} of {sets} (better on "
        f"{_names(other, 'better')}; level on {_names(other, 'level')}); missed: {_list(misses)}."
    )
    return lines


def _missed(found: Found, figure: str, verdict: dict[str, str]) -> str:
    """The sets where the best column of [B] was not reached, with both figures."""
    sign = -1 if figure == "rmse" else 1
    texts = []
    for data in _which(verdict, "worse"):
        printed = [printed_figure(column, figure, data) for column in PAPER]
        best = max(printed, key=lambda text: sign * number(text)).partition("±")[0]
        ours = over_splits(found[data, *MAIN], figure).value
        texts.append(f"{data}, {ours:.{max(digits_of(data), 3)}f} against {best}")
    return f"; worse on {' and '.join(texts)}" if texts else ""


def _room(data: str, figure: str) -> bool:
    """Whether any published figure is better than the BP of [B] at the digits of that."""
    sign = -1 if figure == "rmse" else 1
    own = printed_figure(PAPER[0], figure, data)
    figures = [printed_figure(column, figure, data) for column in (*PAPER, *ANCHORS)]
    best = max(sign * number(text) for text in figures if text != "-")
    return sign * round(sign * best, decimals(own)) > sign * number(own)


# -- between our methods


def gain(found: Found, data: str, figure: str, one: str, other: str, noise: str) -> Mean:
    """How much better a method is than another: positive is better, for RMSE too."""
    sign = -1 if figure == "rmse" else 1
    splits = zip(
        found[data, one, noise]["splits"], found[data, other, noise]["splits"], strict=True
    )
    return mean([sign * (_value(a, figure) - _value(b, figure)) for a, b in splits])


def verdict_of(difference: Mean) -> str:
    """Better or worse is more than two standard errors from 0.

    Example:
        >>> verdict_of(Mean(0.5, 0.2, 20)), verdict_of(Mean(-0.3, 0.2, 20))
        ('better', 'level')
    """
    if difference.value > 2 * difference.standard_error:
        return "better"
    return "level" if difference.value >= -2 * difference.standard_error else "worse"


def between(found: Found, one: str, other: str, noise: str, figure: str) -> dict[str, str]:
    """A method's verdict against another on each set: `{data: verdict}`."""
    return {
        data: verdict_of(gain(found, data, figure, one, other, noise))
        for data in SETS
        if (data, one, noise) in found and (data, other, noise) in found
    }


def gains(found: Found) -> Grid:
    """By how much `MAIN` is better than a deep ensemble and local reparameterisation."""
    one, noise = MAIN
    others = ("ensemble", "local_reparameterization")
    pairs = [(figure, other) for figure in FIGURES for other in others]
    return Grid(
        f"Gain of {METHODS[one].title}, {noise}: mean over splits ± standard error, above 0 is "
        "better",
        ["data", *(f"{SHORT[figure]}, over {METHODS[other].title}" for figure, other in pairs)],
        [
            [
                data,
                *(
                    _signed(
                        gain(found, data, figure, one, other, noise),
                        digits_of(data) if figure == "rmse" else 3,
                    )
                    for figure, other in pairs
                ),
            ]
            for data in SETS
            if all((data, method, noise) in found for method in (one, *others))
        ],
    )


def duels(found: Found) -> Grid:
    """On how many sets our two ways of training by moments beat every other method."""
    columns = [(one, noise, figure) for one, noise in _ours(found) for figure in FIGURES]
    return Grid(
        "Number of sets better / level / worse, by the difference split by split",
        ["against", *(f"{METHODS[one].title}, {noise}: {SHORT[f]}" for one, noise, f in columns)],
        [
            [
                METHODS[other].title,
                *(
                    _tally(between(found, one, other, noise, figure))
                    for one, noise, figure in columns
                ),
            ]
            for other in METHODS
            if other not in OURS
        ],
    )


def claims(found: Found) -> list[str]:
    """The claims about BP, a deep ensemble and local reparameterisation, in sentences."""
    lines = []
    one, noise = MAIN
    for column, other in zip(PAPER[1:], ("ensemble", "local_reparameterization"), strict=True):
        name = "a deep ensemble" if other == "ensemble" else METHODS[other].title
        parts = []
        for figure, short in SHORT.items():
            sign = -1 if figure == "rmse" else 1
            in_print = sum(
                sign * number(printed_figure(PAPER[0], figure, data))
                >= sign * number(printed_figure(column, figure, data))
                for data in SETS
            )
            ours = between(found, one, other, noise, figure)
            fine = len(ours) - len(_which(ours, "worse"))
            parts.append(
                f"by {short} {_holds(2 * fine > len(ours))} here, on {fine} of {len(ours)} (better "
                f"on {_names(ours, 'better')}; worse on {_names(ours, 'worse')}), in print on "
                f"{in_print} of {len(SETS)}"
            )
        lines.append(f"*BP is level with or better than {name} on most sets*: {'; '.join(parts)}.")
    likelihood, rmse = (between(found, *OURS, noise, figure) for figure in FIGURES)
    lines.append(
        f"Natural gradient against Adam, both by moments, {noise}: by LL better on "
        f"{_names(likelihood, 'better')}, worse on {_names(likelihood, 'worse')}; by RMSE better "
        f"on {_names(rmse, 'better')}, worse on {_names(rmse, 'worse')}."
    )
    return lines


# -- splits that go wrong


def tails(found: Found, data: str) -> Grid:
    """RMSE and log-likelihood of each split of a set, with computed noise."""
    noise = NOISES[0]
    methods = [method for method in METHODS if (data, method, noise) in found]
    splits = len(found[data, methods[0], noise]["splits"]) if methods else 0
    return Grid(
        f"{data}, {noise}: RMSE (log-likelihood) of each split",
        ["method", *(f"split {number + 1}" for number in range(splits)), "splits gone wrong"],
        [
            [
                METHODS[method].title,
                *(
                    f"{_value(split, 'rmse'):.2f} ({_value(split, 'log likelihood'):.2f})"
                    for split in found[data, method, noise]["splits"]
                ),
                str(len(gone_wrong(found, data, method))),
            ]
            for method in methods
        ],
    )


def gone_wrong(found: Found, data: str, method: str) -> list[int]:
    """The splits, from 0, whose heteroscedastic RMSE is 1.5 times the homoscedastic one."""
    pairs = zip(*(found[data, method, noise]["splits"] for noise in NOISES), strict=True)
    return [
        i
        for i, (varying, fixed) in enumerate(pairs)
        if not _value(varying, "rmse") <= 1.5 * _value(fixed, "rmse")  # not a number is wrong too
    ]


def overconfident(found: Found) -> str:
    """Splits whose log-likelihood falls by more than 1 if the network computes the noise."""
    texts = []
    for data, method in itertools.product(SETS, METHODS):
        if any((data, method, noise) not in found for noise in NOISES):
            continue
        pairs = zip(*(found[data, method, noise]["splits"] for noise in NOISES), strict=True)
        bad = [
            _value(varying, "log likelihood")
            for varying, fixed in pairs
            if not _value(varying, "log likelihood") >= _value(fixed, "log likelihood") - 1
        ]
        if bad:
            least = f"{min(bad):.1f}"
            texts.append(f"{len(bad)} of {data} by {METHODS[method].title} (lowest {least})")
    return _list(texts, "; ")


# -- time


def stalls(results: Sequence[dict[str, Any]]) -> list[Stall]:
    """Parts of cells in which the machine did something else, as far as times tell.

    The program of search and training is the same, for another number of epochs.
    """
    made = []
    for result in results:
        settings, seconds = result["settings"], result["seconds"]
        epochs = {
            "search": settings["search_epochs"] * len(settings["candidates"]),
            "training": settings["epochs"],
        }
        for part, other in itertools.permutations(epochs):
            expected = seconds[other] / epochs[other] * epochs[part]
            if seconds[part] > STALL * expected:
                cell = settings["data"], settings["method"], settings["noise"]
                made.append(Stall(*cell, part, seconds[part], expected))
    return made


def total(results: Sequence[dict[str, Any]]) -> str:
    """The seconds of all cells, with those that stalled named."""
    seconds = sum(sum(result["seconds"].values()) for result in results)
    found = stalls(results)
    each = by_cell(results)
    texts = [
        f"{s.data}, {METHODS[s.method].title}, {s.noise} ({s.part} {s.seconds:.0f} s instead of "
        f"about {s.expected:.0f}; {seconds_per_split(each[s[:3]]):.1f} s a "
        "split)"
        for s in found
    ]
    lost = sum(s.seconds - s.expected for s in found)
    text = f"All {len(results)} cells took {seconds:.0f} s, {seconds / 3600:.2f} hours"
    if not found:
        return f"{text}."
    return (
        f"{text}, of which {lost:.0f} s were lost where the machine stalled: {_list(texts, '; ')}. "
        f"Without them it is {(seconds - lost) / 3600:.2f} hours."
    )


# -- words


def _ours(found: Found) -> list[tuple[str, str]]:
    return [
        (method, noise)
        for method in reversed(OURS)
        for noise in NOISES
        if any((data, method, noise) in found for data in SETS)
    ]


def _value(split: dict[str, Any], figure: str) -> float:
    """A figure of a split; what was not finite is not a number."""
    return math.nan if split[figure] is None else split[figure]


def _which(verdict: dict[str, str], what: str) -> list[str]:
    return [data for data, found in verdict.items() if found == what]


def _names(verdict: dict[str, str], what: str) -> str:
    return _list(_which(verdict, what))


def _list(texts: Sequence[str], separator: str = ", ") -> str:
    return separator.join(texts) or "none"


def _tally(verdict: dict[str, str]) -> str:
    return " / ".join(str(len(_which(verdict, what))) for what in VERDICTS)


def _holds(true: bool) -> str:
    return "holds" if true else "does not hold"


def _signed(figure: Mean, digits: int) -> str:
    return f"{figure.value:+.{digits}f} ± {figure.standard_error:.{digits}f}"
