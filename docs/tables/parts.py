"""What the tables share: files, where results come from, and tables laid out by their columns."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.records import cell
from train.report import tables as report
from train.report.tables import NODES, REGULARISERS, Grid, Result

NOT_MEASURED = "*Not yet measured.*"

Row = Mapping[str, Any]
Table = Callable[[pathlib.Path], str]

TABLES: dict[str, Table] = {}  # by the name that pages call them


def shown(function: Table) -> Table:
    """Makes a function of the folder of results a table of the pages, by its name."""
    TABLES[function.__name__.replace("_", "-")] = function
    return function


def from_each(pattern: str, *, origins: bool = False) -> Callable[[Callable[[Any], str]], Table]:
    """Makes a function of a result a table of the pages, of the results in all files of a pattern.

    Args:
        pattern: of files below the folder of results.
        origins: whether it ends with where the result comes from.
    """

    def decorate(function: Callable[[dict[str, Any]], str]) -> Table:
        def of_one(path: pathlib.Path) -> str:
            result = json.loads(path.read_text())
            return function(result) + f"\n\n{origin(result)}" * origins

        @functools.wraps(function)
        def made(results: pathlib.Path) -> str:
            return "\n\n".join(map(of_one, sorted(results.glob(pattern)))) or NOT_MEASURED

        return shown(made)

    return decorate


def from_file(name: str) -> Callable[[Callable[[Any], str]], Table]:
    """The same of the result in one file, and where that comes from."""
    return from_each(name, origins=True)


def origin(result: dict[str, Any], data: bool = True) -> str:
    """Which command, commit and machine a result comes from, and if asked which data."""
    machine = result["machine"]
    commit, *changed = result["commit"].split(" + ")
    torch = f", PyTorch {result['torch']}" if result.get("torch") else ""
    blackjax = f", BlackJAX {machine['blackjax']}" if "blackjax" in machine else ""
    files = f"; {result['data']}" if data and "data" in result else ""
    return (
        f"`{result['command'].strip()}`, commit `{commit[:12]}`"
        f"{' with uncommitted changes' * bool(changed)}, "
        f"{machine['device kind']} ({machine['threads']} threads), Python {machine['python']}, "
        f"JAX {machine['jax']}, Flax {machine['flax']}{torch}{blackjax}{files}."
    )


def table(headings: list[str], rows: list[list[str]]) -> str:
    return Grid("", headings, rows, names=len(headings)).markdown()


def columns(rows: Iterable[Row], *given: str) -> str:
    """A table by its columns.

    Args:
        rows: the values, by name. What a row lacks, or has as None, is "-".
        given: one or, with "|" between them, several columns: the heading, and from the first brace
            on the template of a `benchmarks.records.cell`.

    Example:
        >>> rows = [{"a": 1.25, "b": 2, "b_low": 1, "b_high": 3}, {"a": None}]
        >>> print(columns(rows, "size {a:.1f} m | time (quartiles) {b~1}"))
        | size | time (quartiles) |
        | --- | --- |
        | 1.2 m | 2.0 (1.0-3.0) |
        | - | - |
    """

    pairs = [column.strip().partition("{") for column in "|".join(given).split("|")]
    lines = [[cell(row, "{" + template, "-") for _, _, template in pairs] for row in rows]
    return table([heading.strip() for heading, _, _ in pairs], lines)


def of_runs(result: Result) -> str:
    """The figures of an experiment's runs: means over seeds, and beside them those of averages of
    samples of the procedure that a run was trained with."""
    rows = []
    for first, second, runs in report.rows(result):
        names = [(NODES | REGULARISERS).get(name, name) for name in (first, second)]
        if first == "none":
            names[1] = ""  # the rate
        pairs = zip(report.cells(runs, "test"), report.cells(runs, "monte carlo"), strict=True)
        rows.append([*names, *(cell for pair in pairs for cell in pair), str(len(runs))])
    figures = [heading for _, title, _, _ in report.FIGURES for heading in (title, "averaged")]
    return table([*report.labels(result), *figures, "runs"], rows)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def picture(told: str, file: str) -> str:
    """A picture that docs/figures/pictures.py draws."""
    return f"![{told}]({file})"
