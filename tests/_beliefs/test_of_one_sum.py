"""A function of one sum alone has the moments of that function of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from cgjax import Belief

X = Belief(jnp.array([0.3, -0.5, 0.8, 0.1]), jnp.array([0.3, 0.5, 0.2, 0.4]))
TOTAL = Belief(X.mean.sum(), X.variance.sum())

FUNCTIONS = {
    "tanh": jnp.tanh,
    "relu": lambda s: jnp.maximum(s, 0),
    "twice used": lambda s: s * jax.nn.sigmoid(s),
    "shifted": lambda s: jnp.exp(0.5 * s - 1),
}


def test_as_of_one_gaussian():
    of_sum = cg.moments(lambda x: {name: f(x.sum()) for name, f in FUNCTIONS.items()})
    of_one = cg.moments(lambda s: {name: f(s) for name, f in FUNCTIONS.items()})
    got, expected = jax.jit(lambda x, s: (of_sum(x), of_one(s)))(X, TOTAL)
    for name in FUNCTIONS:
        np.testing.assert_allclose(got[name].mean, expected[name].mean, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(
            got[name].variance, expected[name].variance, rtol=1e-5, err_msg=name
        )


def test_beside_arrays_in_groups():
    """The sum is spread over its group, and multiplied by numbers that differ there."""
    factors = jnp.array([1.0, -0.5, 0.2, 2.0])

    def of_sum(x):
        return jnp.tanh(factors * x.sum(keepdims=True))

    got = jax.jit(cg.moments(of_sum))(X)
    line = Belief(factors * TOTAL.mean, factors**2 * TOTAL.variance)
    expected = jax.jit(cg.moments(jnp.tanh))(line)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(got.variance, expected.variance, rtol=1e-5)


def test_of_a_logarithm_of_a_sum_of_exponentials():
    def function(x):
        return jax.nn.logsumexp(x), jnp.tanh(jax.nn.logsumexp(x) / 2)

    log, got = jax.jit(cg.moments(function))(X)
    expected = jax.jit(cg.moments(lambda s: jnp.tanh(s / 2)))(log)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(got.variance, expected.variance, rtol=1e-5)
