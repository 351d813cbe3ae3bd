"""Dropout of values that are infinite or not a number: what is dropped is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg

KEY = jax.random.key(0)
BAD = jnp.array([jnp.inf, -jnp.inf, jnp.nan, 1.0] * 16)


@pytest.mark.parametrize("procedure", [cg.forward_sample, lambda net: cg.pcff(net, 0.5)])
def test_what_is_dropped_is_0_whatever_it_was(procedure):
    drop = cg.layers.Dropout(0.5)
    kept = np.asarray(procedure(drop)(KEY, jnp.ones(64))) != 0
    assert 0 < kept.sum() < 64
    out = np.asarray(procedure(drop)(KEY, BAD))
    np.testing.assert_array_equal(out[~kept], 0)
    np.testing.assert_array_equal(out[kept], 2 * np.asarray(BAD)[kept])
    slope = np.asarray(jax.grad(lambda x: jnp.nansum(procedure(drop)(KEY, x)))(BAD))
    np.testing.assert_array_equal(slope[~kept], 0)


def test_at_rate_1_everything_is_0():
    drop = cg.layers.Dropout(1.0)
    for out in (drop(BAD), cg.feed_forward(drop)(BAD), cg.forward_sample(drop)(KEY, BAD)):
        np.testing.assert_array_equal(out, 0)


def test_plain_evaluation_gives_back_what_it_gets():
    np.testing.assert_array_equal(cg.layers.Dropout(0.5)(BAD), BAD)


def test_a_state_that_is_dropped_for_all_steps_does_not_count():
    layer = cg.layers.SimpleRecurrent(
        None, 2, family=cg.nodes.ReLU(), drop_rate=1.0, shared_noise=True, rngs=nnx.Rngs(0)
    )
    states = cg.pcff(layer, 0.0)(KEY, jnp.ones((3, 2)), jnp.array([jnp.inf, jnp.nan]))
    np.testing.assert_array_equal(states, 1)


def test_what_dropout_has_in_common_with_its_input_is_still_known():
    drop = cg.layers.Dropout(0.25)
    x = cg.Belief(jnp.array([1.0, -2.0]), jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(cg.moments(lambda x: drop(x) - x)(x).variance, 0, atol=1e-6)
