"""Even mixtures of Gaussians: what a regression predicts of a target.

    p(y) = 1/C sum_c N(y; mean_c, variance_c)

In NumPy and float64: predictions leave JAX here.
"""

import math
from typing import NamedTuple

import numpy as np

# Halvings of an interval that holds a quantile: of its width 1e-12 is left.
HALVINGS = 40


class Mixture(NamedTuple):
    """An even mixture for each target of each row.

    Attributes:
        means: float64[components, rows, targets].
        variances: the same shape, positive.
    """

    means: np.ndarray
    variances: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """float64[rows, targets]."""
        return self.means.mean(0)

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation, by the law of total variance: float64[rows, targets]."""
        return np.sqrt(self.variances.mean(0) + self.means.var(0))

    def log_density(self, targets: np.ndarray) -> np.ndarray:
        """log p(y) of all targets of a row, float64[rows], of float64[rows, targets].

        Targets are independent within a component.

        Example:
            >>> one = Mixture(np.zeros((1, 1, 1)), np.ones((1, 1, 1)))
            >>> one.log_density(np.zeros((1, 1))).round(3)
            array([-0.919])
        """
        from scipy.special import logsumexp

        square = (targets[None] - self.means) ** 2
        each = -(square / self.variances + np.log(2 * np.pi * self.variances)) / 2
        return logsumexp(each.sum(-1), axis=0) - math.log(len(self.means))

    def quantile(self, probability: float) -> np.ndarray:
        """The value below which the target lies with a probability: float64[rows, targets].

        Bisection of the distribution function, whose quantile lies between those of the components.

        Example:
            >>> one = Mixture(np.zeros((1, 1, 1)), np.ones((1, 1, 1)))
            >>> one.quantile(0.975).round(3)
            array([[1.96]])
        """
        from scipy.special import ndtr, ndtri

        deviations = np.sqrt(self.variances)
        each = self.means + ndtri(probability) * deviations
        low, high = each.min(0), each.max(0)
        if len(self.means) == 1:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = ndtr((middle - self.means) / deviations).mean(0) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2
