"""Mixtures of Gaussians against SciPy."""

from typing import Any

import numpy as np
from scipy import optimize, stats

from cgjax.estimators._mixtures import Mixture

RANDOM = np.random.default_rng(0)
MEANS, VARIANCES = RANDOM.normal(0, 3, (4, 3, 2)), RANDOM.uniform(0.01, 4, (4, 3, 2))
MIXTURE = Mixture(MEANS, VARIANCES)


def each(row, target):
    """The components as SciPy's distributions."""
    pairs = zip(MEANS[:, row, target], VARIANCES[:, row, target], strict=True)
    return [stats.norm(mean, variance**0.5) for mean, variance in pairs]


def test_mean_and_deviation_by_their_integrals():
    for row in range(3):
        for target in range(2):
            found = each(row, target)
            mean = np.mean([c.mean() for c in found])
            square = np.mean([c.moment(2) for c in found])
            np.testing.assert_allclose(MIXTURE.mean[row, target], mean, rtol=1e-12)
            np.testing.assert_allclose(
                MIXTURE.deviation[row, target], (square - mean**2) ** 0.5, rtol=1e-10
            )


def test_quantiles_are_roots_of_the_distribution_function():
    for probability in (0.001, 0.05, 0.5, 0.95):
        found = MIXTURE.quantile(probability)
        for row in range(3):
            for target in range(2):
                parts = each(row, target)

                def above(y, parts=parts, p=probability):
                    return np.mean([part.cdf(y) for part in parts]) - p

                root: Any = optimize.brentq(above, -50, 50, xtol=1e-13)
                # 40 halvings of an interval of at most 30.
                np.testing.assert_allclose(found[row, target], root, atol=1e-9)


def test_one_component_has_the_quantile_of_a_gaussian():
    one = Mixture(MEANS[:1], VARIANCES[:1])
    expected = stats.norm(MEANS[0], VARIANCES[0] ** 0.5).ppf(0.9)
    np.testing.assert_allclose(one.quantile(0.9), expected, rtol=1e-12)


def test_targets_of_a_row_are_independent_within_a_component():
    y = RANDOM.normal(size=(3, 2))
    density = stats.norm.pdf(y[None], MEANS, VARIANCES**0.5).prod(-1).mean(0)
    np.testing.assert_allclose(MIXTURE.log_density(y), np.log(density), rtol=1e-12)
