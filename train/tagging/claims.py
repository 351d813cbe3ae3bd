"""What tagged sentences say about linear chains as last components ([A] section 3). Only whole
trainings do, on all sentences and with three seeds or more."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from train.report.claims import (
    ABSENT,
    FAILS,
    HOLDS,
    SMALL,
    Claim,
    judged,
    of_three,
    on_differences,
    told,
)
from train.report.statistics import Mean, mean
from train.tagging.settings import Cell, Config, Data, Head
from train.tagging.table import REGULARISERS, Result, by_data, by_seed, labels, read_all

SOURCE = "[A] section 3: named entities and parts of speech"
COMMAND = "python -m train.tagging --data SET --data-dir FOLDER"
CALIBRATED = 2.0  # percentage points of expected calibration error, below which marginals count so
CHAINS: tuple[Head, ...] = ("chain", "constrained")
SETS: dict[str, str] = {"wnut17": "WNUT", "ewt": "EWT"}


class _Comparison(NamedTuple):
    """A claim that a figure differs between laws of the tags, all else the same."""

    text: str
    figure: str
    factor: float
    wanted: int
    heads: tuple[Head, Head]  # the difference is of the first less the second
    data: tuple[Data, ...]


_OF_ENTITIES: tuple[Data, ...] = ("wnut17",)
_ALL: tuple[Data, ...] = ("wnut17", "ewt")
_COMPARISONS = (
    _Comparison(
        "A chain finds entities better than independent tags do (F1)",
        "f1",
        100,
        1,
        ("chain", "softmax"),
        _OF_ENTITIES,
    ),
    _Comparison(
        "A chain in which what IOB2 forbids has probability 0 finds entities better than "
        "independent tags do (F1)",
        "f1",
        100,
        1,
        ("constrained", "softmax"),
        _OF_ENTITIES,
    ),
    _Comparison(
        "More sentences are right throughout by a chain than by independent tags",
        "sentences right",
        100,
        1,
        ("chain", "softmax"),
        _ALL,
    ),
    _Comparison(
        "The tags of a sentence are more probable by a chain than by independent tags (NLL a "
        "sentence, nats)",
        "nll per sentence",
        1,
        -1,
        ("chain", "softmax"),
        _ALL,
    ),
    _Comparison(
        "Marginals of a chain are better calibrated than probabilities of independent tags (ECE)",
        "ece",
        100,
        -1,
        ("chain", "softmax"),
        _ALL,
    ),
    _Comparison(
        "A second chain on the marginals of the first finds entities better than one alone (F1)",
        "f1",
        100,
        1,
        ("stacked", "constrained"),
        _OF_ENTITIES,
    ),
)

Cases = dict[tuple[str, Cell], Result]


def claims(results: Path) -> list[Claim]:
    """Those that [A] makes, from the folder of results: entities are found better."""
    return expected(results)[:2]


def expected(results: Path) -> list[Claim]:
    """All that was expected, and what became of it, from the folder of results."""
    cases = _whole(results / "tagging")
    made = [Claim(SOURCE, each.text, *_compared(each, cases), COMMAND) for each in _COMPARISONS]
    for text, parts in (
        ("A constrained chain never takes an invalid step", _valid(cases)),
        (
            f"Marginals of chains are calibrated: an ECE below {CALIBRATED:g} points",
            _calibrated(cases),
        ),
        (
            "PCFF of hidden nodes finds entities better than no regulariser (F1)",
            _regularised(cases, "pcff"),
        ),
        (
            "PCFF of the lower one of two chains finds entities better than no regulariser (F1)",
            _regularised(cases, "pcff_tags"),
        ),
    ):
        made.append(Claim(SOURCE, text, *parts, COMMAND))
    return made


def _whole(folder: Path) -> Cases:
    """The cells of whole trainings; ValueError if one is there twice."""
    cases: Cases = {}
    every = by_data(read_all(folder)).values()
    for result in (result for results in every for result in results):
        data, *cell = labels(result)
        known = Cell(*cell)  # pyright: ignore[reportArgumentType]: as the settings have them
        wanted = Config(data=data).facts(known)  # pyright: ignore[reportArgumentType]
        found = result["settings"]
        if all(found.get(name) == value for name, value in wanted.items() if name != "seeds"):
            if (data, known) in cases:
                raise ValueError(f"{folder} holds {data} {known.file} twice")
            cases[data, known] = result
    return cases


def _name(data: str, cell: Cell) -> str:
    return f"{SETS.get(data, data)} {cell.encoder} {REGULARISERS[cell.regulariser]}"  # pyright: ignore


def _paired(one: Result, other: Result, figure: str, factor: float) -> Mean:
    mine, theirs = by_seed(one, figure), by_seed(other, figure)
    return of_three(mean([factor * (v - theirs[s]) for s, v in mine.items() if s in theirs]))


def _compared(each: _Comparison, cases: Cases) -> tuple[str, str]:
    first, second = each.heads
    found = {}
    for (data, cell), result in cases.items():
        other = cases.get((data, cell._replace(head=second)))
        if data in each.data and cell.head == first and other is not None:
            found[_name(data, cell)] = _paired(result, other, each.figure, each.factor)
    return on_differences(found, each.wanted)


def _regularised(cases: Cases, regulariser: str) -> tuple[str, str]:
    found = {}
    for (data, cell), result in cases.items():
        other = cases.get((data, cell._replace(regulariser="none")))
        if data == "wnut17" and cell.regulariser == regulariser and other is not None:
            found[f"{SETS[data]} {cell.encoder} {cell.head}"] = _paired(result, other, "f1", 100)
    return on_differences(found, 1)


def _chains(cases: Cases, heads: Sequence[str]) -> Iterator[tuple[str, Result]]:
    for (data, cell), result in cases.items():
        if cell.head in heads:
            yield f"{_name(data, cell)} {cell.head}", result


def _valid(cases: Cases) -> tuple[str, str]:
    """Whether no invalid step was taken, which is counted: there is nothing to estimate."""
    counts = {
        head: [
            count
            for (data, cell), result in cases.items()
            if cell.head == head and data == "wnut17"
            for count in by_seed(result, "invalid steps").values()
        ]
        for head in ("constrained", "chain", "softmax")
    }
    own = counts["constrained"]
    if not own:
        return ABSENT, SMALL
    evidence = f"{sum(own):g} in {len(own)} runs"
    for head, name in (("chain", "a chain without constraints"), ("softmax", "independent tags")):
        if counts[head]:
            evidence += f"; {name} {mean(counts[head]).told(1)} a run"
    return (FAILS if any(own) else HOLDS), evidence


def _calibrated(cases: Cases) -> tuple[str, str]:
    found = {
        name: of_three(mean([100 * ece for ece in by_seed(result, "ece").values()]))
        for name, result in _chains(cases, CHAINS)
    }
    if not found:
        return ABSENT, SMALL
    above = [each._replace(value=each.value - CALIBRATED).sign for each in found.values()]
    return judged(above, -1), told(found).replace("+", "")
