"""Products that keep their factors, and what the parts of attention have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief


def belief(x, share=1e-4):
    return Belief(x, jnp.full_like(x, share))


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def first_order(f, *args):
    """The variances of the results for small uncertainties, by the derivatives."""
    means = [a.mean if isinstance(a, Belief) else a for a in args]
    total = jnp.zeros(())
    for k, a in enumerate(args):
        if isinstance(a, Belief):
            slopes = jax.jacobian(lambda m, k=k: f(*means[:k], m, *means[k + 1 :]))(a.mean)
            axes = tuple(range(slopes.ndim - a.mean.ndim, slopes.ndim))
            variance = jnp.broadcast_to(a.variance, slopes.shape)
            total = total + (slopes**2 * variance).sum(axes)
    return total


def centred(x):
    return x - x.mean(-1, keepdims=True)


def inverse(x):
    return lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)


# A layer norm with a scale, as libraries write it.
NORMS = {
    "scale first": lambda x, scale: centred(x) * (inverse(x) * scale),
    "scale last": lambda x, scale: centred(x) * inverse(x) * scale,
    "scale between": lambda x, scale: (centred(x) * scale) * inverse(x),
    "divided": lambda x, scale: scale * centred(x) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6),
    "doubled": lambda x, scale: centred(x) * (inverse(x) * scale * 2) / 2,
}


def test_a_normalisation_with_an_uncertain_scale():
    """Numerator and denominator are made of the same numbers, wherever the scale stands."""
    x, scale = belief(normal(2, 5, 9)), belief(1 + 0.3 * normal(1, 1, 9, seed=1))
    exact = first_order(NORMS["scale last"], x, scale)
    found = [cg.moments(norm)(x, scale).variance for norm in NORMS.values()]
    for variance in found:
        # The denominator is taken to first order in a sum of nine.
        np.testing.assert_allclose(variance, exact, rtol=0.03)
        np.testing.assert_allclose(variance, found[0], rtol=1e-4)


def test_a_product_is_one_variable():
    x, y = belief(2 + 0.3 * normal(3, 4)), belief(1 + 0.3 * normal(3, 4, seed=1))

    def net(x, y):
        z = x * y
        return z - z, z / x, z * z, z + z

    nothing, quotient, square, double = cg.moments(net)(x, y)
    assert not nothing.variance.any()
    np.testing.assert_allclose(quotient.variance, y.variance, rtol=1e-4)
    spread = x.mean**2 * y.variance + y.mean**2 * x.variance
    np.testing.assert_allclose(square.variance, 4 * (x.mean * y.mean) ** 2 * spread, rtol=0.02)
    np.testing.assert_allclose(double.variance, 4 * spread, rtol=1e-3)


def test_a_softmax_is_free_of_what_its_arguments_have_in_common():
    scores, shift = belief(normal(2, 3, 5), 0.01), belief(jnp.zeros((2, 3, 1)), 0.25)
    alone = cg.moments(jax.nn.softmax)(scores)
    found = cg.moments(lambda x, s: jax.nn.softmax(x + s))(scores, shift)
    np.testing.assert_allclose(found.mean, alone.mean, rtol=1e-4)
    np.testing.assert_allclose(found.variance, alone.variance, rtol=1e-3)


def test_an_average_of_equal_values_does_not_depend_on_its_weights():
    scores = belief(normal(2, 3, 5), 0.25)
    values = jnp.broadcast_to(normal(2, 1, 4), (2, 5, 4))
    found = cg.moments(lambda x: jax.nn.softmax(x) @ values)(scores)
    np.testing.assert_allclose(found.mean, jnp.broadcast_to(values[:, :1], (2, 3, 4)), rtol=1e-4)
    assert found.variance.max() < 1e-5 * (values**2).min() + 1e-6


@pytest.mark.parametrize("order", ["bqd,bkd->bqk", "bqd,bkd->bkq"])
def test_queries_of_the_same_keys_and_values_move_together(order):
    """The sum over queries, of which independent ones would have half of the variance."""
    weights = [normal(12, 12, seed=k) / 12**0.5 for k in range(3)]

    def net(x):
        q, k, v = (x @ w for w in weights)
        scores = jnp.einsum(order, q, k) / 12**0.5
        if order.endswith("kq"):
            scores = jnp.swapaxes(scores, 1, 2)
        return (jax.nn.softmax(scores) @ v).sum(1)

    x = belief(normal(8, 5, 12, seed=5))
    ratio = cg.moments(net)(x).variance.sum() / first_order(net, x).sum()
    assert 0.8 < ratio < 1.25
