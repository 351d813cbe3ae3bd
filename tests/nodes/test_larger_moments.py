"""The larger of two Gaussians, against its formula in float64 and the derivatives of that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from cgjax._gaussian.larger import larger_moments


def formula(mean, variance, other_mean, other_variance, covariance):
    """As Clark printed it: digits are lost, but there are enough of them."""
    s = jnp.sqrt(variance + other_variance - 2 * covariance)
    t = (mean - other_mean) / s
    first = mean * norm.cdf(t) + other_mean * norm.cdf(-t) + s * norm.pdf(t)
    second = (mean**2 + variance) * norm.cdf(t) + (other_mean**2 + other_variance) * norm.cdf(-t)
    second = second + (mean + other_mean) * s * norm.pdf(t)
    return first, second - first**2, norm.cdf(t)


@pytest.mark.parametrize("size", [50, 20_000])
def test_values_and_derivatives(size):
    generator = np.random.default_rng(0)
    means = generator.normal(size=(2, size))
    variances = generator.uniform(0.05, 2, (2, size))
    covariance = generator.uniform(-0.9, 0.9, size) * np.sqrt(variances[0] * variances[1])
    arguments = means[0], variances[0], means[1], variances[1], covariance
    tangents = tuple(generator.normal(size=(5, size)))
    with jax.enable_x64(True):
        wanted, slopes = jax.jvp(formula, arguments, tangents)
    arguments, tangents = (
        tuple(jnp.asarray(a, jnp.float32) for a in x) for x in (arguments, tangents)
    )
    values = larger_moments(*arguments)
    again, got = jax.jvp(larger_moments, arguments, tangents)
    for value, same, slope, a, b in zip(values, again, got, wanted, slopes, strict=True):
        # Float32, of numbers that are near 1 and slopes that are up to 30.
        np.testing.assert_allclose(value, a, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(same, value, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(slope, b, rtol=2e-4, atol=2e-4)


def test_one_of_them_is_far_larger_or_both_are_one():
    zero, one = jnp.zeros(3), jnp.ones(3)
    far = larger_moments(jnp.array([50.0, -50.0, 0.0]), one, zero, one, jnp.array([0, 0, 1.0]))
    np.testing.assert_allclose(far.mean, [50, 0, 0], atol=1e-6)
    np.testing.assert_allclose(far.variance, 1, rtol=1e-6)
    np.testing.assert_allclose(far.probability, [1, 0, 0.5], atol=1e-6)
