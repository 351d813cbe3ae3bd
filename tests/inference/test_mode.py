"""The most probable value of every family, and of networks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import nodes
from tests.helpers import assert_identical
from tests.nodes.table import CASES, CONTINUOUS, DISCRETE, names


@jax.jit
def mode_of(family: nodes.Family, e: Any) -> Any:
    return family.mode(e)


@pytest.mark.numerics
@pytest.mark.parametrize("case", DISCRETE, ids=names)
def test_no_state_of_a_discrete_family_is_more_probable(case):
    e = jnp.asarray(case.e, jnp.float32)
    found = np.asarray(mode_of(case.family, e))
    reached = np.asarray(case.family.log_prob(found, e))
    if isinstance(case.family, nodes.Categorical):
        np.testing.assert_array_equal(found.sum(case.family.axis), 1)
        best = jax.nn.log_softmax(e, case.family.axis).max(case.family.axis, keepdims=True)
    else:
        states = case.family.states()
        states = jnp.broadcast_to(states.reshape(2, 1, -1), (2, *e.shape))
        best = jnp.stack([case.family.log_prob(state, e) for state in states]).max(0)
    np.testing.assert_array_equal(reached, best)


@pytest.mark.numerics
@pytest.mark.parametrize("case", CONTINUOUS, ids=names)
def test_the_density_of_a_continuous_family_is_largest_at_its_mode(case):
    """Of a rectified one that of the Gaussian behind the rectifier, whose mode is e."""
    e = jnp.asarray(case.e, jnp.float32)
    found = np.asarray(mode_of(case.family, e))
    if isinstance(case.family, nodes.ContinuousBernoulli):
        other = case.family.log_prob(1 - found, e)  # it rises or falls from 0 to 1
        assert (case.family.log_prob(found, e) >= other).all() and set(found.flat) <= {0, 1}
        return
    if not isinstance(case.family, nodes.Gaussian | nodes.GaussianMask):
        leak = np.broadcast_to(getattr(case.family, "leak", 0.0), e.shape)
        np.testing.assert_allclose(found, np.where(e > 0, e, leak * e), rtol=1e-7)
        return
    near = case.family.log_prob(found, e)
    for step in (-1e-2, 1e-2):
        assert (case.family.log_prob(found + step, e) < near).all()


@pytest.mark.numerics
@pytest.mark.parametrize("case", CASES, ids=names)
def test_modes_keep_dtypes_and_are_not_numbers_where_e_is_none(case):
    half = jax.ShapeDtypeStruct(case.e.shape, jnp.bfloat16)
    assert jax.eval_shape(case.family.mode, half).dtype == jnp.bfloat16
    if case.family.discrete and not case.bounded:
        e = np.array(case.e, np.float32)
        e[0, 0] = np.nan
        found = mode_of(case.family, e)
        assert np.isnan(found[0, 0])
        assert not np.isnan(found[1, 1])


def test_of_equal_states_the_first_is_taken():
    zero = jnp.zeros(2)
    assert_identical(nodes.Spin().mode(zero), jnp.array([-1.0, -1.0]))
    assert_identical(nodes.Categorical().mode(zero), jnp.array([1.0, 0.0]))


def test_every_node_is_at_its_mode_given_its_parents():
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)), jnp.float32)
    family = nodes.LinearChain(weights)

    def net(x: Any) -> Any:
        pixels = cg.observe(x, -2.0, 2.0, name="pixels")
        keep = cg.noise(nodes.BernoulliMask(), jnp.full(3, 0.25), name="keep")
        spins = cg.node(nodes.Spin(), pixels @ weights, name="spins") * keep
        hidden = cg.node(nodes.ReLU(), spins @ weights, name="hidden")
        tags = cg.node(family, jnp.stack([hidden, -hidden, spins]), name="tags")
        return tags.sum(0)

    x = jnp.array([0.5, -1.0, 1.5])
    out, values = jax.jit(cg.with_nodes(cg.mode(net)))(x)
    spins = np.where(np.asarray(x @ weights) > 0, np.float32(1), np.float32(-1))
    assert_identical(values["pixels"], x)
    assert_identical(values["keep"], jnp.full(3, 0.25))  # noise is marginalised
    assert_identical(values["spins"], spins)
    np.testing.assert_allclose(values["hidden"], jax.nn.relu(spins / 4 @ weights), rtol=2e-6)
    e = np.stack([values["hidden"], -values["hidden"], spins / 4])
    assert_identical(values["tags"], mode_of(family, e))
    assert_identical(out, np.asarray(values["tags"]).sum(0))
    assert_identical(cg.mode(net)(x), out)
    rows = jnp.stack([x, -x])
    assert_identical(jax.jit(jax.vmap(cg.mode(net)))(rows)[0], out)


def test_gradients_flow_through_continuous_nodes_alone():
    hidden = lambda x: cg.node(nodes.Gaussian(1.0), 3 * x)  # noqa: E731
    assert jax.grad(cg.mode(hidden))(1.0) == 3
    spin = lambda x: 2 * cg.node(nodes.Spin(), 3 * x)  # noqa: E731
    assert jax.grad(cg.mode(spin))(1.0) == 0


def test_a_family_without_a_mode_says_so():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Strange(nodes.Gaussian):
        def mode(self, e: Any) -> Any:
            return nodes.Family.mode(self, e)

    with pytest.raises(TypeError, match="Strange does not say which of its values.*`clamp`"):
        cg.mode(lambda x: cg.node(Strange(1.0), x))(1.0)
