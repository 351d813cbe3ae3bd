"""The gated recurrent layer: Flax's cell when collapsed, and a mixture over binary switches."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.layers import GatedRecurrent
from tests.helpers import assert_identical

INPUTS, UNITS, STEPS = 3, 4, 5
KEY = jax.random.key(4)
X = jax.random.normal(KEY, (2, STEPS, INPUTS))
H = jax.random.normal(jax.random.key(5), (2, UNITS))


def pair() -> tuple[GatedRecurrent, nnx.GRUCell]:
    """A layer and Flax's cell with its weights, none of which is 0."""
    layer = GatedRecurrent(INPUTS, UNITS, rngs=nnx.Rngs(1))
    assert layer.input is not None and layer.input.bias is not None
    layer.input.bias[...] = jnp.linspace(-0.5, 0.5, 3 * UNITS)
    cell = nnx.GRUCell(INPUTS, UNITS, rngs=nnx.Rngs(0))
    nnx.update(cell.dense_i, nnx.state(layer.input))
    nnx.update(cell.dense_h, nnx.state(layer.recurrent))
    return layer, cell


def test_collapsed_it_is_flax_cell_to_the_last_bit():
    layer, cell = pair()
    expected = nnx.RNN(cell)(X, initial_carry=H)
    assert_identical(layer(X, H), expected)
    assert_identical(cg.feed_forward(layer)(X, H), expected)
    assert_identical(nnx.RNN(cell)(X, initial_carry=jnp.zeros_like(H)), layer(X))
    assert_identical(cg.pcff(layer, 0.0)(KEY, X, H), expected)


def test_products_of_all_steps_at_once_and_the_other_order_of_axes():
    layer, _ = pair()
    assert layer.input is not None
    bare = GatedRecurrent(None, UNITS, time_major=True, rngs=nnx.Rngs(2))
    nnx.update(bare.recurrent, nnx.state(layer.recurrent))
    inputs = jnp.moveaxis(layer.input(X), 1, 0)
    np.testing.assert_allclose(jnp.moveaxis(bare(inputs, H), 0, 1), layer(X, H), rtol=0, atol=1e-6)
    half = layer(X.astype(jnp.bfloat16), H)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), layer(X, H), rtol=0, atol=0.02)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_the_law_is_a_mixture_over_when_a_unit_writes():
    """One unit, two steps: the sum over all 64 configurations of its switches and candidates."""
    layer = GatedRecurrent(1, 1, rngs=nnx.Rngs(3))
    assert layer.input is not None and layer.input.bias is not None
    layer.input.bias[...] = jnp.array([0.3, -0.4, 0.5])
    layer.recurrent.kernel[...] = jnp.array([[0.8, -1.2, 1.5]])
    x, first = jnp.array([[[0.7], [-0.2]]]), 0.625
    kernel = np.asarray(layer.input.kernel[...], np.float64)
    own = np.asarray(x[0], np.float64) @ kernel + np.array([0.3, -0.4, 0.5])
    switch = lambda p, on: p if on else 1 - p  # noqa: E731
    law: dict[tuple[float, float], float] = {}
    choices = list(itertools.product((0, 1), (0, 1), (-1, 1)))
    for path in itertools.product(choices, repeat=2):
        state, probability, taken = first, 1.0, []
        for (reset, update, candidate), (e_r, e_z, e_n) in zip(path, own, strict=True):
            probability *= switch(sigmoid(e_r + 0.8 * state), reset)
            probability *= switch(sigmoid(e_z - 1.2 * state), update)
            probability *= sigmoid(2 * candidate * (e_n + reset * 1.5 * state))
            state = update * state + (1 - update) * candidate
            taken.append(round(state, 6))
        law[taken[0], taken[1]] = law.get((taken[0], taken[1]), 0.0) + probability
    assert np.isclose(sum(law.values()), 1)
    states, weights = np.array(list(law)), np.array(list(law.values()))
    mean = weights @ states
    variance = weights @ states**2 - mean**2
    exact = cg.exact_marginals(layer)(x, jnp.array([[first]]))
    np.testing.assert_allclose(exact[0, :, 0], mean, rtol=1e-5)
    count = 20_000
    rows = jnp.broadcast_to(x, (count, 2, 1))
    drawn = np.asarray(cg.forward_sample(layer)(KEY, rows, first))[..., 0]
    values, counts = np.unique(drawn.round(6), axis=0, return_counts=True)
    assert {tuple(map(float, v.round(6))) for v in values} <= set(law)
    for value, found in zip(values, counts, strict=True):
        first_state, second_state = map(float, value.round(6))
        p = law[first_state, second_state]
        assert abs(found / count - p) < 5 * np.sqrt(p * (1 - p) / count)
    # In `moments` the two values of a reset gate are a Gaussian's for the candidate after it.
    belief = cg.moments(layer, nodes="random")(x[:, :1], jnp.array([[first]]))
    np.testing.assert_allclose(belief.mean[0, 0, 0], mean[0], rtol=0.05)
    np.testing.assert_allclose(belief.variance[0, 0, 0], variance[0], rtol=0.05)


def test_the_graph_has_three_components_a_step():
    layer, _ = pair()
    graph = cg.chain_graph(layer)(X)
    assert [c.name for c in graph] == ["state_reset", "state_update", "state_candidate"]
    before = {p.name for p in graph["state_reset"].parents if p.through_time}
    assert before == {"state_update", "state_candidate"}
    assert "state_reset" in {p.name for p in graph["state_candidate"].parents}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pair()[0](X[..., :2]), ValueError, r"time, 3\), got one of \(2, 5, 2\)"),
        (lambda: pair()[0](X, H[:1]), ValueError, r"here \(2, 4\), got \(1, 4\)"),
    ],
)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()
