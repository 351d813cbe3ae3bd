"""The tables of the regression experiment, from its JSON files; nothing is trained.

python -m train.uci.table results/uci   # as Markdown
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.files import DataFileError
from train.report.results import read_json
from train.report.statistics import Mean, mean
from train.report.tables import Grid
from train.uci.methods import METHODS
from train.uci.published import ANCHORS, DIAGONAL_DVI, PAPER, SETS, Column, decimals, number

FIGURES = {"log likelihood": "Test log-likelihood", "rmse": "Test RMSE"}
COVERAGE = "coverage"  # the share of test rows in their 95 % interval
NOISES = ("heteroscedastic", "homoscedastic")
OURS = ("moments_natural", "moments_adam")  # what stands beside the BP column of [B]

Found = dict[tuple[str, str, str], dict[str, Any]]  # by data, method and noise


# -- results


def read(path: Path) -> dict[str, Any]:
    """The result of a cell.

    Raises:
        DataFileError: the file is no such result.
    """

    def check(result: Any) -> None:
        for split in result["splits"]:
            _ = split["rmse"], split["log likelihood"]
        if not result["splits"]:
            raise ValueError("it has no splits")
        _ = result["settings"]["data"], result["settings"]["method"], result["settings"]["noise"]
        _ = dict(result["seconds"])

    remedy = "Delete it, and the command makes it again."
    return read_json(path, check, "result of `python -m train.uci`", remedy)


def read_all(folder: Path) -> list[dict[str, Any]]:
    """The results of all cells below a folder.

    Raises:
        DataFileError: there are none, or one is bad.
    """
    paths = sorted(folder.glob("*/*.json"))
    if not paths:
        raise DataFileError(
            f"{folder} holds no results; `python -m train.uci --out {folder}` makes them."
        )
    return [read(path) for path in paths]


def by_cell(results: Sequence[dict[str, Any]]) -> Found:
    """Results by data, method and noise.

    Raises:
        ValueError: two are of the same cell.
    """
    found: Found = {}
    for result in results:
        settings = result["settings"]
        name = settings["data"], settings["method"], settings["noise"]
        if name in found:
            raise ValueError(f"two results of {' '.join(name)}")
        found[name] = result
    return found


# -- figures


def values(result: dict[str, Any], figure: str) -> list[float]:
    """A figure of each split; what was not finite is not a number."""
    return [math.nan if s[figure] is None else s[figure] for s in result["splits"]]


def over_splits(result: dict[str, Any], figure: str) -> Mean:
    """Mean and standard error of a figure over the splits; not a number if one of them is not."""
    return mean(values(result, figure))


def seconds_per_split(result: dict[str, Any]) -> float:
    """Compilation, search, training and test, divided by the number of splits."""
    return sum(result["seconds"].values()) / len(result["splits"])


def digits_of(data: str, figure: str) -> int:
    """Decimal places of a figure; of an RMSE by the size of the target's unit."""
    return {"kin8nm": 4, "naval": 5}.get(data, 3) if figure == "rmse" else 3


def recipe_mark(result: dict[str, Any]) -> str:
    """The mark of a cell's recipe: "" of the present one; "‡" where candidates were compared after
    a shorter training; "†" where, before, a posterior's divergence counted in full from the first
    step, and coverage was not measured."""
    if COVERAGE not in result["splits"][0]:
        return "†"
    return "‡" if "search_epochs" in result["settings"] else ""


def told(found: Found, data: str, method: str, noise: str, figure: str) -> str:
    """A figure of a cell with its standard error and the mark of its recipe; "-" where it was not
    measured."""
    result = found.get((data, method, noise))
    if result is None or figure not in result["splits"][0]:
        return "-"
    return over_splits(result, figure).told(digits_of(data, figure)) + recipe_mark(result)


def together(found: Found, *names: tuple[str, str, str]) -> bool:
    """Whether cells are there and were made by one recipe."""
    return all(name in found for name in names) and (
        len({recipe_mark(found[name]) for name in names}) == 1
    )


def line(result: dict[str, Any]) -> str:
    """A cell in a few words."""
    settings = result["settings"]
    cell = settings["data"], settings["method"], settings["noise"]
    likelihood, rmse = (told({cell: result}, *cell, figure) for figure in FIGURES)
    seconds = seconds_per_split(result)
    return f"{' '.join(cell)}: LL {likelihood}, RMSE {rmse}, {seconds:.2f} s/split"


def title(method: str, noise: str) -> str:
    """The heading of a method with a kind of noise."""
    return f"{METHODS[method].title}, {noise}"


def ours(found: Found) -> list[tuple[str, str]]:
    """Our two ways of training by moments, with each kind of noise that was measured."""
    measured = {(method, noise) for _, method, noise in found}
    return [(m, noise) for m in reversed(OURS) for noise in NOISES if (m, noise) in measured]


# -- tables


def grids(results: Sequence[dict[str, Any]]) -> list[Grid]:
    """All tables: our methods, ours beside published figures, what was reached, and the time."""
    found = by_cell(results)
    published = [name for name in SETS if any(data == name for data, _, _ in found)]
    made = own(found)
    if published:
        made += [grid for figure in FIGURES for grid in beside(found, published, figure)]
        made += [reached(found, published, *each) for each in ours(found)]
    return [*made, times(found)]


def own(found: Found) -> list[Grid]:
    """The figures of all methods, a table for each figure and kind of noise."""
    titles = FIGURES
    if any(COVERAGE in result["splits"][0] for result in found.values()):
        titles = {**FIGURES, COVERAGE: "Share of test rows within the 95 % interval"}
    methods = _methods(found)
    return [
        Grid(
            f"{name}, {noise} noise: mean over splits ± standard error",
            ["data", *(METHODS[method].title for method in methods)],
            [[data, *(told(found, data, m, noise, figure) for m in methods)] for data in names],
        )
        for figure, name in titles.items()
        for noise in NOISES
        if (names := [data for data in ("diabetes", *SETS) if _any(found, data, noise)])
    ]


def times(found: Found) -> Grid:
    """What a split took, by method."""

    def seconds(*cell: str) -> str:
        result = found.get((cell[0], cell[1], cell[2]))
        return f"{seconds_per_split(result):.2f}" if result else "-"

    methods = _methods(found)
    return Grid(
        "Seconds per split: compilation, search, training and test, divided by the splits",
        ["data", "noise", *(METHODS[method].title for method in methods)],
        [
            [data, noise, *(seconds(data, method, noise) for method in methods)]
            for data in ("diabetes", *SETS)
            for noise in NOISES
            if _any(found, data, noise)
        ],
        names=2,
    )


def beside(found: Found, names: Sequence[str], figure: str) -> list[Grid]:
    """A figure of ours beside the columns of [B], and beside those of others."""
    mine = ours(found)
    return [
        Grid(
            f"{FIGURES[figure]} beside {whose} (as printed; sources in train/uci/published.py)",
            ["data", *(title(*each) for each in mine), *(column.title for column in columns)],
            [
                [
                    data,
                    *(told(found, data, method, noise, figure) for method, noise in mine),
                    *(printed(column, figure, data) for column in columns),
                ]
                for data in names
            ],
        )
        for whose, every in (("[B] Table 2", PAPER), ("others", ANCHORS))
        if (columns := [c for c in every if figure != "rmse" or c.rmse])
    ]


def reached(found: Found, names: Sequence[str], method: str, noise: str) -> Grid:
    """How a method stands to [B] and to diagonal DVI, set by set."""
    verdict = {
        data: standing(found[cell]) for data in names if (cell := (data, method, noise)) in found
    }
    return Grid(
        f"What was reached by {title(method, noise)}: at the printed precision of [B], "
        "against its best column and its BP; against diagonal DVI within a standard error",
        ["data", *next(iter(verdict.values()), {})],
        [[data, *each.values()] for data, each in verdict.items()],
    )


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """All tables as Markdown."""
    return "\n\n".join(grid.titled() for grid in grids(results)) + "\n"


def tables(results: Sequence[dict[str, Any]]) -> list[Any]:
    """All tables as `rich` tables."""
    return [grid.rich() for grid in grids(results)]


def _methods(found: Found) -> list[str]:
    return [method for method in METHODS if any(m == method for _, m, _ in found)]


def _any(found: Found, data: str, noise: str) -> bool:
    return any((d, n) == (data, noise) for d, _, n in found)


# -- beside published figures


def printed(column: Column, figure: str, data: str) -> str:
    """A published figure as it is printed; "-" where there is none."""
    column_values = column.rmse if figure == "rmse" else column.log_likelihood
    return column_values[SETS.index(data)] if column_values else "-"


def standing(result: dict[str, Any]) -> dict[str, str]:
    """How a cell stands to [B] and to diagonal DVI: "better", "level" or "worse"."""
    data = result["settings"]["data"]
    made = {}
    for figure, short in (("log likelihood", "LL"), ("rmse", "RMSE")):
        best, own = against_paper(over_splits(result, figure).value, figure, data)
        made |= {f"{short}: best of [B]": best, f"{short}: BP": own}
    likelihood = over_splits(result, "log likelihood")
    return made | {"LL: dDVI": against_diagonal_dvi(likelihood, data)}


def best_of_paper(figure: str, data: str) -> str:
    """The best of the columns of [B], as printed."""
    sign = -1 if figure == "rmse" else 1
    every = [printed(column, figure, data) for column in PAPER]
    return max(every, key=lambda text: sign * number(text))


def against_paper(value: float, figure: str, data: str) -> tuple[str, str]:
    """Our figure against the best column of [B] and against its BP, at the digits of each.

    Args:
        value: ours.
        figure: "log likelihood" (more is better) or "rmse" (less is).
        data: the table.

    Returns:
        "better", "level" or "worse", for each.

    Example:
        >>> against_paper(-2.46, "log likelihood", "boston")
        ('level', 'better')
    """
    sign = -1 if figure == "rmse" else 1
    best, own = best_of_paper(figure, data), printed(PAPER[0], figure, data)
    return _against(value, best, sign), _against(value, own, sign)


def _against(value: float, text: str, sign: int) -> str:
    difference = sign * (round(value, decimals(text)) - number(text))
    if difference > 0:
        return "better"
    return "level" if difference == 0 else "worse"  # not a number is worse


def against_diagonal_dvi(likelihood: Mean, data: str) -> str:
    """Our log-likelihood against that of diagonal DVI: "level" is within our standard error."""
    difference = likelihood.value - number(printed(DIAGONAL_DVI, "log likelihood", data))
    if difference > likelihood.standard_error:
        return "better"
    return "level" if difference >= -likelihood.standard_error else "worse"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m train.uci.table FOLDER", file=sys.stderr)
        return 2
    try:
        print(markdown(read_all(Path(arguments[0]))), end="")
    except DataFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
