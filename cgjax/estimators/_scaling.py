"""Columns in units in which the rows of the training have mean 0 and standard deviation 1."""

from typing import NamedTuple

import numpy as np

# A larger number has a square that float32 lacks, and losses square.
LARGEST = float(np.sqrt(np.finfo(np.float32).max))
# A column whose deviation is so small beside its entries is constant but for rounding.
ROUNDING = 1e-9


class Scaling(NamedTuple):
    """z = (x - mean) / deviation, column by column.

    Attributes:
        mean: float64[columns], over the rows of the training.
        deviation: float64[columns]; 1 where a column is constant.
        constant: bool[columns], whether all rows of the training have one value.
    """

    mean: np.ndarray
    deviation: np.ndarray
    constant: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Scaling":
        """That of rows, float64[rows, columns], all finite.

        Example:
            >>> Scaling.of(np.array([[1.0, 5.0], [3.0, 5.0]])).constant
            array([False,  True])
        """
        # In units of the largest entry no sum and no square overflows.
        largest = np.maximum(np.abs(rows).max(0), np.finfo(float).tiny)
        units = rows / largest
        mean, deviation = units.mean(0), units.std(0)
        constant = ~(deviation > ROUNDING)
        return cls(
            np.where(constant, rows[0], mean * largest),
            np.where(constant, 1.0, np.maximum(deviation * largest, np.finfo(float).tiny)),
            constant,
        )

    def scaled(self, rows: np.ndarray, what: str) -> np.ndarray:
        """float32[rows, columns] in these units. A column that was constant in the training is 0
        whatever it holds: nothing could be learnt about it.

        Raises:
            ValueError: an entry is too far from those of the training for float32.
        """
        with np.errstate(over="ignore"):  # of what is refused below
            units = np.where(self.constant, 0.0, (rows - self.mean) / self.deviation)
        far = ~(np.abs(units) < LARGEST)
        if far.any():
            row, column = map(int, np.argwhere(far)[0])
            raise ValueError(
                f"{what}: the entry {rows[row, column]:g} in row {row}, column {column}, both "
                f"counted from 0, is {units[row, column]:g} standard deviations of the training "
                "rows from their mean, more than float32 holds. Correct it, or take the logarithm "
                "of the column."
            )
        return units.astype(np.float32)
