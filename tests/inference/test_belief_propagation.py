"""Belief propagation: exact on trees, and on loops as written out message by message in NumPy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.inference._messages import Batch, FactorGraph

# -- trees


def tree(x):
    """Mixed families, an array of which each node has a child of its own, noise, functions."""
    root = cg.node(cg.nodes.Categorical(), x * jnp.array([0.5, -0.3, 0.1]), name="root")
    pair = cg.node(
        cg.nodes.Spin(), root @ jnp.array([[1.0, 0.2], [-0.5, 0.4], [0.0, -2.0]]), name="pair"
    )
    keep = cg.noise(cg.nodes.BernoulliMask(), jnp.float32(0.75), name="keep")
    left = cg.node(cg.nodes.Bernoulli(), 1.5 * pair[0] * keep - 0.2, name="left")
    right = cg.node(cg.nodes.Categorical(), pair[1] * jnp.array([1.0, 0.0]), name="right")
    many = cg.node(cg.nodes.Bernoulli(), left * jnp.linspace(-1.0, 1.0, 6), name="many")
    # Functions of one node, of a node and its parents, and linear ones.
    return jnp.tanh(root), keep * left * pair[0], many.sum() + right[0], jnp.exp(many)


TREE_EVIDENCE = {
    "many": cg.PartlyKnown(jnp.arange(6) % 2.0, np.arange(6) < 3),
    "right": cg.SoftEvidence(jnp.array([[0.3, -1.0]])),
}


@pytest.mark.numerics
def test_trees_are_exact():
    x = jnp.float32(0.7)
    for evidence in ({}, TREE_EVIDENCE):
        net = cg.condition(tree, evidence)
        found, nodes = cg.with_nodes(cg.belief_propagation(net))(x)
        out, exact = cg.with_nodes(cg.exact_marginals(net))(x)
        # The longest way: a message from `many` to `right` and back.
        assert bool(found.converged) and int(found.iterations) < 10 and found.residual < 1e-6
        for got, want in zip(jax.tree.leaves(found.mean), jax.tree.leaves(out), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)  # float32
        for name, mean in exact.items():
            np.testing.assert_allclose(nodes[name], mean, rtol=2e-5, atol=1e-6)


def chain(weight, scale, steps=6):
    def cell(h, _):
        h = cg.node(cg.nodes.Spin(), weight * h, name="h")
        cg.node(cg.nodes.Gaussian(1.0), scale * h, name="x")
        return h, h

    return jax.lax.scan(cell, jnp.float32(0), None, steps)[1]


def test_chains_derivatives_and_maps():
    rng = np.random.default_rng(0)
    # In the second row the observations have log-densities of about -500 each.
    seen = jnp.asarray(np.stack([rng.normal(size=6), 30 * rng.normal(size=6)]), jnp.float32)

    def by_messages(weight, seen):
        return cg.belief_propagation(cg.condition(chain, {"x": seen}), iterations=30)(weight, 1.0)

    def fixed(weight, seen):
        net = cg.condition(chain, {"x": seen})
        return cg.belief_propagation(net, iterations=7, tolerance=None)(weight, 1.0).mean[::2].sum()

    def exactly(weight, seen):
        mean = cg.exact_marginals(cg.condition(chain, {"x": seen}))(weight, 1.0)
        return mean[::2].sum(), mean

    @jax.jit
    def run(weight, seen):
        rows = jax.vmap(by_messages, (None, 0))
        found, forwards = jax.jvp(lambda w: rows(w, seen), (weight,), (1.0,))
        backwards = jax.vmap(jax.grad(fixed), (None, 0))(weight, seen)
        exact = jax.vmap(jax.value_and_grad(exactly, has_aux=True), (None, 0))(weight, seen)
        return found, forwards.mean[:, ::2].sum(1), backwards, exact

    found, forwards, backwards, ((_, exact), slope) = run(jnp.float32(1.1), seen)
    np.testing.assert_allclose(found.mean, exact, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_allclose(forwards, slope, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(backwards, slope, rtol=1e-3, atol=1e-5)
    assert found.converged.all() and (found.iterations <= 8).all()
    assert found.iterations.shape == found.residual.shape == (2,)
    short = cg.belief_propagation(cg.condition(chain, {"x": seen[0]}), iterations=2)(1.1, 1.0)
    assert int(short.iterations) == 2 and short.residual > 1e-5 and not bool(short.converged)


# -- loops

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(2, 3, 3)).astype(np.float32)
TOP = np.array([1.0, -1.0, 1.0], np.float32)


def dense(x):
    for layer, weight in enumerate(WEIGHTS):
        x = cg.node(cg.nodes.Spin(), x @ weight, name=f"layer{layer}")
    cg.node(cg.nodes.Spin(), x @ WEIGHTS[0], name="top")
    return x


def written_out(x: np.ndarray, rounds: int, damping: float) -> np.ndarray:
    """E of the six spins after some rounds; all messages in dicts, all sums over configurations."""
    up = np.array([-1.0, 1.0])
    scopes: list[tuple[int, ...]] = [(k,) for k in range(3)]
    scopes += [(0, 1, 2, 3 + k) for k in range(3)] + [(3, 4, 5)] * 3
    tables = []
    for number, scope in enumerate(scopes):
        table = np.zeros((2,) * len(scope))
        for states in np.ndindex(table.shape):
            v, k = up[list(states)], number % 3
            if number < 3:
                own, e = v[0], x @ WEIGHTS[0][:, k]
            elif number < 6:
                own, e = v[3], v[:3] @ WEIGHTS[1][:, k]
            else:
                own, e = TOP[k], v @ WEIGHTS[0][:, k]
            table[states] = 1 / (1 + np.exp(-2 * own * e))
        tables.append(table)
    edges = [(f, v) for f, scope in enumerate(scopes) for v in scope]
    messages = {edge: np.full(2, 0.5) for edge in edges}
    for _ in range(rounds):
        new = {}
        for f, v in edges:
            total = np.zeros(2)
            for states in itertools.product((0, 1), repeat=len(scopes[f])):
                term = tables[f][states]
                for u, s in zip(scopes[f], states, strict=True):
                    if u != v:
                        for g, w in edges:
                            term *= messages[g, w][s] if w == u and g != f else 1
                total[states[scopes[f].index(v)]] += term
            new[f, v] = (1 - damping) * total / total.sum() + damping * messages[f, v]
        messages = new
    found = np.stack([np.prod([messages[f, v] for f, v in edges if v == u], 0) for u in range(6)])
    return (found / found.sum(1, keepdims=True)) @ up


@pytest.mark.numerics
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_loops_are_as_written_out(damping):
    x = np.array([0.3, -0.8, 1.2], np.float32)
    net = cg.condition(dense, {"top": TOP})
    run = cg.belief_propagation(net, iterations=4, damping=damping, tolerance=None)
    found, nodes = cg.with_nodes(run)(jnp.asarray(x))
    assert int(found.iterations) == 4 and not bool(found.converged)
    got = np.concatenate([nodes["layer0"], nodes["layer1"]])
    np.testing.assert_allclose(got, written_out(x, 4, damping), rtol=1e-4, atol=1e-6)  # float32
    np.testing.assert_array_equal(found.mean, nodes["layer1"])


def test_what_is_compiled_does_not_grow_with_the_number_of_factors():
    def equations(length: int) -> int:
        steps = np.stack([np.arange(length - 1), np.arange(1, length)], 1)
        graph = FactorGraph(
            [Batch(np.arange(length)[:, None], (2,)), Batch(steps, (2, 2))], [2] * length
        )
        tables = [jnp.zeros((length, 2)), jnp.zeros((length - 1, 2, 2))]
        shapes = {2: jnp.zeros((graph.counts[2], 2))}
        return len(jax.make_jaxpr(graph.round)(tables, shapes).jaxpr.eqns)

    assert equations(5) == equations(50)


# -- modules, what is impossible or refused


def test_modules():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 3, rngs=rngs)

        def __call__(self, x):
            h = cg.node(cg.nodes.Spin(), self.hidden(x), name="h")
            return cg.node(cg.nodes.Spin(), h[0], name="y")

    net, x = Net(nnx.Rngs(0)), jnp.array([0.3, -2.0])
    found = cg.belief_propagation(net)(x)
    np.testing.assert_allclose(found.mean, cg.exact_marginals(net)(x), rtol=1e-5)
    assert float(cg.belief_propagation(cg.condition(net, {"y": 1.0}))(x).mean) == 1


def masked(keep):
    mask = cg.noise(cg.nodes.BernoulliMask(), keep, name="mask")
    return mask, cg.node(cg.nodes.Spin(), mask, name="y")


def test_impossible_evidence_and_impossible_states():
    with pytest.raises(ValueError, match="about 'mask' has probability 0"):
        cg.belief_propagation(cg.condition(masked, {"mask": 0.0}))(1.0)

    @jax.jit
    def run(seen, keep):
        values = {"mask": cg.PartlyKnown(seen, True), "y": 1.0}
        net = cg.belief_propagation(cg.condition(masked, values), iterations=4, tolerance=None)
        mean, slope = jax.value_and_grad(lambda keep: net(keep).mean[0])(keep)
        alone = cg.belief_propagation(cg.condition(masked, {"mask": seen}))(keep).mean
        return mean, slope, alone

    assert np.isnan(run(0.0, 1.0)[0]) and np.isnan(run(0.0, 1.0)[2]).all()
    mean, slope, alone = run(1.0, 1.0)
    assert (float(mean), float(slope), float(alone[0])) == (1.0, 0.0, 1.0)


def wide(x):
    h = cg.node(cg.nodes.Spin(), x, name="h")
    return cg.node(cg.nodes.Spin(), jnp.tanh(h.prod()), name="y")


def apart(x):
    a = cg.node(cg.nodes.Spin(), x, name="a")
    b = cg.node(cg.nodes.Spin(), a, name="b")
    return a * cg.node(cg.nodes.Spin(), b, name="c")


@pytest.mark.parametrize(
    ("net", "x", "error", "message"),
    [
        (wide, jnp.zeros(40), ValueError, r"'y' depends on 'h' \(40 nodes.*2\^41"),
        (apart, jnp.zeros(()), ValueError, "nonlinear function of 'a'.*'c'.*Return the nodes"),
        (
            lambda x: cg.node(cg.nodes.Gaussian(1.0), x),
            1.0,
            TypeError,
            "messages are distributions",
        ),
    ],
)
def test_what_is_refused(net: Any, x: Any, error: Any, message: str):
    with pytest.raises(error, match=message):
        cg.belief_propagation(net)(x)


@pytest.mark.parametrize(
    ("option", "value"),
    [("damping", 1.0), ("damping", -0.1), ("damping", "much"), ("iterations", 0)]
    + [("iterations", 2.5), ("tolerance", -1e-3), ("tolerance", float("nan"))],
)
def test_bad_options(option, value):
    with pytest.raises(ValueError, match=f"{option} is .* got {value!r}"):
        cg.belief_propagation(apart, **{option: value})
