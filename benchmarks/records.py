"""What a benchmark measured: a ratio of times, and tables that the terminal and the history show.

Nothing here imports JAX.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]
FIELD = re.compile(r"{([^{}\[/:~]+)((?:\[[^\]]+\])*)(?:/(\w+))?([:~]?)([^}]*)}")


VERDICTS = ("not met", "met")  # on targets, by whether they are
TARGETS = "targets, which are for GPUs:"


def groups(rows: Iterable[Row], *names: str) -> Iterable[list[Row]]:
    """Rows that agree in some of their entries."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found.values()


class Ratio(NamedTuple):
    """How long one function takes relative to another: quartiles over the rounds, and the ratio of
    the fastest rounds, which other work on the machine disturbs least.

    Example:
        >>> ratio = Ratio(1.05, 1.02, 1.07, 1.04)
        >>> ratio.told()
        '1.05 (1.02-1.07)'
        >>> ratio.figures("r")
        {'r': 1.05, 'r_low': 1.02, 'r_high': 1.07, 'r_of_fastest': 1.04}
        >>> Ratio.read(ratio.figures("r"), "r") == Ratio.read({"r": ratio._asdict()}, "r") == ratio
        True
    """

    median: float
    low: float
    high: float
    fastest: float | None = None  # not in all results

    @classmethod
    def read(cls, row: Row, name: str = "ratio") -> "Ratio | None":
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

    def told(self, digits: int = 2) -> str:
        """The median, and the quartiles in brackets."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


class Timing(NamedTuple):
    """The times of one function."""

    each: np.ndarray  # float64[rounds], seconds of one call

    @property
    def seconds(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.each))

    def ratio(self, baseline: "Timing", factor: float = 1.0) -> Ratio:
        """Relative to another function in the same rounds, times a factor."""
        low, median, high = np.percentile(self.each / baseline.each, [25, 50, 75])
        fastest = self.each.min() / baseline.each.min()
        return Ratio(*(float(factor * value) for value in (median, low, high, fastest)))

    def figures(self, baseline: "Timing", steps: int = 1, images: int = 0) -> dict[str, Any]:
        """As entries of a row of JSON: milliseconds of one of the steps of a call, the ratio to the
        baseline, and images per second if it has any."""
        speed = {"images_per_second": images / self.seconds} if images else {}
        milliseconds = {"milliseconds": 1e3 * self.seconds / steps}
        return milliseconds | self.ratio(baseline).figures() | speed


def cell(row: Row, template: str, missing: str = "") -> str:
    """A template with the entries of a row: `{name:.2f}`, `{name[part]:.2f}` as in `str.format`,
    `{name/1e6:.2f}` divided by a million, and `{name~2}` a `Ratio` to two places.

    Example:
        >>> cell({"b": 2, "b_low": 1, "b_high": 3, "a": {"c": 1250}}, "{a[c]/1e3:.1f} of {b~1}")
        '1.2 of 2.0 (1.0-3.0)'
        >>> cell({"a": None}, "{a:.1f}", "-")
        '-'
    """
    values = [_value(row, field) for field in FIELD.finditer(template)]
    if any(value is None for value in values):
        return missing

    def written(field: re.Match[str]) -> str:
        value, form = values.pop(0), field[5]
        if isinstance(value, Ratio):
            return value.told(int(form))
        return format(value / float(field[3]) if field[3] else value, form)

    return FIELD.sub(written, template)


def _value(row: Row, field: re.Match[str]) -> Any:
    if field[4] == "~":
        return Ratio.read(row, field[1])
    value = row.get(field[1])
    for part in re.findall(r"\[(.+?)\]", field[2]):
        value = value.get(part) if isinstance(value, Mapping) else value and value[int(part)]
    return value


class Table(NamedTuple):
    """Rows of a result, and what is shown of them. A column is its heading, with the unit, and the
    template of a `cell`; entries with a format are figures, and "+" before the heading keeps it off
    the pages of the documentation."""

    key: str  # of the list of rows in the result; without one the result is the only row
    columns: str  # with "|" between them
    faster: tuple[str, ...] = ()  # ratios of which a larger one is faster
    title: str = ""  # above the table
    more: Callable[[Row], Row] = dict  # makes a row that has further entries
    names: str = ""  # the entries that name a row; if not given, all that are shown and no figures

    def listed(self, result: Row) -> list[Row]:
        """The rows."""
        return [*map(self.more, result.get(self.key, []) if self.key else [result])]

    def rows(self, result: Row) -> dict[str, Row]:
        """By name."""
        shown = [field[0] for field in FIELD.finditer(self.columns) if not field[4]]
        labels = [f"{{{name}}}" for name in self.names.split()] or shown
        rows = self.listed(result)
        return {", ".join(filter(None, (cell(row, f) for f in labels))): row for row in rows}

    def figures(self, row: Row) -> dict[str, Any]:
        """Numbers and `Ratio`s that are known of a row."""
        fields = [field for field in FIELD.finditer(self.columns) if field[4]]
        found = {f[1] + f[2]: _value(row, f) for f in fields}
        return {n: value for n, value in found.items() if isinstance(value, int | float | Ratio)}

    def told(self, result: Row) -> str:
        """As text; columns of which nothing is known are left out, as is a table without rows."""
        rows, shown = self.listed(result), []
        for column in self.columns.split("|"):
            heading, brace, template = column.replace("+", "", 1).partition("{")
            cells = [cell(row, brace + template.strip()) for row in rows]
            if any(cells):
                side = str.rjust if re.search("[:~]", template) else str.ljust
                cells.insert(0, heading.strip())
                shown.append([side(text, max(map(len, cells))) for text in cells])
        lines = [self.title] if self.title and shown else []
        return "\n".join([*lines, *("  ".join(line).rstrip() for line in zip(*shown, strict=True))])
