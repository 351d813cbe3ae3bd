"""The largest of independent Gaussians, against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import Belief


@pytest.mark.parametrize(("number", "least"), [(4, 0.93), (9, 0.88)])
def test_unequal_variances(number, least):
    """Variances are too small by some percent, as the larger of two is not Gaussian."""
    shape = (40, number)
    variance = jax.random.gamma(jax.random.key(0), 1.0, shape)
    x = Belief(jnp.zeros(shape), variance)
    z = jax.random.normal(jax.random.key(1), (20_000, *shape))

    def both(x, z):
        values = (x.mean[None] + jnp.sqrt(x.variance)[None] * z).max(2)
        return cg.moments(lambda x: x.max(1))(x), values.mean(0), values.var(0)

    got, mean, sampled = jax.jit(both)(x, z)
    # The average of 40 ratios, each with a standard error of 1 %.
    ratio = float((got.variance / sampled).mean())
    assert least < ratio < 1.02
    np.testing.assert_allclose(got.mean, mean, atol=0.06)


def test_the_order_of_the_elements_does_not_matter():
    x = Belief(jnp.array([0.3, -0.5, 0.8, 0.1]), jnp.array([0.3, 0.05, 2.0, 0.4]))
    order = jnp.array([2, 0, 3, 1])
    turned = Belief(x.mean[order], x.variance[order])
    one, other = jax.jit(lambda x, y: tuple(map(cg.moments(jnp.max), (x, y))))(x, turned)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-6)


def test_smallest_is_the_largest_of_the_negative():
    x = Belief(jnp.array([0.3, -0.5, 0.8]), jnp.array([0.3, 0.05, 2.0]))
    smallest, largest = jax.jit(cg.moments(lambda x: (x.min(), -(-x).max())))(x)
    np.testing.assert_allclose(smallest.mean, largest.mean, rtol=1e-6)
    np.testing.assert_allclose(smallest.variance, largest.variance, rtol=1e-6)
