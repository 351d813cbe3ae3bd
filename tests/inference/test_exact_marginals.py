"""Exact marginals against brute force, sampling, finite differences, and their limits."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.inference._elimination import Ask, Enter, plan
from tests.inference.random_graphs import random_graph

X = np.array([0.4, -0.9])


def layers(num_layers: int, num_nodes: int, *, scale: float = 1.0, skip: bool = False):
    """A chain of binary layers, each with an edge from the layer before the last if asked."""
    rng = np.random.default_rng(num_layers * 100 + num_nodes)
    weights = jnp.asarray(rng.normal(size=(num_layers, num_nodes, num_nodes)) * scale, jnp.float32)

    def net(x):
        before, h = jnp.zeros_like(x), x
        for k in range(num_layers):
            e = h @ weights[k] + (before[::-1] if skip else 0.0)
            before, h = h, cg.node(cg.nodes.Bernoulli(), e, name=f"layer{k}")
        return h

    return net


def refused(net, *args, **options) -> str:
    with pytest.raises(ValueError, match="too large for exact marginals") as error:
        cg.exact_marginals(net, **options)(*args)
    return str(error.value)


# -- against other computations of the same


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.numerics) for seed in range(6, 16))]
)
def test_equals_brute_force(seed):
    graph = random_graph(seed, scale=50.0 if seed % 2 else 1.0)
    expected, means = graph.expectations(X)
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        out, nodes = cg.with_nodes(cg.exact_marginals(graph.network()))(x)
        # Both are sums of at most 2^11 products in float64.
        for got, want in zip(out, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
        assert list(nodes) == list(means)
        for name, mean in means.items():
            want = graph.shaped(name, mean)
            np.testing.assert_allclose(nodes[name], want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", [1, 2])
def test_float32_is_close_to_brute_force(seed):
    graph = random_graph(seed, scale=50.0)
    expected, _ = graph.expectations(X)
    for got, want in zip(
        cg.exact_marginals(graph.network())(jnp.asarray(X, jnp.float32)), expected, strict=True
    ):
        # Natural parameters reach 200, where float32 has steps of 1.5e-5.
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4)


@pytest.mark.numerics
@pytest.mark.parametrize("seed", [3, 7])
def test_forward_sampling_agrees(seed):
    net = random_graph(seed, max_bits=12).network()
    x = jnp.asarray(X, jnp.float32)
    exact = cg.exact_marginals(net)(x)
    sampler = cg.monte_carlo(cg.forward_sample(net), 4000, batch_size=4000)
    estimate = sampler(jax.random.key(seed), x)
    for mean, error, want in zip(estimate.mean, estimate.standard_error, exact, strict=True):
        # 5 standard errors: fails by chance with probability 6e-7 for each number; the constant is
        # for nodes that nearly always take one value, whose error is estimated as zero.
        assert jnp.all(jnp.abs(mean - want) <= 5 * error + 5 / 4000)


@pytest.mark.numerics
def test_equals_the_sum_of_the_joint_over_configurations():
    graph = random_graph(4, max_bits=8)
    net = graph.network()
    total, probability = 0.0, 0.0
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        log_joint = jax.jit(cg.log_joint(net))
        readout = jax.jit(lambda values, x: cg.clamp(net, values)(x)[0])
        for _, configuration in graph.configurations(X):
            values = {name: jnp.asarray(graph.shaped(name, v)) for name, v in configuration.items()}
            p = np.exp(log_joint(values, x))
            probability += p
            total += p * readout({n: v for n, v in values.items()}, x)
        np.testing.assert_allclose(probability, 1.0, rtol=1e-10)
        np.testing.assert_allclose(cg.exact_marginals(net)(x)[0], total, rtol=1e-10)


@pytest.mark.numerics
@pytest.mark.parametrize("seed", [0, 5])
def test_gradient_equals_finite_differences(seed):
    net = random_graph(seed).network()
    with jax.enable_x64(True):
        x = jnp.asarray(X)

        @jax.jit
        @jax.value_and_grad
        def both(x):
            out = cg.exact_marginals(net)(x)
            return out[0].sum() + jnp.sum(out[2] ** 2)

        gradient = both(x)[1]
        step = 1e-5
        for k in range(2):
            shift = step * jnp.eye(2)[k]
            difference = (both(x + shift)[0] - both(x - shift)[0]) / (2 * step)
            # Central differences in float64: error 1e-10 from the step, 1e-11 from rounding.
            np.testing.assert_allclose(gradient[k], difference, rtol=1e-6, atol=1e-8)


def test_works_under_jit_and_vmap():
    net = layers(3, 4)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    exact = cg.exact_marginals(net)
    one_by_one = jnp.stack([exact(x) for x in xs])
    # Rounding: other orders of summation of 16 terms.
    np.testing.assert_allclose(jax.jit(jax.vmap(exact))(xs), one_by_one, rtol=1e-5)
    gradients = jax.jit(jax.vmap(jax.grad(lambda x: exact(x).sum())))(xs)
    assert gradients.shape == (5, 4) and bool(jnp.isfinite(gradients).all())


@pytest.mark.numerics
@pytest.mark.parametrize(("skip", "dense"), [(False, True), (True, True), (True, False)])
def test_chunks_change_nothing(monkeypatch, skip, dense):
    net, x = layers(4, 5, skip=skip), jnp.linspace(-1.0, 1.0, 5)
    if dense:  # the sums over dense layers, which only larger networks take otherwise
        monkeypatch.setattr("cgjax.inference._exact_marginals._MUCH_WORK", 0)
        monkeypatch.setattr("cgjax.inference._exact_marginals._LESS", 1000)

    def exact(x):
        # A function of its own each time: none is found among the compiled ones.
        return jax.jit(jax.value_and_grad(lambda x: jnp.tanh(cg.exact_marginals(net)(x)).sum()))(x)

    whole = exact(x)
    module = "_tables" if dense else "_configurations"
    monkeypatch.setattr(f"cgjax.inference.{module}._CHUNK_ELEMENTS", 100)
    chunked = exact(x)
    for a, b in zip(whole, chunked, strict=True):
        # Rounding: sums of 1024 terms in another order, which largely cancel in some elements: some
        # ulp of 1, as processors differ in what they fuse.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-7)


# -- kinds of networks


def test_two_branches_that_merge_and_several_outputs():
    def net(x):
        a = cg.node(cg.nodes.Spin(), x, name="a")
        b = cg.node(cg.nodes.Bernoulli(), 2 * a, name="b")
        c = cg.node(cg.nodes.Spin(), -a, name="c")
        d = cg.node(cg.nodes.Bernoulli(), b * c, name="d")
        return {"product": b * c, "d": d}

    out = cg.exact_marginals(net)(jnp.float32(0.3))
    product = d = 0.0
    for a in (-1, 1):
        for b in (0, 1):
            for c in (-1, 1):
                p = 1 / (1 + np.exp(-2 * a * 0.3)) / (1 + np.exp(-(2 * b - 1) * 2 * a))
                p /= 1 + np.exp(2 * c * a)
                product += p * b * c
                d += p / (1 + np.exp(-b * c))
    # Rounding in float32.
    np.testing.assert_allclose(out["product"], product, rtol=1e-5)
    np.testing.assert_allclose(out["d"], d, rtol=1e-5)


def test_dropout_is_a_variable():
    drop = cg.layers.Dropout(0.25)

    def net(x):
        return jnp.tanh(drop(x).sum())

    got = cg.exact_marginals(net)(jnp.array([1.0, 2.0]))
    expected = sum(
        p * np.tanh((a * 1.0 + b * 2.0) / 0.75)
        for a, b, p in [(0, 0, 1 / 16), (0, 1, 3 / 16), (1, 0, 3 / 16), (1, 1, 9 / 16)]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # float32


def test_observed_nodes_keep_their_values():
    def net(x):
        pixels = cg.observe(x, name="pixels")
        return cg.node(cg.nodes.Bernoulli(), 3 * pixels, name="hidden") ** 2

    out, nodes = cg.with_nodes(cg.exact_marginals(net))(jnp.array([0.25, 1.0]))
    np.testing.assert_allclose(out, jax.nn.sigmoid(jnp.array([0.75, 3.0])), rtol=1e-6)
    assert nodes["pixels"].tolist() == [0.25, 1.0]


@pytest.mark.parametrize("reverse", [False, True])
def test_nodes_in_scan_are_unrolled(reverse):
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2)), jnp.float32)

    def cell(h, x):
        h = cg.node(cg.nodes.Spin(), h @ weight + x, name="h")
        return h, h

    def scanned(xs):
        last, states = jax.lax.scan(cell, jnp.zeros(2), xs, reverse=reverse)
        return last.prod(), states, states[0].prod() * states[2].prod()

    def by_hand(xs):
        h, states = jnp.zeros(2), []
        for x in xs[::-1] if reverse else xs:
            h, _ = cell(h, x)
            states.append(h)
        states = jnp.stack(states[::-1] if reverse else states)
        return h.prod(), states, states[0].prod() * states[2].prod()

    xs = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2)), jnp.float32)
    out, nodes = cg.with_nodes(cg.exact_marginals(scanned))(xs)
    for got, want in zip(out, cg.exact_marginals(by_hand)(xs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert nodes["h"].shape == (4, 2)
    np.testing.assert_allclose(nodes["h"], out[1], rtol=1e-6)


def test_a_carry_that_remembers_every_step():
    def net(xs):
        def cell(total, x):
            value = cg.node(cg.nodes.Bernoulli(), x + total, name="value")
            return total + value, value

        return jax.lax.scan(cell, jnp.float32(0), xs)[0] ** 2

    xs = np.array([0.3, -0.4, 0.1])
    expected = 0.0
    for values in np.ndindex(2, 2, 2):
        p, total = 1.0, 0
        for x, v in zip(xs, values, strict=True):
            p /= 1 + np.exp(-(2 * v - 1) * (x + total))
            total += v
        expected += p * total**2
    got = cg.exact_marginals(net)(jnp.asarray(xs, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # float32


def test_a_branch_that_a_node_decides():
    def net(x):
        a = cg.node(cg.nodes.Bernoulli(), x, name="a")

        def yes():
            return 2 * cg.node(cg.nodes.Spin(), jnp.float32(0.5), name="b")

        return jax.lax.cond(a > 0, yes, lambda: jnp.float32(7))

    out, nodes = cg.with_nodes(cg.exact_marginals(net))(jnp.float32(0.2))
    p = 1 / (1 + np.exp(-0.2))
    np.testing.assert_allclose(out, p * 2 * np.tanh(0.5) + (1 - p) * 7, rtol=1e-6)  # float32
    np.testing.assert_allclose(nodes["a"], p, rtol=1e-6)
    assert bool(jnp.isnan(nodes["b"]))


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_a_node_decides_whether_unrelated_nodes_are_there(threshold):
    def net(x):
        a = cg.node(cg.nodes.Bernoulli(), x, name="a")

        @jax.jit
        def yes():
            steps = jax.lax.scan(lambda c, e: (c, cg.node(cg.nodes.Spin(), e)), 0, jnp.arange(2.0))
            return steps[1].sum()

        return jax.lax.cond(a > threshold, yes, lambda: cg.node(cg.nodes.Spin(), x + 1))

    # Above one threshold and below the other: the activation of a takes either branch.
    p = 1 / (1 + np.exp(-0.2))
    expected = p * np.tanh(1) + (1 - p) * np.tanh(1.2)
    np.testing.assert_allclose(cg.exact_marginals(net)(jnp.float32(0.2)), expected, rtol=1e-6)


def test_node_parameters_that_depend_on_nodes():
    def net(x):
        a = cg.node(cg.nodes.Bernoulli(), x, name="a")
        return cg.node(cg.nodes.Binary(0.0, 1.0 + a), x, name="b") ** 2

    x = 0.4
    p = 1 / (1 + np.exp(-x))
    expected = (1 - p) * p + p * 4 / (1 + np.exp(-2 * x))
    np.testing.assert_allclose(
        cg.exact_marginals(net)(jnp.float32(x)), expected, rtol=1e-6
    )  # float32


def test_integer_outputs_have_expectations():
    def net(x):
        k = cg.node(cg.nodes.Categorical(), x, name="class")
        return k.argmax(), k.astype(int), jnp.arange(3)

    mean, indicator, fixed = cg.exact_marginals(net)(jnp.log(jnp.array([0.2, 0.3, 0.5])))
    np.testing.assert_allclose(mean, 1.3, rtol=1e-6)
    np.testing.assert_allclose(indicator, [0.2, 0.3, 0.5], rtol=1e-6)
    assert fixed.tolist() == [0, 1, 2] and fixed.dtype == jnp.arange(3).dtype


def test_modules():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(2, 3, rngs=rngs)
            self.out = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(cg.node(cg.nodes.Spin(), self.hidden(x), name="hidden"))

    net, x = Net(nnx.Rngs(0)), jnp.array([0.3, -2.0])
    # One layer of nodes whose parents are the input, and a linear output: feed-forward is exact.
    np.testing.assert_allclose(cg.exact_marginals(net)(x), net(x), rtol=1e-5)
    assert list(cg.with_nodes(cg.exact_marginals(net))(x)[1]) == ["hidden"]


# -- extremes


def test_saturated_nodes_give_neither_nan_nor_zero_gradients():
    def net(x):
        h = x
        for k in range(4):
            h = cg.node(cg.nodes.Bernoulli(), 1e4 * (h - 0.5), name=f"layer{k}")
        return h

    exact = cg.exact_marginals(net)
    x = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(exact(x), [0.0, 0.5, 1.0], atol=1e-6)
    gradient = jax.jacobian(exact)(x)
    assert bool(jnp.isfinite(gradient).all())
    # At 0.5 the first layer is a fair coin: d sigmoid(1e4 (x - 0.5)) / dx = 2500.
    np.testing.assert_allclose(gradient[1, 1], 2500, rtol=1e-5)


def test_small_probabilities_keep_their_digits():
    def net(x):
        a = cg.node(cg.nodes.Bernoulli(), x, name="a")
        return cg.node(cg.nodes.Bernoulli(), 200 * (a - 0.5), name="b")

    # P(b = 1) = P(a = 1) to 1e-30: sums of positive terms lose no digits.
    np.testing.assert_allclose(cg.exact_marginals(net)(jnp.float32(-60)), np.exp(-60), rtol=2e-5)


def test_impossible_values_count_nothing_even_where_the_output_is_infinite():
    def net(keep):
        mask = cg.noise(cg.nodes.BernoulliMask(), keep, name="mask")
        return jnp.log(mask), mask + 1

    log, linear = cg.exact_marginals(net)(jnp.float32(1))
    assert (float(log), float(linear)) == (0.0, 2.0)
    gradient = jax.grad(lambda keep: cg.exact_marginals(lambda k: net(k)[1] ** 2)(keep))
    # E = (1 - keep) + 4 keep, at both ends, where one value is impossible.
    assert (float(gradient(1.0)), float(gradient(0.0))) == (3.0, 3.0)


# -- size


def test_what_is_linear_needs_no_joint_states():
    def net(x):
        h = cg.node(cg.nodes.Spin(), x, name="wide")
        y = cg.node(cg.nodes.Bernoulli(), 2 * x, name="also wide")
        return jnp.concatenate([h @ jnp.ones((500, 2)), y[:3]]) / 2, h.reshape(5, 100)

    x = jnp.linspace(-1.0, 1.0, 500)
    out, shaped = cg.exact_marginals(net)(x)
    total = np.tanh(np.float64(x)).sum()
    want = np.concatenate([np.full(2, total), jax.nn.sigmoid(2 * x[:3])]) / 2
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)  # a sum of 500 numbers in float32
    np.testing.assert_allclose(shaped.reshape(-1), jnp.tanh(x), rtol=1e-6)


def test_refuses_before_computing_and_says_how_large():
    message = refused(lambda x: cg.node(cg.nodes.Spin(), x, name="hidden").prod(), jnp.ones(60))
    assert "2^60 joint states" in message and "'hidden' (60 nodes of 2 states)" in message
    assert "jax.vmap" in message and "monte_carlo" in message and "max_states" in message
    batch = jnp.ones((8, 12))
    together = refused(lambda x: cg.node(cg.nodes.Spin(), x, name="h").prod(), batch)
    assert "'h' (96 nodes of 2 states)" in together
    refused(layers(3, 5), jnp.ones(5), max_states=31)
    assert cg.exact_marginals(layers(3, 5), max_states=32)(jnp.ones(5)).shape == (5,)


def test_refuses_sums_that_would_take_hours():
    message = refused(layers(3, 20), jnp.ones(20))
    assert re.search(r"sum of 2\^40 = 1,099,511,627,776 terms", message)


@pytest.mark.parametrize("value", [0, 1 << 40])
def test_max_states_is_checked(value):
    with pytest.raises(ValueError, match="max_states"):
        cg.exact_marginals(layers(1, 1), max_states=value)


def test_continuous_nodes_are_named():
    def net(family, x):
        h = cg.node(cg.nodes.Spin(), x, name="spins")
        return cg.node(family, h, name="rectified")

    with pytest.raises(TypeError, match="'rectified' is of the continuous family ReLU"):
        cg.exact_marginals(net)(cg.nodes.ReLU(), jnp.ones(2))
    moving = r"of the family GELU, whose values move with e \(e and 0\)"
    with pytest.raises(TypeError, match=moving):
        cg.exact_marginals(net)(cg.nodes.GELU(), jnp.ones(2))


def test_nodes_in_while_loops_are_refused():
    def net(x):
        def body(state):
            return cg.node(cg.nodes.Bernoulli(), state, name="looping") + 1

        return jax.lax.while_loop(lambda s: s < 3, body, x)

    with pytest.raises(ValueError, match="'looping' lies in a `while_loop`"):
        cg.exact_marginals(net)(jnp.float32(0))


def test_long_scans_are_refused():
    def net(xs):
        def cell(h, x):
            return cg.node(cg.nodes.Spin(), h + x, name="h"), None

        return jax.lax.scan(cell, jnp.float32(0), xs)[0]

    with pytest.raises(ValueError, match="5000 components"):
        cg.exact_marginals(net)(jnp.zeros(5000))


# -- the plan of sums over dense layers


def largest(steps) -> int:
    return max(s.table for s in steps if isinstance(s, Enter | Ask))


def test_a_skip_connection_keeps_one_more_layer():
    size = 1 << 10
    parents = {0: frozenset(), 1: {0}, 2: {0, 1}, 3: {1, 2}, 4: {2, 3}}
    parents = {c: frozenset(p) for c, p in parents.items()}
    steps = plan(dict.fromkeys(parents, size), parents, [frozenset({4})], 1 << 22)
    assert largest(steps) == 1 << 20
    assert max(s.terms for s in steps if isinstance(s, Enter)) == 1 << 30


def test_the_order_is_searched_for():
    # Five chains of two: in walking order, first all starts and then all ends, 10^5 states.
    chains = range(5)
    parents = {c: frozenset() for c in chains} | {5 + c: frozenset({c}) for c in chains}
    parents[10] = frozenset()
    parents |= {11 + c: frozenset({c, 10}) for c in chains}
    questions = [frozenset({5 + c}) for c in chains] + [frozenset({11 + c}) for c in chains]
    steps = plan(dict.fromkeys(parents, 10), parents, questions, 1)
    assert largest(steps) <= 1000


def test_unrelated_components_stay_apart():
    parents = dict.fromkeys(range(6), frozenset())
    questions = [frozenset({c}) for c in range(6)]
    assert largest(plan(dict.fromkeys(parents, 1000), parents, questions, 1)) == 1000


@pytest.mark.numerics
def test_eight_layers_of_ten_nodes(record_property):
    net, x = layers(8, 10), jnp.linspace(-1.0, 1.0, 10)
    start = time.perf_counter()
    marginals = cg.exact_marginals(net)(x).block_until_ready()
    record_property("seconds_with_compilation", time.perf_counter() - start)
    estimate = cg.monte_carlo(cg.forward_sample(net), 4096, batch_size=4096)(jax.random.key(0), x)
    # 5 standard errors: fails by chance with probability 6e-7 for each of ten nodes.
    assert jnp.all(jnp.abs(marginals - estimate.mean) < 5 * estimate.standard_error)
