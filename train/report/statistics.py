"""Means, paired differences, and whether a difference counts: one rule for all results.

A difference counts when its 95 % interval (Student's t over the paired differences of seeds or
splits) leaves out 0. What does not count is "not decided", whatever its sign.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CONFIDENCE = 0.95


class Mean(NamedTuple):
    """A mean over seeds or splits."""

    value: float
    standard_error: float  # not a number for a single value
    number: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Student's t; infinite for a single value.

        Example:
            >>> low, high = mean([1.0, 2.0, 3.0]).interval
            >>> f"{low:.2f} {high:.2f}"
            '-0.48 4.48'
        """
        if self.number < 2:
            return -math.inf, math.inf
        from scipy import stats  # takes half a second to import

        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, self.number - 1)
        half = float(quantile) * self.standard_error
        return self.value - half, self.value + half

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out 0, else 0: of a difference, whether it counts.

        Example:
            >>> mean([1.0, 1.1, 0.9]).sign, mean([1.0, -1.0, 1.5]).sign, mean([1.0]).sign
            (1, 0, 0)
        """
        low, high = self.interval
        return int(low > 0) - int(high < 0)

    def told(
        self, digits: int, factor: float = 1.0, *, signed: bool = False, style: str = "f"
    ) -> str:
        """The mean ± its standard error; "-" for no values, the mean alone for a single one.

        Both are multiplied by the factor, as 100 for percentages, and have so many decimal places,
        or, in the style "g" for figures of many sizes, so many digits. Differences are signed.

        Example:
            >>> mean([0.01, 0.03]).told(1, 100), mean([0.5]).told(2, signed=True), mean([]).told(2)
            ('2.0 ± 1.0', '+0.50', '-')
        """
        if self.number == 0:
            return "-"
        value = f"{factor * self.value:{'+' if signed else ''}.{digits}{style}}"
        if math.isnan(self.standard_error):
            return value
        return f"{value} ± {factor * self.standard_error:.{digits}{style}}"


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error of independent values."""
    n = len(values)
    if n == 0:
        return Mean(math.nan, math.nan, 0)
    average = math.fsum(values) / n
    squares = math.fsum((v - average) ** 2 for v in values)
    return Mean(average, math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan, n)


def paired(ours: Mapping[Any, float], others: Mapping[Any, float]) -> Mean:
    """The mean of `ours - others`, figures by seed or split, over what both have.

    Example:
        >>> paired({0: 0.5, 1: 0.75}, {1: 0.25, 0: 0.25, 2: 1.0})
        Mean(value=0.375, standard_error=0.125, number=2)
    """
    return mean([value - others[key] for key, value in ours.items() if key in others])
