"""The tables of the regression experiment, from its JSON files; nothing is trained.

python -m train.uci.table results/uci   # as Markdown
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from train.report.files import DataFileError
from train.report.tables import Mean, mean
from train.uci.methods import METHODS
from train.uci.published import (
    ANCHORS,
    DIAGONAL_DVI,
    PAPER,
    SETS,
    Column,
    decimals,
    number,
)

FIGURES = {"log likelihood": "Test log-likelihood", "rmse": "Test RMSE"}
NOISES = ("heteroscedastic", "homoscedastic")
OURS = ("moments_natural", "moments_adam")  # what stands beside the BP column of [B]


class Grid(NamedTuple):
    """A table as text."""

    title: str
    head: list[str]
    lines: list[list[str]]


def read(path: Path) -> dict[str, Any]:
    """The result of a cell.

    Raises:
        DataFileError: the file is no such result.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        for split in result["splits"]:
            _ = split["rmse"], split["log likelihood"]
        _ = result["settings"]["data"], result["settings"]["method"], result["settings"]["noise"]
        _ = dict(result["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(
            f"{path} is no result of `python -m train.uci` ({type(error).__name__}: {error}). "
            "Delete it, and the command makes it again."
        ) from error
    return result


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


def over_splits(result: dict[str, Any], figure: str) -> Mean:
    """Mean and standard error of a figure over the splits; not a number if one of them is not."""
    values = [split[figure] for split in result["splits"]]
    return mean([float("nan") if value is None else value for value in values])


def seconds_per_split(result: dict[str, Any]) -> float:
    """Compilation, search, training and test, divided by the number of splits."""
    return sum(result["seconds"].values()) / len(result["splits"])


def line(result: dict[str, Any]) -> str:
    """A cell in a few words."""
    settings = result["settings"]
    name = f"{settings['data']} {settings['method']} {settings['noise']}"
    digits = digits_of(settings["data"])
    return (
        f"{name}: LL {cell(over_splits(result, 'log likelihood'), 3)}, "
        f"RMSE {cell(over_splits(result, 'rmse'), digits)}, {seconds_per_split(result):.2f} s/split"
    )


def cell(figure: Mean | None, digits: int) -> str:
    """A figure with its standard error.

    Example:
        >>> cell(Mean(1.234, 0.056, 20), 2), cell(None, 2)
        ('1.23 ±0.06', '-')
    """
    if figure is None or figure.seeds == 0:
        return "-"
    value = f"{figure.value:.{digits}f}"
    known = figure.standard_error == figure.standard_error
    return f"{value} ±{figure.standard_error:.{digits}f}" if known else value


def grids(results: Sequence[dict[str, Any]]) -> list[Grid]:
    """All tables: our methods, ours beside published figures, what was reached, and the time."""
    found = by_cell(results)
    names = [n for n in ("diabetes", *SETS) if any(data == n for data, _, _ in found)]
    methods = [method for method in METHODS if any(m == method for _, m, _ in found)]
    made = [
        Grid(
            f"{title}, {noise} noise: mean over splits ± standard error",
            ["data", *(METHODS[method].title for method in methods)],
            [
                [data, *(figure_of(found, data, m, noise, figure) for m in methods)]
                for data in names
            ],
        )
        for figure, title in FIGURES.items()
        for noise in NOISES
        if any(n == noise for _, _, n in found)
    ]
    published = [name for name in names if name in SETS]
    if published:
        made += [beside(found, published, figure, title) for figure, title in FIGURES.items()]
        made += [
            reached(found, published, method, noise)
            for method in OURS
            for noise in NOISES
            if any((data, method, noise) in found for data in published)
        ]
    made.append(
        Grid(
            "Seconds per split: compilation, search, training and test, divided by the splits",
            ["data", "noise", *(METHODS[method].title for method in methods)],
            [
                [data, noise, *(_time(found.get((data, m, noise))) for m in methods)]
                for data in names
                for noise in NOISES
                if any((data, m, noise) in found for m in methods)
            ],
        )
    )
    return made


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """All tables as Markdown."""
    parts = []
    for grid in grids(results):
        rows = [grid.head, ["---"] + ["---:"] * (len(grid.head) - 1), *grid.lines]
        text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        parts.append(f"{grid.title}:\n\n{text}")
    return "\n".join(parts)


def tables(results: Sequence[dict[str, Any]]) -> list[Any]:
    """The tables of our own methods as `rich` tables."""
    from rich import box
    from rich.table import Table

    made = []
    for grid in grids(results):
        table = Table(title=grid.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, heading in enumerate(grid.head):
            table.add_column(heading, justify="left" if i == 0 else "right")
        for row in grid.lines:
            table.add_row(*row)
        made.append(table)
    return made


Found = dict[tuple[str, str, str], dict[str, Any]]


def by_cell(results: Sequence[dict[str, Any]]) -> Found:
    found: Found = {}
    for result in results:
        settings = result["settings"]
        name = settings["data"], settings["method"], settings["noise"]
        if name in found:
            raise ValueError(f"two results of {' '.join(name)}")
        found[name] = result
    return found


def digits_of(data: str) -> int:
    """Decimal places of an RMSE, by the size of the target's unit."""
    return {"kin8nm": 4, "naval": 5}.get(data, 3)


def figure_of(found: Found, data: str, method: str, noise: str, figure: str) -> str:
    result = found.get((data, method, noise))
    digits = digits_of(data) if figure == "rmse" else 3
    return cell(over_splits(result, figure), digits) if result else "-"


def _time(result: dict[str, Any] | None) -> str:
    return f"{seconds_per_split(result):.2f}" if result else "-"


def printed_figure(column: Column, figure: str, data: str) -> str:
    values = column.rmse if figure == "rmse" else column.log_likelihood
    return values[SETS.index(data)] if values else "-"


def beside(found: Found, names: Sequence[str], figure: str, title: str) -> Grid:
    ours = [
        (method, noise)
        for method in OURS
        for noise in NOISES
        if any((data, method, noise) in found for data in names)
    ]
    columns = [c for c in (*PAPER, *ANCHORS) if figure != "rmse" or c.rmse]
    return Grid(
        f"{title} beside published figures (as printed; sources in train/uci/published.py)",
        [
            "data",
            *(f"{METHODS[method].title}, {noise}" for method, noise in ours),
            *(column.title for column in columns),
        ],
        [
            [
                data,
                *(figure_of(found, data, method, noise, figure) for method, noise in ours),
                *(printed_figure(column, figure, data) for column in columns),
            ]
            for data in names
        ],
    )


def reached(found: Found, names: Sequence[str], method: str, noise: str) -> Grid:
    """How a method stands to [B] and to diagonal DVI, set by set."""
    lines = []
    for data in names:
        result = found.get((data, method, noise))
        if result is not None:
            likelihood = over_splits(result, "log likelihood")
            lines.append(
                [
                    data,
                    *against_paper(likelihood.value, "log likelihood", data),
                    *against_paper(over_splits(result, "rmse").value, "rmse", data),
                    against_diagonal_dvi(likelihood, data),
                ]
            )
    return Grid(
        f"What was reached by {METHODS[method].title}, {noise}: at the printed precision of [B], "
        "against its best column and its BP; against diagonal DVI within a standard error",
        ["data", "LL: best of [B]", "LL: BP", "RMSE: best of [B]", "RMSE: BP", "LL: dDVI"],
        lines,
    )


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
    printed = [printed_figure(column, figure, data) for column in PAPER]
    best = max(printed, key=lambda text: sign * number(text))
    return against(value, best, sign), against(value, printed[0], sign)


def against(value: float, printed: str, sign: int) -> str:
    difference = sign * (round(value, decimals(printed)) - number(printed))
    if difference > 0:
        return "better"
    return "level" if difference == 0 else "worse"  # not a number is worse


def against_diagonal_dvi(ours: Mean, data: str) -> str:
    """Our log-likelihood against that of diagonal DVI: "level" is within our standard error."""
    difference = ours.value - number(printed_figure(DIAGONAL_DVI, "log likelihood", data))
    if difference > ours.standard_error:
        return "better"
    return "level" if difference >= -ours.standard_error else "worse"


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
