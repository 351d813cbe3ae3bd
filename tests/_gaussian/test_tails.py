"""The normal distribution's tails and their derivatives, against SciPy and a continued fraction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from cgjax._gaussian import tails

# Both sides of every place where formulas change, ties, and far out.
POINTS = np.array(
    [0.0, -1e-3, 1e-3, 1.0, 3.0, 8.0, -1.0, -1.999, -2.0, -2.001]
    + [-4.999, -5.001, -9.999, -10.0, -10.001, -38.5, -100.0, -1e4]
)


def exact(z):
    """log Phi and its first three derivatives, none of which cancels."""
    t = np.maximum(-z, 1.0)
    fraction = [t] * 3  # c_k = t + k / c_(k + 1), t = -z: phi / Phi = c_1
    for step in range(400, 0, -1):
        fraction = [t + step / fraction[0], *fraction[:2]]
    slope = np.exp(scipy.stats.norm.logpdf(z) - scipy.special.log_ndtr(z))
    first, second, third = fraction
    far = [first, -first / second, 2 * first * (third - second) / (second**2 * third)]
    near = [slope, -slope * (z + slope)]
    near.append(-(near[1] * (z + slope) + slope * (1 + near[1])))
    derivatives = [np.where(z < -3, a, b) for a, b in zip(far, near, strict=True)]
    return [scipy.special.log_ndtr(z), *derivatives]


@jax.jit
def log_distribution_and_derivatives(z):
    functions = [tails.log_distribution]
    for _ in range(4):
        functions.append(jax.grad(functions[-1]))
    return [jax.vmap(f)(z) for f in functions]


# Rounding of z itself moves a derivative by as much. The third is small beside what it is made of:
# at most 1, for which it is held to absolute errors.
@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [("float64", 1e-10, 1e-13), ("float32", 4e-6, 4e-6), ("bfloat16", 2e-2, 1e-3)]
    + [("float16", 3e-3, 3e-4)],
)
def test_log_distribution_and_three_derivatives(dtype, relative, absolute):
    with jax.enable_x64(dtype == "float64"):
        z = jnp.asarray(POINTS, dtype)
        got = log_distribution_and_derivatives(z)
        rounded = np.asarray(z, np.float64)
    assert got[0].dtype == jnp.promote_types(dtype, jnp.float32)
    wanted = exact(rounded)
    for order, (value, expected) in enumerate(zip(got, wanted, strict=False)):
        np.testing.assert_allclose(
            np.asarray(value, np.float64), expected, relative, absolute, err_msg=str(order)
        )
    assert all(np.isfinite(np.asarray(value, np.float64)).all() for value in got)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends_of_the_range(dtype):
    with jax.enable_x64(dtype == "float64"):
        largest = float(np.finfo(dtype).max)
        got = log_distribution_and_derivatives(
            jnp.array([np.inf, largest, -np.inf, -largest, np.nan], dtype)
        )
    np.testing.assert_array_equal(got[0][:3], [0, 0, -np.inf])
    np.testing.assert_allclose(got[1][:4], [0, 0, np.inf, largest])
    np.testing.assert_allclose(got[2][:4], [0, 0, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(got[3][:4], 0, atol=1e-6)
    assert all(np.isnan(value[4]) for value in got[:4])


@pytest.mark.parametrize(("dtype", "relative"), [("float32", 3e-6), ("float64", 1e-11)])
def test_tails_against_scipy(dtype, relative):
    t = np.array([0.0, 0.5, 1.999, 2.001, 4.0, 4.999, 5.001, 8.0, 12.0])
    with jax.enable_x64(dtype == "float64"):
        points = jnp.asarray(t, dtype)
        got = tails.tails(points)
        ratio = tails.mills_ratio(jnp.concatenate([points, -points[:4], 1e4 + points]))
        t = np.asarray(points, np.float64)
    both = np.concatenate([t, -t[:4], 1e4 + t])
    wanted = np.sqrt(np.pi / 2) * scipy.special.erfcx(both / np.sqrt(2))
    np.testing.assert_allclose(ratio, wanted, rtol=relative)
    density = scipy.stats.norm.pdf(t)
    slope, bend = exact(-t)[1:3]
    # E[max(x - t, 0)] and its variance, by Mills' ratio R: phi (1 - t R) and R phi - ....
    probability = density / slope
    excess = density * (slope - t) / slope
    np.testing.assert_allclose(got.density, density, rtol=3 * relative)
    np.testing.assert_allclose(got.probability, probability, rtol=10 * relative)
    np.testing.assert_allclose(got.excess, excess, rtol=20 * relative)
    second = _second_moment(t)
    np.testing.assert_allclose(got.spread, second - excess**2, rtol=30 * relative)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_of_tails(dtype):
    """By the exact values of what they are made of, from 0 to where nothing is left."""
    t = np.array([0.0, 0.3, 1.0, 2.0, 3.5, 6.0, 64.0])
    with jax.enable_x64(dtype == "float64"):
        points = jnp.asarray(t, dtype)
        _, slopes = jax.jvp(tails.tails, (points,), (jnp.ones_like(points),))
    phi, beyond = scipy.stats.norm.pdf(t), scipy.stats.norm.sf(t)
    excess = phi - t * beyond
    wanted = [-t * phi, -phi, -beyond, -2 * excess * (1 - beyond)]
    for slope, expected in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(slope, expected, rtol=2e-5, atol=1e-12)


def _second_moment(t):
    """E[max(x - t, 0)^2], by Gauss-Laguerre points: the density falls as exp(-t u - u^2 / 2)."""
    points, weights = np.polynomial.legendre.leggauss(200)
    reach = 40 / (t + 4)
    u = (points[:, None] + 1) / 2 * reach
    return (weights[:, None] / 2 * reach * u**2 * scipy.stats.norm.pdf(t + u)).sum(0)


def test_distribution_and_density():
    z = np.array([-12.0, -5.0, 0.0, 2.0])
    narrow = jnp.asarray(z, jnp.bfloat16)
    assert tails.distribution(narrow).dtype == tails.density(narrow).dtype == jnp.float32
    np.testing.assert_allclose(tails.distribution(narrow), scipy.stats.norm.cdf(z), 2e-5)
    np.testing.assert_allclose(tails.density(narrow), scipy.stats.norm.pdf(z), 2e-5)
