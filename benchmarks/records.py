"""What a benchmark measured: a ratio of times, and tables that the terminal and the history show.

Nothing here imports JAX.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """How long one function takes relative to another: quartiles over the rounds, and the ratio of
    the fastest rounds, which other work on the machine disturbs least.

    Example:
        >>> ratio = Ratio(1.05, 1.02, 1.07, 1.04)
        >>> print(ratio)
        1.05 (1.02-1.07)
        >>> ratio.figures("r")
        {'r': 1.05, 'r_low': 1.02, 'r_high': 1.07, 'r_of_fastest': 1.04}
        >>> Ratio.read(ratio.figures("r"), "r") == ratio
        True
    """

    median: float
    low: float
    high: float
    fastest: float | None = None

    @classmethod
    def read(cls, row: dict[str, Any], name: str = "ratio") -> "Ratio | None":
        """The ratio of that name in a row of JSON, in one entry or in several; none without."""
        found = row.get(name)
        if isinstance(found, dict):
            return cls(**found)
        if found is None or f"{name}_low" not in row:
            return None
        return cls(found, row[f"{name}_low"], row[f"{name}_high"], row.get(f"{name}_of_fastest"))

    def figures(self, name: str = "ratio") -> dict[str, float | None]:
        """As entries of a row of JSON."""
        ends = ("", "_low", "_high", "_of_fastest")
        return {f"{name}{end}": value for end, value in zip(ends, self, strict=True)}

    def times(self, factor: float) -> "Ratio":
        """The same times a number."""
        fastest = None if self.fastest is None else factor * self.fastest
        return Ratio(factor * self.median, factor * self.low, factor * self.high, fastest)

    def told(self, digits: int = 2) -> str:
        """The median, and the quartiles in brackets."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"

    def __str__(self) -> str:
        return self.told()


class Timing(NamedTuple):
    """The times of one function."""

    each: np.ndarray  # float64[rounds], seconds of one call

    @property
    def seconds(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.each))

    def ratio(self, baseline: "Timing") -> Ratio:
        """Relative to another function in the same rounds."""
        low, median, high = np.percentile(self.each / baseline.each, [25, 50, 75])
        fastest = self.each.min() / baseline.each.min()
        return Ratio(float(median), float(low), float(high), float(fastest))

    def figures(self, baseline: "Timing", steps: int = 1, images: int = 0) -> dict[str, Any]:
        """As entries of a row of JSON: milliseconds, ratio, and images per second if it has any.

        Args:
            baseline: what it is compared with.
            steps: of a call, of which the milliseconds are one's.
            images: of a call.
        """
        speed = {"images_per_second": images / self.seconds} if images else {}
        milliseconds = {"milliseconds": 1e3 * self.seconds / steps}
        return milliseconds | self.ratio(baseline).figures() | speed


Kind = Literal["label", "figure", "time", "speed", "ratio"]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        kind: whether an entry names the row, or is a figure; a time or speed, which depends on the
            day, or a `Ratio`, by which runs of the benchmark are compared.
        key: of the entry; "a.b" is the entry b of the entry a. Of a list of numbers, the mean.
        heading: above it, with the unit.
        digits: how a number is written, as in `format`.
        factor: what a number is multiplied by.
        worst: of a list of numbers the one that is shown beside the mean.
        worse: of a ratio, 1 if a larger one is slower, -1 if a smaller one is; 0 if neither.
    """

    kind: Kind
    key: str
    heading: str
    digits: str = ".2f"
    factor: float = 1.0
    worst: Callable[[list[float]], float] | None = None
    worse: int = 1

    def value(self, row: dict[str, Any]) -> Any:
        """The entry of a row; none without."""
        if self.kind == "ratio":
            return Ratio.read(row, self.key)
        value: Any = row
        for name in self.key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return float(np.mean(value)) if isinstance(value, list) and self.kind != "label" else value

    def cells(self, row: dict[str, Any]) -> list[str]:
        """What is shown; of a ratio, that of the fastest rounds besides."""
        value = self.value(row)
        if self.kind == "label":
            value = " x ".join(map(str, value)) if isinstance(value, list) else value
            return [
                f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
            ]
        if self.kind == "ratio":
            fastest = value.fastest if value else None
            digits = int(self.digits.strip(".f"))
            return [value.told(digits) if value else "", self._number(fastest)]
        beside = f" ({self._number(self.worst(row[self.key]))})" if self.worst else ""
        return [self._number(value) + beside]

    def headings(self) -> list[str]:
        """As many as there are cells."""
        return [self.heading, *["of fastest"] * (self.kind == "ratio")]

    def _number(self, value: float | None) -> str:
        return "" if value is None else f"{self.factor * value:{self.digits}}"


Label = partial(Column, "label")
Figure = partial(Column, "figure")
Time = partial(Column, "time")
Speed = partial(Column, "speed")
Quartiles = partial(Column, "ratio")
RATIO = Quartiles("ratio", "ratio (quartiles)")
MILLISECONDS = Time("milliseconds", "ms")
COMPILED = (
    Figure("compile_seconds", "compile s"),
    Figure("temporary_bytes", "temporary MB", ".1f", 1e-6),
)


class Table(NamedTuple):
    """Rows of a result, and what is shown of them.

    Attributes:
        key: of the list of rows in the result; without one the result is the only row.
        columns: in order.
        title: above the table.
    """

    key: str
    columns: tuple[Column, ...]
    title: str = ""

    def rows(self, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """By name, which the labels are."""
        labels = [column for column in self.columns if column.kind == "label"]
        rows = result.get(self.key, []) if self.key else [result]
        return {", ".join(filter(None, (c.cells(row)[0] for c in labels))): row for row in rows}

    def told(self, result: dict[str, Any]) -> str:
        """As text; columns of which nothing is known are left out, as is a table without rows."""
        rows = self.rows(result).values()
        lines = [[cell for column in self.columns for cell in column.cells(row)] for row in rows]
        headings = [heading for column in self.columns for heading in column.headings()]
        kinds = [column.kind for column in self.columns for _ in column.headings()]
        shown = []
        for kind, heading, *cells in zip(kinds, headings, *lines, strict=True):
            if any(cells):
                width = max(map(len, (heading, *cells)))
                side = "<" if kind == "label" else ">"
                shown.append([f"{cell:{side}{width}}" for cell in (heading, *cells)])
        text = "\n".join("  ".join(line).rstrip() for line in zip(*shown, strict=True))
        return f"{self.title}\n{text}" if self.title and text else text


def table(key: str, *columns: Column | str, title: str = "") -> Table:
    """A table; a word stands for the label of that key."""
    made = (Label(c, c.replace("_", " ")) if isinstance(c, str) else c for c in columns)
    return Table(key, tuple(made), title)
