"""The joint log-probability: a distribution, the one that sampling draws from."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import cgjax as cg
from tests.inference.random_graphs import random_graph

X = np.array([0.4, -0.9])


def log_joints(graph, configurations, x):
    """`log_joint` of a list of configurations."""
    stacked = {
        p.name: jnp.asarray(np.array([graph.shaped(p.name, c[p.name]) for c in configurations]))
        for p in graph.parts
    }
    return jax.jit(jax.vmap(cg.log_joint(graph.network()), (0, None)))(stacked, x)


@pytest.mark.numerics
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_product_of_conditionals_and_sums_to_one(seed):
    graph = random_graph(seed, max_bits=8)
    with jax.enable_x64(True):
        configurations = list(graph.configurations(X))
        stacked = {
            part.name: jnp.asarray(
                [graph.shaped(part.name, c[part.name]) for _, c in configurations]
            )
            for part in graph.parts
        }
        log_joint = jax.jit(jax.vmap(cg.log_joint(graph.network()), (0, None)))(
            stacked, jnp.asarray(X)
        )
        # Products of at most 8 factors in float64.
        np.testing.assert_allclose(
            np.exp(log_joint), [p for p, _ in configurations], rtol=1e-10, atol=1e-300
        )
        np.testing.assert_allclose(np.exp(log_joint).sum(), 1.0, rtol=1e-12)


@pytest.mark.numerics
@pytest.mark.parametrize("seed", [2, 6, 9])
def test_sampling_frequencies_match(seed):
    graph = random_graph(seed, max_bits=5)
    net, x, count = graph.network(), jnp.asarray(X, jnp.float32), 20_000
    sampler = cg.with_nodes(cg.forward_sample(net))
    keys = jax.random.split(jax.random.key(seed), count)
    _, nodes = jax.jit(jax.vmap(sampler, (0, None)))(keys, x)
    rows = np.concatenate([np.asarray(v).reshape(count, -1) for v in nodes.values()], axis=1)
    observed: dict[bytes, int] = {}
    for row in rows.astype(np.float32):
        observed[row.tobytes()] = observed.get(row.tobytes(), 0) + 1
    configurations = [
        {part.name: value for part, value in zip(graph.parts, values, strict=True)}
        for values in itertools.product(*(part.states for part in graph.parts))
    ]
    expected = count * np.exp(np.asarray(log_joints(graph, configurations, x), np.float64))
    rows = [np.concatenate(list(c.values())).astype(np.float32) for c in configurations]
    found = np.array([observed.pop(row.tobytes(), 0) for row in rows])
    assert not observed  # nothing was drawn that is no configuration
    # The chi-squared test wants at least 5 expected counts in every cell: rare ones are one cell.
    rare = expected < 5
    cells = np.append(expected[~rare], expected[rare].sum())
    counts = np.append(found[~rare], found[rare].sum())
    if cells[-1] < 5:
        cells, counts = cells[:-1], counts[:-1]
    statistic = ((counts - cells) ** 2 / cells).sum()
    # Fails by chance with probability 6e-7, as 5 standard errors do.
    assert stats.chi2.sf(statistic, len(cells) - 1) > 6e-7


def test_nodes_in_scan_with_a_skip():
    weight = jnp.array([[0.5, -1.0], [2.0, 0.3]])

    def net(xs):
        def cell(h, x):
            before, last = h
            new = cg.node(cg.nodes.Spin(), last @ weight + before + x, name="h")
            return (last, new), new

        return jax.lax.scan(cell, (jnp.zeros(2), jnp.zeros(2)), xs)[1]

    xs = np.array([[0.1, 0.2], [-0.3, 0.5], [0.7, -0.1]])
    configurations = np.array(list(itertools.product([-1.0, 1.0], repeat=6))).reshape(-1, 3, 2)
    expected = []
    for h in configurations:
        padded = np.concatenate([np.zeros((2, 2)), h])
        e = padded[1:-1] @ np.asarray(weight) + padded[:-2] + xs
        expected.append(np.prod(1 / (1 + np.exp(-2 * h * e))))
    log_joint = jax.vmap(cg.log_joint(net), (0, None))
    got = np.exp(log_joint({"h": jnp.asarray(configurations, jnp.float32)}, jnp.asarray(xs, "f4")))
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # six factors in float32
    np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-5)


def test_impossible_values_have_minus_infinity_and_no_gradient():
    def net(x):
        a = cg.node(cg.nodes.Spin(), x, name="a")
        return cg.node(cg.nodes.Categorical(), a * jnp.ones(3), name="b")

    def log_joint(x, a, b):
        return cg.log_joint(net)({"a": a, "b": b}, x)

    gradient_of = jax.jit(jax.grad(log_joint))
    for a, b in [(0.0, [1.0, 0.0, 0.0]), (1.0, [1.0, 1.0, 0.0]), (1.0, [0.0, 0.0, 0.0])]:
        arguments = jnp.float32(0.3), jnp.float32(a), jnp.array(b)
        assert float(log_joint(*arguments)) == -np.inf
        gradient = float(gradient_of(*arguments))
        # The impossible node contributes none; the other one contributes its own.
        own = 1 - np.tanh(0.3) if a else 0.0
        np.testing.assert_allclose(gradient, own, rtol=1e-6)
    drop = cg.layers.Dropout(0.0)
    values = {"dropout": jnp.array([1.0, 0.0])}
    assert float(cg.log_joint(lambda x: drop(x))(values, jnp.ones(2))) == -np.inf


def test_missing_unknown_and_misshapen_values():
    graph = random_graph(1)
    values = {
        part.name: jnp.asarray(graph.shaped(part.name, part.states[0]), jnp.float32)
        for part in graph.parts
    }
    x = jnp.asarray(X, jnp.float32)
    assert cg.log_joint(graph.network())(values, x).shape == ()
    first, second, *_ = values
    with pytest.raises(ValueError, match=f"missing: {first}, {second}"):
        cg.log_joint(graph.network())({n: v for n, v in list(values.items())[2:]}, x)
    with pytest.raises(ValueError, match="no node 'nobody'. Its nodes: 'c0'"):
        cg.log_joint(graph.network())({**values, "nobody": jnp.ones(2)}, x)
    with pytest.raises(ValueError, match="does not broadcast"):
        cg.log_joint(graph.network())({**values, first: jnp.ones((7, 7))}, x)
    with pytest.raises(TypeError, match="dict from node names"):
        cg.log_joint(graph.network())(x, x)


def test_observed_nodes_need_no_value_and_noise_does():
    def net(x):
        pixels = cg.observe(x, name="pixels")
        return pixels * cg.noise(cg.nodes.BernoulliMask(), jnp.full(2, 0.25), name="drop")

    got = cg.log_joint(net)({"drop": jnp.array([1.0, 0.0])}, jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(got, np.log(0.25 * 0.75), rtol=1e-6)  # float32


def layered(x, weight):
    """Two layers of any number of rows."""
    first = cg.node(cg.nodes.Spin(), x @ weight, name="first")
    return cg.node(cg.nodes.Categorical(), first @ weight.T, name="second")


def test_of_a_batch_there_is_a_number_for_each_row_and_one_for_all_is_said():
    weight, x = jnp.array([[0.5, -1.0, 2.0, 0.1]] * 3), jnp.linspace(-1, 1, 15).reshape(5, 3)
    values = {"first": jnp.ones((5, 4)), "second": jnp.eye(3)[jnp.arange(5) % 3]}
    each = cg.log_joint(layered, batch_axes=1)(values, x, weight)
    mapped = jax.vmap(cg.log_joint(layered), (0, 0, None))(values, x, weight)
    np.testing.assert_allclose(each, mapped, rtol=1e-6)
    with pytest.warns(UserWarning, match=r"one number for the 5 rows.*batch_axes=1.*batch_axes=0"):
        total = cg.log_joint(layered)(values, x, weight)
    with pytest.warns(UserWarning, match="5 rows"):
        jax.jit(lambda x: cg.pseudo_likelihood(layered)(values, x, weight))(x)
    np.testing.assert_allclose(total, each.sum(), rtol=1e-6)
    assert cg.log_joint(layered, batch_axes=0)(values, x, weight) == total
    # One example, as long as a matrix of parameters is: no row can be taken alone.
    square = {"first": jnp.ones(4), "second": jnp.eye(3)[0]}
    assert cg.log_joint(layered)(square, x[0], weight).shape == ()

    def mixing(x):
        first = cg.node(cg.nodes.Spin(), x, name="first")
        return cg.node(cg.nodes.Spin(), first - first.mean(0, keepdims=True), name="second")

    both = dict.fromkeys(("first", "second"), jnp.ones((5, 3)))
    with pytest.warns(UserWarning, match="5 rows"):  # the mean is not looked into
        cg.log_joint(mixing)(both, x)
    with pytest.raises(ValueError, match=r"batch_axes=1 needs the same 1 axes.*first \(4,\)"):
        cg.log_joint(layered, batch_axes=1)(square, x[0], weight)
    with pytest.raises(ValueError, match="number of axes of examples, got -1"):
        cg.log_joint(layered, batch_axes=-1)


def test_rows_in_loops():
    def net(xs):
        def step(h, x):
            h = cg.node(cg.nodes.Spin(), 0.5 * h + x, name="h")
            return h, h

        return jax.lax.scan(step, jnp.zeros(xs.shape[1:]), xs)[1]

    xs = jnp.linspace(-1, 1, 24).reshape(4, 2, 3)  # steps, rows, numbers
    values = {"h": jnp.ones((4, 2, 3))}
    each = cg.log_joint(net, batch_axes=1)(values, xs)
    alone = [cg.log_joint(net)({"h": jnp.ones((4, 3))}, xs[:, k]) for k in (0, 1)]
    np.testing.assert_allclose(each, alone, rtol=1e-6)


def test_grey_levels_are_named_where_they_are_known():
    net = lambda e: cg.node(cg.nodes.Bernoulli(), e, name="x")  # noqa: E731
    grey = {"x": jnp.array([0.25, 1.0])}
    with pytest.raises(ValueError, match=r"'x' is a Bernoulli.* 0.25: a grey level.*bernoulli"):
        cg.log_joint(net)(grey, jnp.zeros(2))
    traced = jax.jit(jax.value_and_grad(lambda e, x: cg.log_joint(net)(x, e)))
    value, slope = traced(jnp.zeros(2), grey)
    assert value == -np.inf and slope[0] == 0
    assert cg.log_joint(net)({"x": jnp.array([2.0, 1.0])}, jnp.zeros(2)) == -np.inf
