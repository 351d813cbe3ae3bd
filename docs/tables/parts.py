"""What the tables share: files, where results come from, and tables laid out by their columns."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.records import Table as BenchmarkTable
from benchmarks.records import cell
from train.report import tables as report
from train.report.tables import NODES, REGULARISERS, Grid, Result

NOT_MEASURED = "*Not yet measured.*"

Row = Mapping[str, Any]
Parts = Iterable[str | Grid]  # between which there is an empty line
Table = Callable[[pathlib.Path], str]
Decorator = Callable[[Callable[[Any], Parts]], Table]

TABLES: dict[str, Table] = {}  # by the name that pages call them


def joined(parts: Parts) -> str:
    """One text of several, or of one; those that are empty are left out."""
    if isinstance(parts, str):
        return parts
    texts = (part.titled() if isinstance(part, Grid) else part for part in parts)
    return "\n\n".join(filter(None, texts))


def of(read: Callable[[pathlib.Path], Any] = lambda results: results, name: str = "") -> Decorator:
    """Makes a function of what is found in the folder of results, if anything, or of the folder
    itself, a table of the pages, by its name or another."""

    def decorate(function: Callable[[Any], Parts]) -> Table:
        @functools.wraps(function)
        def made(results: pathlib.Path) -> str:
            found = read(results)
            return (joined(function(found)) if found else "") or NOT_MEASURED

        TABLES[name or function.__name__.replace("_", "-")] = made
        return made

    return decorate


def from_each(pattern: str, *, origins: bool = False, name: str = "") -> Decorator:
    """The same of a result, for the results in all files of a pattern below the folder; if asked,
    each followed by where it comes from."""

    def decorate(function: Callable[[Result], Parts]) -> Table:
        @functools.wraps(function)
        def made(found: list[Result]) -> Parts:
            for result in found:
                yield joined(function(result))
                yield from [origin(result)] * origins

        return of(lambda results: read_all(results, pattern), name)(made)

    return decorate


def from_file(path: str, name: str = "") -> Decorator:
    """The same of the result in one file, and where that comes from."""
    return from_each(path, origins=True, name=name)


def read_all(folder: pathlib.Path, pattern: str) -> list[Result]:
    """The results in all files of a pattern, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def origin(result: Result, data: bool = True) -> str:
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


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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


def laid_out(table: BenchmarkTable, *results: Result) -> str:
    """The table of a benchmark, of the rows of all results, without what is for a terminal."""
    rows = [row for result in results for row in table.listed(result)]
    return columns(rows, *(c for c in table.columns.split("|") if not c.strip().startswith("+")))


def beside(rows: Iterable[Row], names: Sequence[str], by: str) -> list[Row]:
    """Rows in which others stand beside each other, by one of their entries.

    Example:
        >>> beside([{"a": 1, "b": "x", "c": 2}, {"a": 1, "b": "y", "c": 3}], ["a"], "b")
        [{'a': 1, 'x': {'a': 1, 'b': 'x', 'c': 2}, 'y': {'a': 1, 'b': 'y', 'c': 3}}]
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        named = {name: row[name] for name in names}
        found.setdefault(tuple(named.values()), named)[f"{row[by]}"] = row
    return list(found.values())


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
