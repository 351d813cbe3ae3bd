"""What the tables share."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

from train.report import tables as report

NOT_MEASURED = "*Not yet measured.*"
DATA = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "digits": "Digits",
    "cifar10": "CIFAR-10",
}

Table = Callable[[pathlib.Path], str]


def from_file(name: str) -> Callable[[Callable[[dict[str, Any]], str]], Table]:
    """Makes a function of a result a table, of the result in a file and where that comes from.

    Args:
        name: the file, below the folder of results.
    """

    def decorate(function: Callable[[dict[str, Any]], str]) -> Table:
        @functools.wraps(function)
        def made(results: pathlib.Path) -> str:
            path = results / name
            if not path.exists():
                return NOT_MEASURED
            result = json.loads(path.read_text())
            return f"{function(result)}\n\n{origin(result)}"

        return made

    return decorate


def from_each(pattern: str) -> Callable[[Callable[[dict[str, Any]], str]], Table]:
    """Makes a function of a result a table, of the results in all files of a pattern.

    Args:
        pattern: of files below the folder of results.
    """

    def decorate(function: Callable[[dict[str, Any]], str]) -> Table:
        @functools.wraps(function)
        def made(results: pathlib.Path) -> str:
            found = [json.loads(path.read_text()) for path in sorted(results.glob(pattern))]
            return "\n\n".join(map(function, found)) or NOT_MEASURED

        return made

    return decorate


def origin(result: dict[str, Any], data: bool = True) -> str:
    """Which command, commit and machine a result comes from, and if asked which data."""
    machine = result["machine"]
    torch = f", PyTorch {result['torch']}" if result.get("torch") else ""
    blackjax = f", BlackJAX {machine['blackjax']}" if "blackjax" in machine else ""
    files = f"; {result['data']}" if data and "data" in result else ""
    return (
        f"`{result['command'].strip()}`, {_commit(result)}, "
        f"{machine['device kind']} ({machine['threads']} threads), Python {machine['python']}, "
        f"JAX {machine['jax']}, Flax {machine['flax']}{torch}{blackjax}{files}."
    )


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def with_quartiles(row: dict[str, Any], name: str, digits: int = 2) -> str:
    """A median, and the quartiles that the row has under the same name with "_low" and "_high"."""
    median, low, high = (f"{row[name + end]:.{digits}f}" for end in ("", "_low", "_high"))
    return f"{median} ({low}-{high})"


def of_ratio(ratio: dict[str, float], digits: int = 2) -> str:
    """A `benchmarks.timing.Ratio`: its median, and its quartiles."""
    row = {"ratio": ratio["median"], "ratio_low": ratio["low"], "ratio_high": ratio["high"]}
    return with_quartiles(row, "ratio", digits)


def mean(runs: list[dict[str, Any]], way: str, figure: str, factor: int, digits: int) -> str:
    found = report.over_seeds(runs, way, figure)
    if found.seeds == 0:
        return "-"
    value = f"{factor * found.value:.{digits}f}"
    return value if found.seeds == 1 else f"{value} ± {factor * found.standard_error:.{digits}f}"


def difference(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Mean difference of the test errors of runs of the same seeds, in percentage points."""
    return signed(report.difference(runs, others))


def signed(found: report.Mean) -> str:
    """A mean difference with its standard error."""
    if found.seeds == 0:
        return "-"
    value = f"{found.value:+.2f}"
    return value if found.seeds == 1 else f"{value} ± {found.standard_error:.2f}"


def _commit(result: dict[str, Any]) -> str:
    """The commit that a result comes from, and whether files differed from it."""
    commit, *changed = result["commit"].split(" + ")
    return f"commit `{commit[:12]}`" + " with uncommitted changes" * bool(changed)
