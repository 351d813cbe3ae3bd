"""Evidence against enumeration, forward-backward recursions and Bayes' rule by tables, in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.inference.random_graphs import STATES, Part, RandomGraph, random_graph

X = np.array([0.4, -0.9])


def posterior(graph: RandomGraph, weigh) -> tuple[float, list[Any], dict[str, Any]]:
    """P(evidence), the posterior expectation of the outputs, and that of each statistic."""
    total, outputs, means = 0.0, [0.0] * 3, dict.fromkeys([p.name for p in graph.parts], 0.0)
    for probability, configuration in graph.configurations(X):
        probability = probability * weigh(configuration)
        total += probability
        for k, out in enumerate(graph.outputs(np, configuration)):
            outputs[k] = outputs[k] + probability * out
        for name, value in configuration.items():
            means[name] = means[name] + probability * value
    return total, [o / total for o in outputs], {n: m / total for n, m in means.items()}


def check(graph: RandomGraph, evidence: dict[str, Any], weigh) -> None:
    total, outputs, means = posterior(graph, weigh)
    net = graph.network()
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        out, nodes = cg.with_nodes(cg.exact_marginals(cg.condition(net, evidence)))(x)
        log = cg.log_evidence(net)(evidence, x)
    # Sums of at most 2^11 products in float64.
    np.testing.assert_allclose(log, np.log(total), rtol=1e-9, atol=1e-12)
    for got, want in zip(out, outputs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    for name, mean in means.items():
        np.testing.assert_allclose(nodes[name], graph.shaped(name, mean), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "seed", [0, 3, *(pytest.param(seed, marks=pytest.mark.numerics) for seed in (1, 6))]
)
def test_equals_enumeration(seed):
    graph = random_graph(seed, scale=3.0 if seed % 2 else 1.0, max_bits=9)
    rng = np.random.default_rng(seed)
    seen = {p.name: p.states[rng.integers(len(p.states))] for p in graph.parts[1 + seed % 2 :: 2]}

    def weigh(configuration):
        return float(all(np.array_equal(configuration[n], v) for n, v in seen.items()))

    check(graph, {n: graph.shaped(n, v) for n, v in seen.items()}, weigh)


def test_a_part_of_an_array_and_weights():
    rng = np.random.default_rng(0)

    def part(name, family, num_nodes, parents, size):
        weights = {p: rng.normal(size=(n, size)) for p, n in parents.items()}
        return Part(name, family, num_nodes, rng.normal(size=size), weights)

    graph = RandomGraph(
        (
            part("a", "spin", 2, {}, 2),
            part("b", "categorical", 2, {"a": 2}, 6),
            part("c", "binary", 3, {"b": 6}, 3),
        ),
        {"a": rng.normal(size=2), "c": rng.normal(size=3)},
    )
    seen = graph.parts[1].states[4].reshape(2, 3)
    known, low = np.array([False, True]), STATES["binary"][0]
    weights = rng.normal(size=(2, 2))
    evidence = {
        "b": cg.PartlyKnown(seen, known),
        "c": cg.PartlyKnown(np.array([0.0, low, 0.0]), np.array([False, True, False])),
        "a": cg.SoftEvidence(weights),
    }

    def weigh(configuration):
        right = np.array_equal(configuration["b"][3:], seen[1]) and configuration["c"][1] == low
        states = (configuration["a"] > 0).astype(int)
        return right * np.exp(weights[[0, 1], states].sum())

    check(graph, evidence, weigh)


# -- a hidden Markov model: a spin that is carried by a scan, and what is seen of it

STEPS = 12
STEP_WEIGHT, SEEN = 1.1, np.random.default_rng(0).normal(size=STEPS)


def hidden_markov(weight, scale=1.0):
    def cell(h, _):
        h = cg.node(cg.nodes.Spin(), weight * h, name="h")
        cg.node(cg.nodes.Gaussian(1.0), scale * h, name="x")
        return h, h

    return jax.lax.scan(cell, jnp.float32(0), None, STEPS)[1]


def forward_backward(weight: float, seen: np.ndarray) -> tuple[float, np.ndarray]:
    """The log-likelihood, and E[h] given all that was seen, in logarithms."""
    up = np.array([-1.0, 1.0])

    def log_spin(e):
        return -np.logaddexp(0.0, -2 * np.multiply.outer(e, up))

    step = log_spin(weight * up)
    log_x = -0.5 * (seen[:, None] - up) ** 2 - 0.5 * np.log(2 * np.pi)
    alphas = [log_spin(0.0) + log_x[0]]
    for x in log_x[1:]:
        alphas.append(np.logaddexp.reduce(alphas[-1][:, None] + step, 0) + x)
    betas = [np.zeros(2)]
    for x in log_x[:0:-1]:
        betas.append(np.logaddexp.reduce(step + x + betas[-1], 1))
    log = np.logaddexp.reduce(alphas[-1])
    return log, np.exp(np.stack(alphas) + np.stack(betas[::-1]) - log) @ up


@jax.jit
def of_hidden_markov(weight, seen):
    """The log-likelihood with its gradient, and the posterior, compiled once for all tests."""
    log, gradients = jax.value_and_grad(
        lambda w, x: cg.log_evidence(hidden_markov)({"x": x}, w), argnums=(0, 1)
    )(weight, seen)
    mean = cg.exact_marginals(cg.condition(hidden_markov, {"x": seen}))(weight)
    return log, gradients, mean


def test_a_hidden_markov_model():
    seen = jnp.asarray(SEEN, jnp.float32)
    log, gradients, mean = of_hidden_markov(jnp.float32(STEP_WEIGHT), seen)
    expected, laws = forward_backward(STEP_WEIGHT, SEEN)
    np.testing.assert_allclose(log, expected, rtol=1e-5)  # float32
    np.testing.assert_allclose(mean, laws, rtol=1e-4, atol=1e-6)

    # Central differences in float64: error 1e-9.
    def slope(weight, shift):
        ends = [forward_backward(STEP_WEIGHT + s * weight, SEEN + s * shift)[0] for s in (1, -1)]
        return (ends[0] - ends[1]) / 2e-5

    np.testing.assert_allclose(gradients[0], slope(1e-5, 0.0), rtol=1e-4)
    slopes = [slope(0.0, 1e-5 * row) for row in np.eye(STEPS)]
    np.testing.assert_allclose(gradients[1], slopes, rtol=1e-4, atol=1e-5)


def test_improbable_evidence_does_not_underflow():
    seen = 40 * SEEN  # logarithms of about -10,000
    log, gradients, mean = of_hidden_markov(jnp.float32(STEP_WEIGHT), jnp.asarray(seen, "float32"))
    expected, laws = forward_backward(STEP_WEIGHT, seen)
    assert expected < -4000
    np.testing.assert_allclose(log, expected, rtol=1e-5)
    np.testing.assert_allclose(mean, laws, rtol=1e-3, atol=1e-5)
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)


def test_evidence_against_a_strong_prior():
    def net(e):
        a = cg.node(cg.nodes.Bernoulli(), -e, name="a")
        b = cg.node(cg.nodes.Bernoulli(), e * (2 * a - 1), name="b")
        return a, cg.node(cg.nodes.Bernoulli(), e * (2 * b - 1), name="c")

    # Either a or one of the steps after it took a chance of exp(-150), below the smallest float32.
    a, c = cg.exact_marginals(cg.condition(net, {"c": 1.0}))(jnp.float32(150))
    np.testing.assert_allclose((a, c), (1 / 3, 1.0), rtol=1e-4)
    log = cg.log_evidence(net)({"c": 1.0}, jnp.float32(150))
    np.testing.assert_allclose(log, np.log(3.0) - 150, rtol=1e-6)


def test_the_derivative_by_weights_is_the_posterior():
    graph = random_graph(3, max_bits=8)
    net, last = graph.network(), graph.parts[-1]
    seen = {last.name: jnp.asarray(graph.shaped(last.name, last.states[-1]), jnp.float32)}
    first = graph.parts[0]
    num_states = 3 if first.family == "categorical" else 2
    shape = (first.num_nodes, *((1,) if num_states == 3 else ()), num_states)
    x = jnp.asarray(X, jnp.float32)

    def log(weights):
        evidence = {**seen, first.name: cg.SoftEvidence(weights)}
        return cg.log_evidence(net)(evidence, x)

    laws = jax.jit(jax.grad(log))(jnp.zeros(shape)).reshape(first.num_nodes, num_states)
    _, _, means = posterior(graph, lambda c: np.array_equal(c[last.name], last.states[-1]))
    np.testing.assert_allclose(laws.sum(-1), 1.0, rtol=1e-5)
    values = np.eye(3) if num_states == 3 else STATES[first.family][:, None]
    np.testing.assert_allclose(
        np.asarray(laws @ values).reshape(-1), means[first.name], rtol=1e-4, atol=1e-6
    )


def test_mapped_over_evidence_and_arguments_and_compiled_once():
    traces = []

    def net(x):
        traces.append(None)
        a = cg.node(cg.nodes.Spin(), x, name="a")
        b = cg.node(cg.nodes.Bernoulli(), 2 * a, name="b")
        return a + 0.0, cg.node(cg.nodes.Spin(), b + a, name="c")

    def one(c, x):
        return cg.exact_marginals(cg.condition(net, {"c": c}))(x)[0]

    seen, x = jnp.array([1.0, -1.0, 1.0]), jnp.array([0.3, -0.2, 0.1])
    each = [one(c, e) for c, e in zip(seen, x, strict=True)]
    count = len(traces)
    assert count == 1
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(seen, x), each, rtol=1e-6)
    logs = jax.jit(jax.vmap(lambda c, e: cg.log_evidence(net)({"c": c}, e)))(seen, x)
    both = [np.exp(cg.log_evidence(net)({"c": c}, 0.3)) for c in (1.0, -1.0)]
    np.testing.assert_allclose(np.sum(both), 1.0, rtol=1e-6)
    np.testing.assert_allclose(logs[0], np.log(both[0]), rtol=1e-5)


# -- what it is not, and what it refuses


def rain(e):
    rain = cg.node(cg.nodes.Bernoulli(), e, name="rain")
    return rain, cg.node(cg.nodes.Bernoulli(), 6 * rain - 3, name="wet")


def test_seeing_tells_of_parents_and_doing_does_not():
    prior = 1 / (1 + np.exp(1.0))
    seen = cg.exact_marginals(cg.condition(rain, {"wet": 1}))(-1.0)[0]
    done = cg.exact_marginals(cg.clamp(rain, {"wet": 1.0}))(-1.0)[0]
    wet, dry = (1 / (1 + np.exp(-e)) for e in (3.0, -3.0))
    np.testing.assert_allclose(seen, prior * wet / (prior * wet + (1 - prior) * dry), rtol=1e-6)
    np.testing.assert_allclose(done, prior, rtol=1e-6)
    # Of what has no parents, both say the same of all others.
    both = cg.condition(rain, {"rain": 1.0}), cg.clamp(rain, {"rain": 1.0})
    np.testing.assert_allclose(*(cg.exact_marginals(net)(-1.0)[1] for net in both), rtol=1e-6)


def test_evidence_may_be_added():
    twice = cg.condition(cg.condition(rain, {"wet": 1.0}), {"rain": 0.0})
    assert [float(x) for x in cg.exact_marginals(twice)(-1.0)] == [0.0, 1.0]
    with pytest.raises(ValueError, match="already about 'wet'"):
        cg.condition(twice, {"wet": 0.0})


def test_modules():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 3, rngs=rngs)

        def __call__(self, x):
            h = cg.node(cg.nodes.Spin(), self.hidden(x), name="h")
            return h, cg.node(cg.nodes.Spin(), h.sum(), name="y")

    net, x, seen = Net(nnx.Rngs(0)), jnp.array([0.3, -2.0]), {"y": 1.0}
    f, params, state = cg.functional(net)
    conditioned = cg.exact_marginals(cg.condition(f, seen))(params, state, x)[0]
    got = cg.exact_marginals(cg.condition(net, seen))(x)
    np.testing.assert_allclose(got[0], conditioned[0], rtol=1e-6)
    probabilities = [jnp.exp(cg.log_evidence(net)({"y": y}, x)) for y in (1.0, -1.0)]
    np.testing.assert_allclose(sum(probabilities), 1.0, rtol=1e-6)


def test_impossible_evidence():
    def net(keep):
        return cg.noise(cg.nodes.BernoulliMask(), keep, name="mask")

    for call in (
        lambda: cg.exact_marginals(cg.condition(net, {"mask": 0.0}))(1.0),
        lambda: cg.log_evidence(net)({"mask": 0.0}, 1.0),
    ):
        with pytest.raises(ValueError, match="about 'mask' has probability 0"):
            call()
    traced = jax.jit(
        lambda seen: (
            cg.log_evidence(net)({"mask": seen}, 1.0),
            cg.exact_marginals(cg.condition(net, {"mask": cg.PartlyKnown(seen, True)}))(1.0),
        )
    )
    log, mean = traced(0.0)
    assert float(log) == -np.inf and np.isnan(mean)
    assert float(traced(1.0)[0]) == 0.0


def test_impossible_evidence_says_nothing_of_any_node():
    def net(e):
        a = cg.node(cg.nodes.Bernoulli(), e, name="a")
        c = cg.node(cg.nodes.Bernoulli(), 2 * cg.noise(cg.nodes.BernoulliMask(), a, name="b"))
        return {"a": a, "c": c, "apart": cg.node(cg.nodes.Bernoulli(), e), "number": jnp.int32(3)}

    @jax.jit
    def traced(evidence):
        seen = cg.condition(net, evidence)
        mean, best = cg.exact_marginals(seen)(0.5), cg.mode(seen)(0.5)
        return mean, best, cg.belief_propagation(seen)(0.5).mean

    for found in traced({"a": jnp.float32(1), "b": jnp.float32(0)}):
        assert found.pop("number") == 3
        assert all(np.isnan(x) for x in found.values())
    assert np.isfinite(traced({"a": jnp.float32(1), "b": jnp.float32(1)})[0]["c"])


def looping(x):
    def body(state):
        return cg.node(cg.nodes.Bernoulli(), state, name="looping") + 1

    return jax.lax.while_loop(lambda s: s < 3, body, x)


def branching(x):
    return jax.lax.cond(x > 0, lambda: cg.node(cg.nodes.Spin(), x, name="b"), lambda: x)


@pytest.mark.parametrize(
    ("net", "values", "error", "message"),
    [
        (rain, {"wet": 0.3}, ValueError, r"values 0, 1: it cannot have been seen as 0.3"),
        (rain, {"snow": 1.0}, ValueError, "no node 'snow'"),
        (rain, {"wet": jnp.ones(2)}, ValueError, r"shape \(2,\) about the node 'wet'"),
        (rain, {"wet": "yes"}, TypeError, "known of the node 'wet' is a number"),
        (rain, [("wet", 1.0)], TypeError, "dict from node names to values"),
        (rain, {1: 1.0}, TypeError, "given by its name"),
        (rain, {"wet": cg.PartlyKnown(1.0, 1)}, ValueError, "takes booleans"),
        (looping, {"looping": 1.0}, ValueError, "while_loop"),
        (branching, {"b": 1.0}, ValueError, "lies in a branch"),
        (cg.feed_forward(rain), {"wet": 1.0}, TypeError, "condition takes a network"),
    ],
)
def test_bad_evidence(net, values, error, message):
    with pytest.raises(error, match=message):
        cg.exact_marginals(cg.condition(net, values))(1.0)


def test_other_procedures_say_what_to_do():
    with pytest.raises(TypeError, match="is no function of its inputs alone"):
        cg.forward_sample(cg.condition(rain, {"wet": 1.0}))(jax.random.key(0), 1.0)
    with pytest.raises(TypeError, match="is given the evidence when it is called"):
        cg.log_evidence(cg.condition(rain, {"wet": 1.0}))
    with pytest.raises(TypeError, match="first argument is a dict"):
        cg.log_evidence(rain)(1.0)


def test_too_large_with_evidence():
    def net(x):
        h = cg.node(cg.nodes.Spin(), x, name="h")
        return cg.node(cg.nodes.Spin(), jnp.tanh(h.prod()), name="y")

    with pytest.raises(ValueError, match=r"2\^40 .*joint states.*'h' \(40 nodes of 2 states\)"):
        cg.log_evidence(net)({"y": 1.0}, jnp.zeros(40))
