"""Inverse-chi noise: its law by SciPy, at few and at many degrees of freedom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from cgjax import nodes
from cgjax.nodes import _inverse_chi

DEGREES = (2.1, 3.0, 7.0, 19.9, 20.0, 31.0, 255.0, 1e4)


def exact_quantiles(degrees, normal):
    """Of sqrt(k + 1)/chi_k, at the probabilities of normal numbers."""
    lower = special.gammainccinv(degrees / 2, stats.norm.cdf(normal))
    upper = special.gammaincinv(degrees / 2, stats.norm.sf(normal))
    return np.sqrt((degrees + 1) / 2 / np.where(normal < 0, lower, upper))


@jax.jit
def quantiles_and_slopes(degrees, normal):
    def quantile(degrees):
        half = jnp.broadcast_to(degrees / 2, normal.shape)
        return jnp.sqrt((1 + 0.5 / half) / _inverse_chi.gamma_over_shape(half, -normal))

    return jax.jvp(quantile, (degrees,), (jnp.ones_like(degrees),))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_have_the_quantiles_of_the_law_and_their_derivatives(dtype):
    normal = np.linspace(-5.5, 5.5, 23)
    with jax.enable_x64(dtype == "float64"):
        for degrees in DEGREES:
            found, slope = quantiles_and_slopes(
                jnp.asarray(degrees, dtype), jnp.asarray(normal, dtype)
            )
            expected = exact_quantiles(degrees, normal)
            # In deviations of the logarithm: of the series, of the inversion, and of rounding.
            error = np.abs(np.log(found / expected)) * (2 * degrees) ** 0.5
            bound = 5e-3 if degrees >= 20 else 1e-9
            rounding = 20 * float(jnp.finfo(dtype).eps) * max(degrees, 10) ** 0.5
            assert error.max() < bound + rounding, degrees
            inner = np.abs(normal) < 4
            assert error[inner].max() < (3e-4 if degrees >= 20 else 1e-9) + rounding, degrees
            step = 1e-4 * degrees
            expected = exact_quantiles(degrees + step, normal) - exact_quantiles(
                degrees - step, normal
            )
            # By a difference in float64. The series' own slope is off by its error over degrees.
            scale = np.abs(expected / (2 * step)).max()
            np.testing.assert_allclose(
                slope[inner], (expected / (2 * step))[inner], 1e-2, 2e-3 * scale
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_and_density_at_few_and_many_degrees(dtype):
    """The variance, 1/(2k), is not a difference of numbers near 1."""
    with jax.enable_x64(dtype == "float64"):
        degrees = jnp.asarray([*DEGREES, 1e6], dtype)
        k = np.asarray(degrees, np.float64)  # as float32 has them
        family, e = nodes.InverseChi(degrees), jnp.full(len(k), 2.0, dtype)
        ratio = np.exp(special.gammaln((k - 1) / 2) - special.gammaln(k / 2))
        few = k < 1e3
        rounding = 30 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            family.mean(e)[few], 2 * np.sqrt((k + 1) / 2)[few] * ratio[few], rounding + 1e-12
        )
        expected = 4 * ((k + 1) / (k - 2) - (k + 1) / 2 * ratio**2)
        np.testing.assert_allclose(family.variance(e)[few], expected[few], rounding + 1e-9)
        # At many: 1/(2k) (1 + 19/(4k)), next of order 1/k^2.
        series = 4 / (2 * k) * (1 + 19 / (4 * k))
        np.testing.assert_allclose(family.variance(e)[~few], series[~few], rounding + 1e-6)
        for x in (1.5, 2.0, 2.2):
            density = stats.chi.logpdf(2 * np.sqrt(k + 1) / x, k) + np.log(
                2 * np.sqrt(k + 1) / x**2
            )
            found = family.log_prob(jnp.full_like(e, x), e)
            # Of the exponent (k + 1) phi / 2, which rounding of x / e moves by k eps.
            np.testing.assert_allclose(found, density, rounding + 1e-8, 2 * rounding * 1e6**0.5)


def test_values_outside_the_law():
    family, one = nodes.InverseChi(5.0), jnp.ones(4)
    found = family.log_prob(jnp.array([0.0, -1.0, jnp.inf, 1e-30]), one)
    assert (found[:3] == -jnp.inf).all() and found[3] < -1e9 and jnp.isfinite(found[3])
    slope = jax.grad(lambda e: family.log_prob(jnp.array([0.0, 1e-30]), e).sum())(jnp.ones(2))
    assert jnp.isfinite(slope).all()
    assert jnp.isnan(family.log_prob(jnp.array(jnp.nan), jnp.array(1.0)))
    with pytest.raises(ValueError, match="above 0, the most probable value, got .* -1.0 to 1.0"):
        family.mean(jnp.array([-1.0, 1.0]))
    traced = jax.jit(family.mean)(jnp.array([-1.0, 0.0]))
    assert jnp.isnan(traced).all()
    for degrees in (2.0, jnp.inf, -1.0):
        with pytest.raises(ValueError, match="degrees must be above 2 and finite"):
            nodes.InverseChi(degrees)
