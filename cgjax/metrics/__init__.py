"""Figures of merit of predictions: pure functions of arrays, features last.

Functions average over all leading axes and return a scalar, except for `gaussian_mixture_nll`,
`model_average`, `entropy` and `mutual_information`, which keep the examples.

Some take probabilities and some log-probabilities. The wrong ones raise where their values are
known; where they are traced, the result is not a number.
"""

from cgjax.metrics._classes import auroc, brier, ece, error, nll
from cgjax.metrics._regression import coverage, gaussian_mixture_nll, rmse
from cgjax.metrics._samples import entropy, model_average, mutual_information

__all__ = [
    "auroc",
    "brier",
    "coverage",
    "ece",
    "entropy",
    "error",
    "gaussian_mixture_nll",
    "model_average",
    "mutual_information",
    "nll",
    "rmse",
]
