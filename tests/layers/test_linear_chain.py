"""The layer of linear chains: its parameters, its constraints, and what a call takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.layers import LinearChain
from tests.helpers import assert_identical
from tests.kernels.chain_oracle import Enumerated, enumerated

ROWS, LENGTH, FEATURES, STATES = 3, 4, 2, 3
KEY = jax.random.key(5)
_draw = np.random.default_rng(2)
X = jnp.asarray(_draw.normal(size=(ROWS, LENGTH, FEATURES)), jnp.float32)
FORBIDDEN = cg.nodes.bio_transitions(["O", "B", "I"])


def layer(**options: Any) -> LinearChain:
    """A layer with parameters that are not 0."""
    made = LinearChain(FEATURES, STATES, forbidden=FORBIDDEN, rngs=nnx.Rngs(1), **options)
    draw = np.random.default_rng(3)
    assert made.projection is not None
    for parameter in (made.transitions, made.start, made.end, made.projection.bias):
        assert parameter is not None
        parameter[...] = jnp.asarray(draw.normal(size=parameter.shape), jnp.float32)
    return made


LAYER = layer()
APPLY, PARAMETERS, STATE = cg.functional(LAYER)


def known(row: int, mask: Any = None, by: LinearChain = LAYER) -> Enumerated:
    """The enumeration of one row of X, from the parameters alone."""
    assert by.projection is not None and by.projection.bias is not None
    e = np.asarray(X[row], np.float64) @ np.asarray(by.projection.kernel[...], np.float64)
    start, transitions, end = (
        np.asarray(own[...], np.float64) + fixed
        for own, fixed in zip((by.start, by.transitions, by.end), FORBIDDEN, strict=True)
    )
    return enumerated(e + np.asarray(by.projection.bias[...]), transitions, mask, start, end)


def test_a_call_gives_the_marginals_of_each_chain():
    holes = jnp.array([[True, False, True, True], [False, True, True, False], [True] * 4])
    by_mask = LAYER(X, mask=holes)
    for row in range(ROWS):
        np.testing.assert_allclose(by_mask[row], known(row, holes[row]).marginals, atol=2e-6)
    lengths = jnp.array([4, 2, 0])
    assert_identical(
        LAYER(X, lengths=lengths), LAYER(X, mask=jnp.arange(LENGTH)[None] < lengths[:, None])
    )
    scores = LinearChain(None, STATES, forbidden=FORBIDDEN, rngs=nnx.Rngs(0))
    scores.transitions, scores.start, scores.end = LAYER.transitions, LAYER.start, LAYER.end
    assert LAYER.projection is not None
    assert_identical(scores(LAYER.projection(X)), LAYER(X))
    assert LAYER(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_gradient_of_the_log_joint_is_the_path_less_the_marginals():
    call = lambda *args: APPLY(*args)[0]  # noqa: E731
    one = known(0)
    number = int(np.argsort(one.probabilities)[-5])  # a possible one
    path = jnp.asarray(one.statistics[number], jnp.float32)
    of = lambda p: cg.log_joint(call)({"chain": path}, p, STATE, X[0])  # noqa: E731
    value, found = jax.jit(jax.value_and_grad(of))(PARAMETERS)
    np.testing.assert_allclose(value, np.log(one.probabilities[number]), rtol=5e-6)
    by_e = one.statistics[number] - one.marginals
    close = lambda a, b: np.testing.assert_allclose(a[...], b, atol=3e-6)  # noqa: E731
    close(found["projection"]["kernel"], np.asarray(X[0], np.float64).T @ by_e)
    close(found["projection"]["bias"], by_e.sum(0))
    close(found["transitions"], (one.pairs[number] - one.pair_marginals).sum(0))
    close(found["start"], by_e[0])
    close(found["end"], by_e[-1])


def test_constraints_are_fixed_and_part_of_the_distribution():
    assert not jax.tree.leaves(STATE)  # they are neither parameters nor state
    assert {len(x) for x in jax.tree.leaves(PARAMETERS)} <= {FEATURES, STATES}
    pushed = jax.tree.map(lambda p: p + 3, PARAMETERS)
    run = jax.jit(cg.forward_sample(lambda p, x: APPLY(p, STATE, x)[0]))
    paths = np.asarray(run(KEY, pushed, jnp.tile(X, (100, 1, 1)))).argmax(-1)
    assert (paths[:, 0] != 2).all() and (paths[:, 1:][paths[:, :-1] == 0] != 2).all()
    assert (paths == 2).any()  # elsewhere it is possible


def test_the_layer_in_every_procedure():
    @jax.jit
    def everything(x: Any) -> Any:
        marginals = (
            cg.feed_forward(LAYER)(x),
            cg.exact_marginals(LAYER)(x),
            cg.moments(LAYER)(x).mean,
            cg.pcff(LAYER, 0.0)(KEY, x),
        )
        drawn = cg.pcff(LAYER, {"chain": 1.0})(KEY, x), cg.forward_sample(LAYER)(KEY, x)
        return marginals, cg.mode(LAYER)(x), drawn

    marginals, best, drawn = everything(X[0])
    one = known(0)
    for found in marginals:
        np.testing.assert_allclose(found, one.marginals, atol=2e-6)
    assert_identical(best, one.statistics[one.probabilities.argmax()].astype(np.float32))
    assert_identical(*drawn)
    graph = cg.chain_graph(layer(name="tags"))(X[0], lengths=jnp.array(3))
    assert [p.name for p in graph["tags"].parents] == ["inputs", "lengths"]


MISTAKES = [
    (lambda: LinearChain(2, 0, rngs=nnx.Rngs(0)), ValueError, "num_states is at least 1, got 0"),
    (
        lambda: LinearChain(2, 2, forbidden=FORBIDDEN, rngs=nnx.Rngs(0)),
        ValueError,
        r"forbidden.start has shape \(3,\); for 2 states it is \(2,\)",
    ),
    (
        lambda: LinearChain(
            2, 1, forbidden=(np.zeros(1), np.full((1, 1), -np.inf), np.zeros(1)), rngs=nnx.Rngs(0)
        ),
        ValueError,
        "no possible path",
    ),
    (lambda: LAYER(X[0, 0]), ValueError, r"\(\*batch, positions, 2\), got one of \(2,\)"),
    (lambda: LAYER(X[..., :1]), ValueError, r"positions, 2\), got one of \(3, 4, 1\)"),
    (lambda: LAYER(X, lengths=jnp.array([5, 1, 1])), ValueError, "lengths must be from 0 to 4"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()
