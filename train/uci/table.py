"""The tables of the regression experiment, from its JSON files; nothing is trained.

python -m train.uci.table results/uci   # as Markdown
"""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from train.report.files import DataFileError
from train.report.results import Result, read_json
from train.report.statistics import Mean, mean
from train.report.tables import Grid
from train.uci.methods import METHODS
from train.uci.published import ANCHORS, DIAGONAL_DVI, PAPER, SHORT, Column, number
from train.uci.settings import SETS, Cell, Moments, Noise

FIGURES = {"log likelihood": "Test log-likelihood", "rmse": "Test RMSE"}
SIGNS = {"log likelihood": 1, "rmse": -1}  # of what is better
COVERAGE = "coverage"  # the share of test rows in their 95 % interval
NOISES, OURS = get_args(Noise), get_args(Moments)  # ours stand beside the BP column of [B]
WORDS = ("better", "level", "worse")
EVERY = ("diabetes", *SETS)

Found = dict[tuple[str, str, str], Result]  # by data, method and noise


# -- results


def read(path: Path) -> Result:
    """The result of a cell; a `DataFileError` of a file that is none."""

    def check(result: Any) -> None:
        for split in result["splits"]:
            _ = split["rmse"], split["log likelihood"]
        if not result["splits"]:
            raise ValueError("it has no splits")
        _ = name_of(result), dict(result["seconds"])

    return read_json(path, check, "result of `python -m train.uci`")


def name_of(result: Result) -> Cell:
    """Which entry of the table a result is of."""
    return Cell(*(result["settings"][name] for name in Cell._fields))


def read_all(folder: Path) -> Found:
    """The results of all cells below a folder; a `DataFileError` if there are none, one is bad, or
    two are of the same cell."""
    found: Found = {}
    for path in sorted(folder.glob("*/*.json")):
        result = read(path)
        name = name_of(result)
        if name in found:
            raise DataFileError(f"{path} is another result of {' '.join(name)}; move one away.")
        found[name] = result
    if not found:
        remedy = f"`python -m train.uci --out {folder}` makes them"
        raise DataFileError(f"{folder} holds no results; {remedy}.")
    return found


# -- figures


def values(splits: Sequence[Mapping[str, Any]], figure: str) -> dict[int, float]:
    """A figure by split; what was not finite is not a number."""
    every = [split[figure] for split in splits]
    return {i: math.nan if value is None else value for i, value in enumerate(every)}


def over_splits(result: Result, figure: str) -> Mean:
    """Mean and standard error of a figure over the splits; not a number if one of them is not."""
    return mean(list(values(result["splits"], figure).values()))


def seconds_per_split(result: Result) -> float:
    """Compilation, search, training and test, divided by the number of splits."""
    return sum(result["seconds"].values()) / len(result["splits"])


def digits_of(data: str, figure: str) -> int:
    """Decimal places of a figure; of an RMSE by the size of the target's unit."""
    return {"kin8nm": 4, "naval": 5}.get(data, 3) if figure == "rmse" else 3


def told(found: Found, data: str, method: str, noise: str, figure: str) -> str:
    """A figure of a cell with its standard error; "-" where it was not measured."""
    result = found.get((data, method, noise))
    if result is None or figure not in result["splits"][0]:
        return "-"
    return over_splits(result, figure).told(digits_of(data, figure))


def line(result: Result) -> str:
    """A cell in a few words."""
    name = name_of(result)
    likelihood, rmse = (told({name: result}, *name, figure) for figure in FIGURES)
    seconds = seconds_per_split(result)
    return f"{' '.join(name)}: LL {likelihood}, RMSE {rmse}, {seconds:.2f} s/split"


def title(method: str, noise: str) -> str:
    """The heading of a method with a kind of noise."""
    return f"{METHODS[method].title}, {noise}"


def ours(found: Found) -> list[tuple[str, str]]:
    """Our two ways of training by moments, with each kind of noise that was measured."""
    measured = {(method, noise) for _, method, noise in found}
    return [(m, noise) for m in reversed(OURS) for noise in NOISES if (m, noise) in measured]


# -- beside published figures


def best_of_paper(figure: str, data: str) -> str:
    """The best of the columns of [B], as printed."""
    every = [column.printed(figure, data) for column in PAPER]
    return max(every, key=lambda text: SIGNS[figure] * number(text))


def word(difference: float, margin: float = 0.0) -> str:
    """A difference in a word: "level" is within the margin, and not a number is "worse".

    Example:
        >>> word(0.2), word(0.2, 0.5), word(-0.2), word(math.nan)
        ('better', 'level', 'worse', 'worse')
    """
    better, level, worse = WORDS
    if difference > margin:
        return better
    return level if difference >= -margin else worse


def standing(result: Result) -> dict[str, str]:
    """How a cell stands: to the best column of [B] and to its BP, at the digits that are printed
    there; and to diagonal DVI, within our standard error."""
    data, made = result["settings"]["data"], {}
    for figure, short in SHORT.items():
        value = over_splits(result, figure).value
        best, own = best_of_paper(figure, data), PAPER[0].printed(figure, data)
        for whose, text in (("best of [B]", best), ("BP", own)):
            decimals = len(text.partition("±")[0].partition(".")[2])
            difference = round(value, decimals) - number(text)
            made[f"{short}: {whose}"] = word(SIGNS[figure] * difference)
    likelihood = over_splits(result, "log likelihood")
    difference = likelihood.value - number(DIAGONAL_DVI.printed("log likelihood", data))
    return made | {"LL: dDVI": word(difference, likelihood.standard_error)}


# -- tables


def grids(found: Found) -> list[Grid]:
    """All tables: our methods, ours beside published figures, what was reached, and the time."""
    return [
        *own(found),
        *(grid for figure in FIGURES for grid in beside(found, figure)),
        *(grid for each in ours(found) if (grid := reached(found, *each)).lines),
        times(found),
    ]


def by_set(heading: str, sets: Iterable[str], columns: Mapping[str, Callable[[str], str]]) -> Grid:
    """A line for each set, and in each column what a function says of it."""
    lines = [[data, *(cell(data) for cell in columns.values())] for data in sets]
    return Grid(heading, ["data", *columns], lines)


def of_cells(found: Found, cells: Iterable[tuple[str, str, str]], figure: str) -> dict[str, Any]:
    """Columns with a figure of cells, each by its heading, method and noise."""
    return {
        heading: functools.partial(told, found, method=method, noise=noise, figure=figure)
        for heading, method, noise in cells
    }


def own(found: Found) -> list[Grid]:
    """The figures of all methods, a table for each figure and kind of noise."""
    titles, made = {**FIGURES, COVERAGE: "Share of test rows within the 95 % interval"}, []
    for (figure, name), noise in itertools.product(titles.items(), NOISES):
        if sets := [data for data in EVERY if any((data, m, noise) in found for m in METHODS)]:
            heading = f"{name}, {noise} noise: mean over splits ± standard error"
            cells = [(METHODS[method].title, method, noise) for method in _methods(found)]
            made.append(by_set(heading, sets, of_cells(found, cells, figure)))
    return made


def times(found: Found) -> Grid:
    """What a split took, by method."""
    methods, lines = _methods(found), []
    for data, noise in itertools.product(EVERY, NOISES):
        cells = [found.get((data, method, noise)) for method in methods]
        if any(cells):
            seconds = [f"{seconds_per_split(cell):.2f}" if cell else "-" for cell in cells]
            lines.append([data, noise, *seconds])
    heading = "Seconds per split: compilation, search, training and test, divided by the splits"
    return Grid(heading, ["data", "noise", *(METHODS[m].title for m in methods)], lines, names=2)


def beside(found: Found, figure: str) -> list[Grid]:
    """A figure of ours beside the columns of [B], and beside those of others."""
    sets = [data for data in SETS if any(data == name for name, _, _ in found)]
    mine = of_cells(found, [(title(*each), *each) for each in ours(found)], figure)
    return [
        by_set(
            f"{FIGURES[figure]} beside {whose} (as printed; sources in train/uci/published.py)",
            sets,
            mine | printed(every, figure),
        )
        for whose, every in (("[B] Table 2", PAPER), ("others", ANCHORS))
        if sets
    ]


def printed(columns: Iterable[Column], figure: str) -> dict[str, Any]:
    """Published columns that have a figure."""
    return {
        column.title: functools.partial(column.printed, figure)
        for column in columns
        if SHORT[figure] in column.figures
    }


def reached(found: Found, method: str, noise: str) -> Grid:
    """How a method stands to [B] and to diagonal DVI, set by set."""
    sets = [data for data in SETS if (data, method, noise) in found]
    verdicts = [standing(found[data, method, noise]) for data in sets]
    heading = (
        f"What was reached by {title(method, noise)}: at the printed precision of [B], against its "
        "best column and its BP; against diagonal DVI within a standard error"
    )
    lines = [[data, *each.values()] for data, each in zip(sets, verdicts, strict=True)]
    return Grid(heading, ["data", *(verdicts[0] if verdicts else ())], lines)


def _methods(found: Found) -> list[str]:
    return [method for method in METHODS if any(m == method for _, m, _ in found)]


def markdown(found: Found) -> str:
    """All tables as Markdown."""
    return "\n\n".join(grid.titled() for grid in grids(found)) + "\n"


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    if len(arguments) != 1:
        sys.exit("usage: python -m train.uci.table FOLDER")
    try:
        print(markdown(read_all(Path(arguments[0]))), end="")
    except DataFileError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
