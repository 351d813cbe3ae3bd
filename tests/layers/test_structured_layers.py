"""Layers of trees and of segments, against the enumeration of all values; sizes of layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax import layers
from tests.helpers import assert_identical
from tests.nodes.structure_oracle import (
    DURATIONS,
    LENGTHS,
    PARENTS,
    K,
    Listed,
    listed_segments,
    listed_tree,
)

FEATURES, KEY = 3, jax.random.key(5)
_draw = np.random.default_rng(8)
NODES = jnp.asarray(_draw.normal(size=(2, len(PARENTS), FEATURES)), jnp.float32)
POSITIONS = jnp.asarray(_draw.normal(size=(2, max(LENGTHS), FEATURES)), jnp.float32)
NEVER = np.array([[0.0, -np.inf], [0.0, 0.0]], np.float32)
ENDS = np.zeros(K, np.float32)


def filled(layer: Any) -> Any:
    """A layer with parameters that are not 0."""
    for _, parameter in nnx.iter_graph(layer):
        if isinstance(parameter, nnx.Param):
            drawn = _draw.normal(size=parameter.shape)
            parameter[...] = jnp.asarray(drawn, jnp.float32)
    return layer


TREE = filled(layers.Tree(FEATURES, PARENTS, K, forbidden=NEVER, rngs=nnx.Rngs(1)))
SEGMENTS = filled(
    layers.SemiMarkov(FEATURES, K, DURATIONS, forbidden=(ENDS, NEVER, ENDS), rngs=nnx.Rngs(1))
)


def scores(layer: Any, x: Any) -> np.ndarray:
    kernel, bias = (
        np.asarray(p[...], np.float64) for p in (layer.projection.kernel, layer.projection.bias)
    )
    return np.asarray(x, np.float64) @ kernel + bias


def known_tree(row: int) -> Listed:
    steps = np.asarray(TREE.transitions[...], np.float64) + NEVER
    return listed_tree({"transitions": steps}, scores(TREE, NODES[row]), row)


def known_segments(row: int) -> Listed:
    of_positions = scores(SEGMENTS, POSITIONS[row])
    e = np.full((*of_positions.shape[:1], DURATIONS, K), np.nan)
    for t in range(len(e)):
        for d in range(min(DURATIONS, len(e) - t)):
            e[t, d] = of_positions[t : t + d + 1].sum(0) + np.asarray(SEGMENTS.durations[d])
    own = {name: np.asarray(getattr(SEGMENTS, name)[...]) for name in ("start", "end")}
    steps = np.asarray(SEGMENTS.transitions[...], np.float64) + NEVER
    return listed_segments({"transitions": steps, **own}, e, row)


CASES = {
    "tree": (TREE, NODES, {}, known_tree),
    "segments": (SEGMENTS, POSITIONS, {"lengths": jnp.array(LENGTHS)}, known_segments),
}


@pytest.mark.numerics
@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_the_enumeration(name):
    layer, x, options, known = CASES[name]
    apply, params, state = cg.functional(layer)
    assert not jax.tree.leaves(state)  # what is fixed is neither a parameter nor state
    row = 1
    exact = known(row)
    number = int(np.argsort(exact.p)[-3])
    value = jnp.asarray(exact.values[number], jnp.float32)
    own = {key: array[row] for key, array in options.items()}

    @jax.jit
    def everything(x: Any) -> Any:
        def log_prob(params: Any) -> Any:
            call = lambda *args: apply(*args, **own)[0]  # noqa: E731
            return cg.log_joint(call)({name: value}, params, state, x[row])

        return {
            "marginals": layer(x, **options),
            "mode": cg.mode(layer)(x, **options),
            "exact": cg.exact_marginals(layer)(x[row], **own),
            "moments": cg.moments(layer)(x, **options).mean,
            "sampled": cg.pcff(layer, {name: 1.0})(KEY, x, **options),
            "drawn": cg.forward_sample(layer)(KEY, x, **options),
            "log_prob": jax.value_and_grad(log_prob)(params),
            "top": layer.family(**options).top(layer.scores(x), 2)[0],
        }

    layer.name = name
    apply, params, state = cg.functional(layer)
    got = jax.tree.map(np.asarray, everything(x))
    for which in range(2):
        np.testing.assert_allclose(got["marginals"][which], known(which).marginals, atol=5e-6)
    assert_identical(got["moments"], got["marginals"])
    np.testing.assert_allclose(got["exact"], exact.marginals, atol=5e-6)
    assert_identical(got["mode"][row], exact.values[exact.p.argmax()].astype(np.float32))
    assert_identical(got["top"][0], got["mode"])
    assert_identical(got["sampled"], got["drawn"])
    found, slopes = got["log_prob"]
    np.testing.assert_allclose(found, exact.log_p[number], rtol=5e-6)
    pairs = exact.pairs[number] - np.tensordot(exact.p, exact.pairs, 1)
    np.testing.assert_allclose(slopes["transitions"][...], pairs.sum(0), atol=5e-6)
    change = exact.values[number] - exact.marginals
    if name == "segments":
        np.testing.assert_allclose(slopes["durations"][...], change.sum(0), atol=5e-6)
        change = np.asarray(layer.family().labels(change))
    kernel = np.asarray(x[row], np.float64).T @ change
    np.testing.assert_allclose(slopes["projection"]["kernel"][...], kernel, atol=5e-6)


def test_other_forms_of_the_layers():
    """A matrix for each node of a tree; scores in place of features; half precision."""
    each = filled(
        layers.Tree(None, PARENTS, K, shared_transitions=False, forbidden=NEVER, rngs=nnx.Rngs(0))
    )
    assert each.transitions.shape == (len(PARENTS), K, K)
    e = np.asarray(_draw.normal(size=(len(PARENTS), K)), np.float32)
    steps = np.asarray(each.transitions[...], np.float64) + NEVER
    exact = listed_tree({"transitions": steps}, e, 0)
    np.testing.assert_allclose(each(jnp.asarray(e)), exact.marginals, atol=5e-6)
    small = POSITIONS.astype(jnp.bfloat16)
    assert SEGMENTS(small).dtype == SEGMENTS.scores(small).dtype == jnp.bfloat16
    bare = layers.SemiMarkov(None, K, DURATIONS, rngs=nnx.Rngs(0))
    ones = bare.scores(jnp.ones((4, K), jnp.bfloat16) / 3)
    assert_identical(ones[0, 2], jnp.full(K, 3 * float(jnp.bfloat16(1 / 3)), jnp.bfloat16))
    graph = cg.chain_graph(layers.SemiMarkov(2, K, 2, name="words", rngs=nnx.Rngs(0)))
    assert [p.name for p in graph(jnp.ones((3, 2)))["words"].parents] == ["inputs"]


R = nnx.Rngs(0)
MISTAKES = [
    (lambda: layers.Tree(2, (1, 0), 2, rngs=R), ValueError, "cycle"),
    (lambda: layers.Tree(2, (-1, 0), 2, forbidden=np.zeros(2), rngs=R), ValueError, r"\(2, 2\)"),
    (
        lambda: layers.Tree(2, (-1, 0), 2, forbidden=np.full((2, 2), -np.inf), rngs=R),
        ValueError,
        "no possible state",
    ),
    (lambda: TREE(NODES[:, :3]), ValueError, "5 parents.*has 3 nodes"),
    (lambda: TREE(NODES[..., :2]), ValueError, r"nodes of the tree, 3\), got one of \(2, 5, 2\)"),
    (
        lambda: layers.SemiMarkov(2, 2, 1, forbidden=(ENDS, NEVER - np.inf, ENDS), rngs=R),
        ValueError,
        "no possible segmentation",
    ),
    (lambda: SEGMENTS(POSITIONS, lengths=jnp.array([5, 1])), ValueError, "from 0 to 4"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("size", [0, -2])
def test_sizes_of_layers_are_at_least_one(size):
    """Of every layer and each of its sizes."""
    made = {
        "in_features": [
            lambda n: layers.SimpleRecurrent(n, 2, rngs=R),
            lambda n: layers.IndependentRecurrent(n, 2, rngs=R),
            lambda n: layers.BayesianRecurrent(n, 2, rngs=R),
            lambda n: layers.GatedRecurrent(n, 2, rngs=R),
            lambda n: layers.LinearChain(n, 2, rngs=R),
            lambda n: layers.Tree(n, (-1, 0), 2, rngs=R),
            lambda n: layers.SemiMarkov(n, 2, 2, rngs=R),
        ],
        "features": [
            lambda n: layers.SimpleRecurrent(2, n, rngs=R),
            lambda n: layers.IndependentRecurrent(None, n, rngs=R),
            lambda n: layers.BayesianRecurrent(2, n, rngs=R),
            lambda n: layers.GatedRecurrent(2, n, rngs=R),
        ],
        "num_states": [
            lambda n: layers.LinearChain(2, n, rngs=R),
            lambda n: layers.Tree(2, (-1, 0), n, rngs=R),
            lambda n: layers.SemiMarkov(2, n, 2, rngs=R),
        ],
        "max_duration": [lambda n: layers.SemiMarkov(2, 2, n, rngs=R)],
    }
    for name, each in made.items():
        for make in each:
            with pytest.raises(ValueError, match=f"{name} is at least 1, got {size}"):
                make(size)
