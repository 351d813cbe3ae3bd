"""Moments of rectified Gaussians at ties, at the ends of the range, and differentiated twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from cgjax._gaussian.larger import larger_moments
from cgjax._gaussian.quadrature import softplus_moments
from cgjax._gaussian.rectified import rectified_moments_of_belief
from cgjax._gaussian.softmax import softmax_moments


def formula(mean, variance, leak):
    """As it is printed: digits are lost, but in float64 there are enough of them."""
    s = jnp.sqrt(variance)
    z = mean / s
    up, down = (mean * norm.cdf(z) + s * norm.pdf(z), s * norm.pdf(z) - mean * norm.cdf(-z))
    spread = variance * (norm.cdf(z) + leak**2 * norm.cdf(-z)) - (1 - leak) ** 2 * up * down
    return jnp.stack([up - leak * down, spread])


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_second_derivatives_also_at_zero(leak):
    points = np.array([[0.0, 1.0], [0.0, 4.0], [-0.0, 0.25], [0.7, 1.5], [-2.0, 1.0]])

    def ours(point):
        return jnp.stack(rectified_moments_of_belief(point[0], point[1], leak))

    with jax.enable_x64(True):
        second = jax.jit(jax.vmap(jax.hessian(lambda p: formula(p[0], p[1], leak))))(points)
    got = jax.jit(jax.vmap(jax.hessian(ours)))(jnp.asarray(points, jnp.float32))
    # Second derivatives near 1, in float32.
    np.testing.assert_allclose(got, second, rtol=2e-5, atol=2e-5)


def test_second_derivatives_of_the_larger_at_a_tie():
    def ours(p):
        return larger_moments(p[0], jnp.float32(1), p[1], jnp.float32(2), jnp.float32(0)).mean

    hessian = jax.hessian(ours)(jnp.array([0.5, 0.5]))
    # d^2 E[max] / d(difference)^2 = phi(0) / s, s^2 = 3.
    expected = norm.pdf(0.0) / 3**0.5 * np.array([[1, -1], [-1, 1]])
    np.testing.assert_allclose(hessian, expected, rtol=1e-5)


def test_derivatives_at_variance_zero_are_not_halved():
    mean = jnp.array([1.0, -0.5, 0.2])

    def variances(variance):
        return softmax_moments(mean, variance, -1)[2]

    got = jax.jacobian(variances)(jnp.zeros(3))
    p = jax.nn.softmax(mean)
    slopes = jnp.diag(p) - p[:, None] * p[None]
    # To first order Var[f] = sum of f'^2 v; the log-sum-exp of the others is first order too.
    np.testing.assert_allclose(got, slopes**2, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("leak", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("known", [True, False])
def test_ends_of_the_range(leak, known):
    largest = float(np.finfo(np.float32).max)
    mean = jnp.array([largest, -largest, np.inf, -np.inf, 0.0, 5.0])
    variance = jnp.array([1.0, 1.0, 0.0, 2.0, 0.0, np.inf])

    def moments(mean, variance):
        return rectified_moments_of_belief(mean, variance, leak if known else jnp.full(6, leak))

    one = jnp.ones(6)
    values, by_mean = jax.jvp(lambda m: moments(m, variance), (mean,), (one,))
    _, by_variance = jax.jvp(lambda v: moments(mean, v), (variance,), (one,))
    least = 0.0 if leak == 0 else -np.inf
    top = np.inf if leak < 1 else 5.0
    np.testing.assert_allclose(values[0], [largest, -leak * largest, np.inf, least, 0, top])
    np.testing.assert_allclose(values[1], [1, leak**2, 0, 2 * leak**2, 0, np.inf])
    middle = (1 + leak) / 2
    np.testing.assert_allclose(by_mean[0], [1, leak, 1, leak, middle, middle])
    np.testing.assert_allclose(by_mean[1][:5], 0)
    np.testing.assert_allclose(by_variance[1][:4], [1, leak**2, 1, leak**2])
    assert np.isfinite(by_variance[0]).all()


def test_softplus_far_out():
    sizes = np.array([1e4, 1e10, 1e25, 3e38, np.inf], np.float32)
    mean = jnp.concatenate([sizes, -sizes])
    values, slopes = jax.jvp(softplus_moments, (mean, jnp.ones(10)), (jnp.ones(10),) * 2)
    np.testing.assert_allclose(values[0], np.maximum(mean, 0))
    # The quadrature of a straight line is exact.
    np.testing.assert_allclose(values[1], [1] * 5 + [0] * 5, rtol=1e-5)
    np.testing.assert_allclose(slopes[0], [1] * 5 + [0] * 5, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes[1], [1] * 5 + [0] * 5, rtol=1e-5, atol=1e-5)
    wide = softplus_moments(jnp.zeros(3), jnp.array([1e30, 3e38, np.inf]))
    deviation = np.sqrt(np.array([1e30, 3e38, np.inf]))
    np.testing.assert_allclose(wide[0], deviation * norm.pdf(0.0), rtol=1e-4)
    half = 0.5 - 0.5 / np.pi
    np.testing.assert_allclose(wide[1][:2], half * deviation[:2] ** 2, rtol=1e-4)
    assert wide[1][2] == np.inf
