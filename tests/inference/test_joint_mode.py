"""The most probable joint values against enumeration and the Viterbi recursion, in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.inference.random_graphs import RandomGraph, random_graph

X = np.array([0.4, -0.9])


def check(graph: RandomGraph, evidence: dict[str, Any], weigh) -> None:
    """The values are those of the likeliest configuration that is listed, which is the only one."""
    listed = [(p * weigh(c), c) for p, c in graph.configurations(X)]
    listed.sort(key=lambda row: -row[0])
    best = listed[0][1]
    assert listed[0][0] > (1 + 1e-5) * listed[1][0]  # float32 tells them apart
    net = cg.condition(graph.network(), evidence)
    out, nodes = cg.with_nodes(cg.mode(net))(jnp.asarray(X, jnp.float32))
    for name, value in best.items():
        np.testing.assert_allclose(nodes[name], graph.shaped(name, value), rtol=1e-6)
    for got, want in zip(out, graph.outputs(np, best), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)  # float32


@pytest.mark.parametrize(
    "seed", [0, 5, *(pytest.param(seed, marks=pytest.mark.numerics) for seed in (1, 2, 4))]
)
def test_equals_enumeration(seed):
    graph = random_graph(seed, scale=2.0, max_bits=9)
    rng = np.random.default_rng(seed)
    seen = {p.name: p.states[rng.integers(len(p.states))] for p in graph.parts[1 + seed % 2 :: 2]}
    if seed == 0:
        seen = {}  # jointly, though nothing was seen

    def weigh(configuration):
        return float(all(np.array_equal(configuration[n], v) for n, v in seen.items()))

    check(graph, {n: graph.shaped(n, v) for n, v in seen.items()}, weigh)


# -- a hidden Markov model of three states and normal observations, carried by a scan

STEPS = 9
START, STEP = np.log([0.5, 0.3, 0.2]), np.random.default_rng(1).normal(size=(3, 3))
SEEN = 2 * np.random.default_rng(2).normal(size=STEPS)


def hidden_markov(step):
    def cell(e, _):
        state = cg.node(cg.nodes.Categorical(), e, name="state")
        cg.node(cg.nodes.Gaussian(1.0), state @ jnp.array([-2.0, 0.0, 2.0]), name="x")
        return state @ step, state

    return jax.lax.scan(cell, jnp.asarray(START, jnp.float32), None, STEPS)[1].argmax(-1)


def viterbi(seen: np.ndarray) -> list[int]:
    log_x = -0.5 * (seen[:, None] - np.array([-2.0, 0.0, 2.0])) ** 2
    step = STEP - np.logaddexp.reduce(STEP, 1, keepdims=True)
    score, ways = START + log_x[0], []
    for x in log_x[1:]:
        ways.append((score[:, None] + step).argmax(0))
        score = (score[:, None] + step).max(0) + x
    path = [int(score.argmax())]
    for way in reversed(ways):
        path.append(int(way[path[-1]]))
    return path[::-1]


def test_a_hidden_markov_model():
    @jax.jit
    @jax.vmap
    def path(seen):
        return cg.mode(cg.condition(hidden_markov, {"x": seen}))(jnp.asarray(STEP, jnp.float32))

    # In the last row each observation has a log-density of about -1000.
    rows = np.stack([SEEN, -SEEN[::-1], 20 * SEEN])
    found = path(jnp.asarray(rows, jnp.float32))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, [viterbi(row) for row in rows])
    assert (found[0] != found[1]).any()


# -- nodes that nothing depends on, weights, parts


def star(x):
    center = cg.node(cg.nodes.Spin(), x[0], name="center")
    leaves = cg.node(cg.nodes.Bernoulli(), x * (0.5 + center), name="leaves")
    return center, cg.node(cg.nodes.Spin(), leaves[0] - 0.3 + center, name="top")


def likeliest(x, weights, allowed):
    """All 2^3 states of center, the leaf that is read and top; other leaves by themselves."""
    found = []
    for c in (-1.0, 1.0):
        e = x * (0.5 + c)
        logs = np.stack([-np.logaddexp(0, e), -np.logaddexp(0, -e)], 1) + weights
        logs[1:] = np.where(allowed[1:], logs[1:], -np.inf)
        for first in (0, 1):
            for top in (-1.0, 1.0):
                total = -np.logaddexp(0, -2 * c * x[0]) + logs[0, first] + logs[1:].max(1).sum()
                total -= np.logaddexp(0, -2 * top * (first - 0.3 + c))
                found.append((total, c, np.append(first, logs[1:].argmax(1)), top))
    return max(found, key=lambda row: row[0])


def test_many_leaves_are_decided_each_by_itself():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    weights, known = rng.normal(size=(200, 2)), np.arange(200) % 3 == 1
    values = (rng.random(200) < 0.5).astype(float)
    anything = np.ones((200, 2), bool)
    allowed = np.where(known[:, None], values[:, None] == np.arange(2), anything)
    run = jax.jit(lambda x, values: cg.with_nodes(cg.mode(cg.condition(star, values)))(x)[1])
    for evidence, w, a in (
        ({}, np.zeros((200, 2)), anything),
        ({"leaves": cg.SoftEvidence(jnp.asarray(weights, jnp.float32))}, weights, anything),
        ({"leaves": cg.PartlyKnown(jnp.asarray(values), known)}, np.zeros((200, 2)), allowed),
    ):
        nodes = run(jnp.asarray(x, jnp.float32), evidence)
        _, center, leaves, top = likeliest(x, w, a)
        assert float(nodes["center"]) == center and float(nodes["top"]) == top
        np.testing.assert_array_equal(nodes["leaves"], leaves)


def test_soft_evidence_about_many_nodes_is_summed_node_by_node():
    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=30), rng.normal(size=(30, 2))
    net = lambda x: cg.node(cg.nodes.Bernoulli(), x, name="many")[0]  # noqa: E731
    log = cg.log_evidence(net)({"many": cg.SoftEvidence(weights)}, jnp.asarray(x, jnp.float32))
    p = 1 / (1 + np.exp(-x))
    expected = np.log((1 - p) * np.exp(weights[:, 0]) + p * np.exp(weights[:, 1])).sum()
    np.testing.assert_allclose(log, expected, rtol=1e-4)  # float32


def test_what_is_known_of_leaves_counts_for_their_parent():
    x, weights = np.array([0.3, 0.5, -0.4]), np.array([[0.0, -1.0], [0.2, -2.0], [0.0, 0.1]])

    def net(x):
        center = cg.node(cg.nodes.Spin(), jnp.float32(0.3), name="center")
        return center, cg.node(cg.nodes.Bernoulli(), 3 * x * center, name="leaves")

    def best(c):
        e = 3 * x * c
        logs = np.stack([-np.logaddexp(0, e), -np.logaddexp(0, -e)], 1) + weights
        return -np.logaddexp(0, -0.6 * c) + logs.max(1).sum(), logs.argmax(1)

    seen = cg.condition(net, {"leaves": cg.SoftEvidence(weights)})
    center, leaves = cg.mode(seen)(jnp.asarray(x, jnp.float32))
    assert best(-1.0)[0] > best(1.0)[0]  # against what center is by itself
    assert float(center) == -1
    np.testing.assert_array_equal(leaves, best(-1.0)[1])


def test_the_best_path_of_a_chain_that_was_not_seen():
    transitions = jnp.asarray(np.random.default_rng(4).normal(size=(3, 3)), jnp.float32)
    family = cg.nodes.LinearChain(transitions)
    e = jnp.asarray(np.random.default_rng(5).normal(size=(30, 3)), jnp.float32)  # 3^30 paths

    def net(e):
        topic = cg.node(cg.nodes.Spin(), jnp.float32(0), name="topic")
        return cg.node(family, e * topic, name="tags")

    for topic in (-1.0, 1.0):
        got = cg.mode(cg.condition(net, {"topic": topic}))(e)
        np.testing.assert_array_equal(got, family.mode(topic * e))


def test_nodes_in_branches():
    """What is not there has no part in the product: a branch of many nodes is not less probable."""

    def net(x):
        side = cg.node(cg.nodes.Bernoulli(), x, name="side")

        def branch():
            return cg.node(cg.nodes.Bernoulli(), jnp.full(9, 0.1), name="inner").sum()

        out = jax.lax.cond(side > 0.5, branch, lambda: jnp.float32(-1))
        cg.node(cg.nodes.Spin(), 0.01 * out, name="reader")  # so that they are summed jointly, too
        return side, out

    run = jax.jit(cg.with_nodes(cg.mode(cg.condition(net, {}))))
    # P(side = 0) = .45 against P(side = 1) = .55 times .525^9
    (side, out), nodes = run(jnp.float32(0.2))
    assert (float(side), float(out)) == (0.0, -1.0) and np.isnan(nodes["inner"]).all()
    (side, out), nodes = run(jnp.float32(8.0))
    assert (float(side), float(out)) == (1.0, 9.0) and (nodes["inner"] == 1).all()


# -- ties, derivatives, what is impossible or refused


def pair(e):
    a = cg.node(cg.nodes.Spin(), 0.0 * e, name="a")
    b = cg.node(cg.nodes.Spin(), 0.0 * e, name="b")
    return a, b, cg.node(cg.nodes.Spin(), e * a * b, name="same")


def test_of_equally_probable_values_one_is_taken_that_fits_together():
    # Each of a and b is as likely -1 as 1, but only together are they equal, or different.
    run = jax.jit(lambda same: cg.mode(cg.condition(pair, {"same": same}))(jnp.float32(3)))
    for same in (1.0, -1.0):
        a, b, _ = run(same)
        assert float(a * b) == same
        assert [float(x) for x in run(same)[:2]] == [float(a), float(b)]


def test_gradients_flow_past_the_nodes():
    def loss(scale):
        a, _, _ = cg.mode(cg.condition(lambda e: pair(jnp.float32(3)), {"same": 1.0}))(scale)
        return scale * a

    assert abs(float(jax.grad(loss)(2.0))) == 1


def test_modules():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 3, rngs=rngs)

        def __call__(self, x):
            h = cg.node(cg.nodes.Spin(), self.hidden(x), name="h")
            return h, cg.node(cg.nodes.Spin(), h.sum(), name="y")

    net, x = Net(nnx.Rngs(0)), jnp.array([0.3, -2.0])
    h, y = cg.mode(cg.condition(net, {"y": -1.0}))(x)
    f, params, state = cg.functional(net)
    expected = cg.mode(cg.condition(f, {"y": -1.0}))(params, state, x)[0]
    np.testing.assert_array_equal(h, expected[0])
    assert float(y) == -1
    np.testing.assert_array_equal(cg.mode(net)(x)[0], jnp.sign(net.hidden(x)))


def test_impossible_evidence():
    def net(keep):
        mask = cg.noise(cg.nodes.BernoulliMask(), keep, name="mask")
        return mask, cg.node(cg.nodes.Spin(), mask, name="y")

    with pytest.raises(ValueError, match="about 'mask' has probability 0"):
        cg.mode(cg.condition(net, {"mask": 0.0}))(1.0)
    traced = jax.jit(lambda seen: cg.mode(cg.condition(net, {"mask": seen}))(1.0))
    assert np.isnan(traced(0.0)).all()
    assert [float(x) for x in traced(1.0)] == [1.0, 1.0]


def test_what_is_refused():
    def wide(x):
        h = cg.node(cg.nodes.Spin(), x, name="h")
        return cg.node(cg.nodes.Spin(), jnp.tanh(h.prod()), name="y")

    def continuous(x):
        return cg.node(cg.nodes.Gaussian(1.0), x, name="g")

    with pytest.raises(ValueError, match=r"most probable joint values: 2\^40.*'h' \(40 nodes"):
        cg.mode(cg.condition(wide, {"y": 1.0}))(jnp.zeros(40))
    with pytest.raises(TypeError, match="'g' is of the continuous family Gaussian.*Observe"):
        cg.mode(cg.condition(continuous, {}))(1.0)
    with pytest.raises(ValueError, match="max_states is an integer"):
        cg.mode(cg.condition(wide, {}), max_states=0)
    with pytest.raises(ValueError, match="cannot have been seen as 0.3"):
        cg.mode(cg.condition(wide, {"y": 0.3}))(jnp.zeros(2))
