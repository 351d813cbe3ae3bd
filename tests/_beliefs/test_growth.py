"""How large the moments of functions of several variables become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg


def _chained(*xs):
    total = xs[0]
    for x in xs[1:]:
        total = jnp.logaddexp(total, x)
    return total


def test_chained_functions_of_two_variables_grow_linearly():
    def lines(levels):
        x = cg.Belief(jnp.zeros(1), jnp.ones(1))
        text = jax.jit(cg.moments(_chained)).lower(*[x] * (levels + 1)).as_text()
        return text.count("\n")

    one, three = lines(1), lines(3)
    assert three < 3.5 * one


def test_chained_functions_of_two_variables_keep_their_moments():
    means = np.array([0.0, 0.3, 0.6])
    beliefs = [cg.Belief(jnp.full(1, m, jnp.float32), jnp.ones(1)) for m in means]
    mean, variance = jax.jit(cg.moments(_chained))(*beliefs)
    sample = np.random.default_rng(0).normal(means, 1, (200_000, 3))
    values = np.logaddexp.reduce(sample, 1)
    np.testing.assert_allclose(mean, values.mean(), rtol=5e-3)
    np.testing.assert_allclose(variance, values.var(), rtol=3e-2)


def test_rounding_offers_a_rule_and_no_derivative():
    def straight_through(x):
        return x + jax.lax.stop_gradient(jnp.round(x) - x)

    x = cg.Belief(jnp.array([0.1]), jnp.array([1.0]))
    with pytest.raises(TypeError, match="would count as known.*moment_rule"):
        cg.moments(straight_through)(x)
    with pytest.warns(UserWarning, match="derivative is 0"):
        cg.moments(straight_through, first_order=["round"])(x)
