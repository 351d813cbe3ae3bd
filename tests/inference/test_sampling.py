"""Forward sampling and PCFF: rates, patterns, coupling, gradients, distributions."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

import cgjax as cg
from cgjax.kernels import random_bits
from tests.helpers import as_users, assert_identical, relu, spin, two_layers, weighted, weights

KEY = jax.random.key(21)
PARAMETERS = weights(3, 4, 4, 2)
X = jax.random.normal(jax.random.key(1), (5, 3))


def three(x):
    """Three nodes whose statistics are all returned, weighted, so that none is an output node."""
    return {name: weighted(3, spin(x + i, name), x) for i, name in enumerate("abc")}


def sampled_names(rate, net=None, x=None):
    """Which nodes of `three` a rate samples: their values are then 3 or -3."""
    out = cg.pcff(net or three, rate)(KEY, jnp.zeros(6) if x is None else x)
    return "".join(n for n, v in out.items() if set(np.abs(v).tolist()) == {3.0})


# -- rates


@pytest.mark.parametrize(
    "rate",
    [
        1.0,
        1,
        np.float64(1),
        jnp.float32(1),
        np.ones(5, np.float32),
        jnp.ones((5, 1)),
        jnp.ones((5, 1), jnp.bfloat16),
        {"*": 1.0},
        {"first": 1.0, "second": jnp.ones(4)},
        {"f*": np.ones((5, 4)), "*": 1},
    ],
    ids=str,
)
def test_rate_1_in_every_form_is_forward_sampling(rate):
    if isinstance(rate, np.ndarray) and rate.shape == (5,):
        with pytest.raises(ValueError, match=r"shape \(5,\) does not broadcast.*'first'"):
            cg.pcff(two_layers, rate)(KEY, PARAMETERS, X)
        return
    expected = cg.forward_sample(two_layers)(KEY, PARAMETERS, X)
    # The rate may be a run-time value here and is not there: rounding of a sum of 4 terms.
    got = cg.pcff(two_layers, rate)(KEY, PARAMETERS, X)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_an_array_of_rates_belongs_to_single_nodes():
    rate = jnp.array([0.0, 1.0, 0.0, 1.0])
    for r in (rate, {"h": rate}, {"*": rate[None]}):
        out = cg.pcff(lambda x: weighted(3, spin(x, "h"), x), r)(KEY, jnp.full((7, 4), 0.3))
        assert (np.abs(out) == 3).all(0).tolist() == [False, True, False, True]


def test_the_first_match_wins_and_unmatched_nodes_get_0():
    assert sampled_names({"a": 1.0}) == "a"
    assert sampled_names({"a": 0.0, "*": 1.0}) == "bc"
    assert sampled_names({"*": 1.0, "a": 0.0}) == "abc"
    assert sampled_names({"[ab]": 1.0}) == "ab"
    assert sampled_names({"[!a]": 1.0}) == "bc"
    assert sampled_names({"?": 1.0, "b": 0.0}) == "abc"
    assert sampled_names({}) == ""
    assert sampled_names({"b": jnp.float32(1), "*": 0.0}) == "b"

    def scoped(x):
        with cg.scope("block"):
            return three(x)

    assert sampled_names({"block/a": 1.0}, scoped) == "a"
    assert sampled_names({"block/*": 1.0}, scoped) == "abc"
    assert sampled_names({"*/b": 1.0}, scoped) == "b"
    with pytest.raises(ValueError, match="matches no node"):
        sampled_names({"a": 1.0}, scoped)


def test_the_star_names_neither_output_nor_observed_nodes():
    def net(x):
        pixels = cg.observe(x, -1.0, 1.0, name="pixels")
        return weighted(3, spin(pixels, "h"), x), 3 * pixels, spin(x, "out")

    x = jnp.full(8, 0.5)
    collapsed = cg.feed_forward(net)(x)
    for rate in (1.0, {"*": 1.0}, {"**": 1.0}):
        h, pixels, out = cg.pcff(net, rate)(KEY, x)
        assert set(np.abs(h).tolist()) == {3.0}
        assert_identical((pixels, out), collapsed[1:])
    out = cg.pcff(net, {"out": 1.0})(KEY, x)[2]
    assert set(np.abs(out).tolist()) == {1.0}
    # Only output nodes: the star stands for none, which is no mistake.
    only = lambda x: spin(x, "out")  # noqa: E731
    with pytest.warns(UserWarning, match="samples nothing here.*'out'.*report.*include="):
        assert_identical(cg.pcff(only, {"*": 1.0})(KEY, x), jnp.tanh(x))
    with pytest.warns(UserWarning, match="samples nothing here"):
        cg.pcff(cg.lift(jnp.tanh), 0.5)(KEY, x)
    # Where that is asked for, or something is sampled, there is nothing to say.
    cg.pcff(only, 0.0)(KEY, x)
    cg.pcff(only, {"out": 1.0})(KEY, x)
    cg.forward_sample(only)(KEY, x)
    cg.pcff(cg.clamp(lambda x: spin(2 * spin(x, "in"), "out"), {"in": x}), 0.5)(KEY, x)
    noisy = lambda x: spin(cg.noise(cg.nodes.BernoulliMask(), x), "out")  # noqa: E731
    cg.pcff(noisy, 0.5)(KEY, x)
    cg.pcff(lambda x: cg.observe(x, -1.0, 1.0), 0.5)(KEY, x)


def test_patterns_that_match_nothing_raise_and_list_the_nodes():
    for pattern in ("d", "A", "block/*", "a#1", ""):
        with pytest.raises(ValueError, match=r"matches no node.*'a', 'b', 'c'"):
            cg.pcff(three, {"*": 1.0, pattern: 0.5})(KEY, jnp.zeros(2))
    noisy = lambda x: x * cg.noise(cg.nodes.BernoulliMask(), x, name="drop")  # noqa: E731
    with pytest.raises(ValueError, match=r"none.*Noise nodes \(drop\) are always sampled"):
        cg.pcff(noisy, {"drop": 0.5})(KEY, jnp.ones(2))
    with pytest.raises(ValueError, match="matches no node"):
        cg.pcff(lambda x: x, {"*": 0.5})(KEY, jnp.ones(2))
    with pytest.warns(UserWarning, match="has no nodes"):
        assert_identical(cg.pcff(lambda x: x, 0.5)(KEY, jnp.ones(2)), jnp.ones(2))


@pytest.mark.parametrize(
    "rate", [-0.1, 1.1, float("nan"), np.array([0.5, 1.5]), {"a": 2.0}, jnp.array([-1.0])], ids=str
)
def test_a_rate_outside_0_and_1_raises_when_built(rate):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        cg.pcff(three, rate)


@pytest.mark.parametrize(
    "rate",
    [None, "0.5", True, 1j, jnp.array([1]), {1: 0.5}, {"a": "b"}, {"a": {"b": 0.5}}],
    ids=str,
)
def test_a_rate_of_another_kind_raises_when_built(rate):
    with pytest.raises(TypeError, match="rate"):
        cg.pcff(three, rate)


def test_options_are_checked_when_built():
    with pytest.raises(ValueError, match="estimator"):
        # As users call it: the tests' run-time check of annotations would raise first.
        inspect.unwrap(cg.pcff)(three, 0.5, estimator="score")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rounds"):
        cg.forward_sample(three, rounds=12)


def test_a_class_axis_has_one_mask():
    net = lambda x: weighted(3, cg.node(cg.nodes.Categorical(axis=-2), x, name="h"), x)  # noqa: E731
    x = jax.random.normal(KEY, (40, 5, 3))
    rate = jnp.array([0.0, 0.5, 1.0])
    for r in (rate, rate[None], jnp.broadcast_to(rate, (40, 1, 3))):
        out = np.moveaxis(np.asarray(cg.pcff(net, r)(KEY, x)), 1, -1).reshape(40, 3, 5)
        one_hot = np.sort(out, -1).tolist()
        hot = np.array([[row == [0, 0, 0, 0, 3] for row in rows] for rows in one_hot])
        np.testing.assert_allclose(out.sum(-1), 3, rtol=1e-6)  # a softmax sums to 1 but rounding
        assert not hot[:, 0].any() and hot[:, 2].all()
        assert 8 < hot[:, 1].sum() < 32  # binomial(40, 1/2): 20, 5 standard deviations are 15.8
    with pytest.raises(ValueError, match="one mask for each of its variables"):
        cg.pcff(net, jnp.ones((5, 3)))(KEY, x)


def test_noise_nodes_are_sampled_at_every_rate():
    def net(x):
        return x * cg.noise(cg.nodes.BernoulliMask(), jnp.full(x.shape, 0.5), name="drop")

    x = jnp.ones(64)
    expected = cg.forward_sample(net)(KEY, x)
    assert set(expected.tolist()) == {0.0, 1.0}
    for rate in (0.0, 0.5, 1.0, jnp.float32(0), {}):
        assert_identical(cg.pcff(net, rate)(KEY, x), expected)
    assert_identical(cg.feed_forward(net)(x), 0.5 * x)


# -- coupling


def test_the_rate_never_changes_which_numbers_are_drawn():
    net = lambda x: weighted(3, relu(x, "h"), x)  # noqa: E731
    x = jnp.linspace(-2, 2, 200)
    plain, full = as_users(cg.feed_forward(net))(x), as_users(cg.forward_sample(net))(KEY, x)
    before = np.zeros(200, bool)
    for rate in (0.0, 0.1, jnp.float32(0.3), jnp.full(200, 0.6), {"h": 0.9}, 1.0):
        out = as_users(cg.pcff(net, rate))(KEY, x)
        is_sample = np.asarray(out != plain)
        np.testing.assert_allclose(out, np.where(is_sample, full, plain), rtol=1e-6, atol=1e-6)
        # Nodes that are uncollapsed at one rate are so at every higher rate.
        assert (is_sample >= before).all()
        before = is_sample
    expected = np.asarray(full != plain)
    assert (before == expected).all()


def test_runs_of_one_key_agree_where_networks_agree():
    one = lambda x: (3 * spin(x, "a"), 3 * spin(x + 1, "b"))  # noqa: E731
    two = lambda x: (3 * spin(x, "c"), 3 * spin(x - 9, "d"))  # noqa: E731
    x = jnp.zeros(50)
    assert_identical(cg.forward_sample(one)(KEY, x)[0], cg.forward_sample(two)(KEY, x)[0])


# -- distributions


@pytest.mark.parametrize("rounds", [13, 20])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_fraction_rate_of_the_nodes_is_sampled(rounds, impl):
    n, rate = 20_000, 0.3
    net = lambda x: weighted(3, spin(x, "h"), x)  # noqa: E731
    key = jax.random.key(4, impl=impl)
    out = np.asarray(cg.pcff(net, rate, rounds=rounds)(key, jnp.full(n, 0.4)))
    is_sample = np.abs(out) == 3
    # Binomial: standard error of a fraction p is sqrt(p (1 - p) / n).
    assert abs(is_sample.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)
    high = (1 + np.tanh(0.4)) / 2
    fraction = (out[is_sample] > 0).mean()
    assert abs(fraction - high) < 5 * np.sqrt(high * (1 - high) / is_sample.sum())


def test_rounds_change_the_numbers_of_threefry_only():
    net = lambda x: 3 * cg.node(cg.nodes.Gaussian(1.0), x)  # noqa: E731
    x = jnp.zeros(20)
    one, two = (cg.forward_sample(net, rounds=r)(KEY, x) for r in (13, 20))
    assert (np.asarray(one) != np.asarray(two)).all()


def test_mask_and_sample_are_independent():
    """The two words of a block decide two things: collapsed or not, and which value."""
    n = 40_000
    net = lambda x: weighted(3, cg.node(cg.nodes.Gaussian(1.0), x, name="h"), x)  # noqa: E731
    x = jnp.zeros(n)
    full = np.asarray(cg.forward_sample(net)(KEY, x)) / 3
    chosen = np.asarray(cg.pcff(net, 0.5)(KEY, x)) != 0
    assert stats.kstest(full[chosen], "norm").pvalue > 1e-6
    assert stats.kstest(full[~chosen], "norm").pvalue > 1e-6


def test_ancestral_samples_have_the_chain_rules_distribution():
    """A chain of two binary nodes: all four joint frequencies, by chi-squared."""
    w, b, n = 1.5, -0.4, 20_000

    def net(x):
        a = spin(x, "a")
        return a, spin(w * a + b, "b")

    a, c = cg.forward_sample(net)(KEY, jnp.full(n, 0.3))
    counts = [np.sum((np.asarray(a) == i) & (np.asarray(c) == j)) for i in (-1, 1) for j in (-1, 1)]
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    p = [sigmoid(2 * i * 0.3) * sigmoid(2 * j * (w * i + b)) for i in (-1, 1) for j in (-1, 1)]
    # Log-odds are 2e: P(x) = sigmoid(2 x e).
    assert stats.chisquare(counts, n * np.array(p)).pvalue > 1e-6


# -- derivatives


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0, jnp.float32(0.25), {"h": jnp.full(8000, 0.25)}])
def test_discrete_samples_pass_no_gradient(rate):
    n = 8000
    net = lambda x: weighted(3, spin(x, "h"), x)  # noqa: E731
    x = jnp.full(n, 0.4)
    gradient = np.asarray(jax.grad(lambda x: cg.pcff(net, rate)(KEY, x).sum())(x))
    zero = gradient == 0
    p = 0.25 if not isinstance(rate, float) else rate
    assert abs(zero.mean() - p) <= 5 * np.sqrt(p * (1 - p) / n)
    # The others pass exactly the activation's.
    slope = 3 * (1 - np.tanh(np.float32(0.4)) ** 2)
    np.testing.assert_allclose(gradient[~zero], slope, rtol=1e-6)
    out = np.asarray(cg.pcff(net, rate)(KEY, x))
    assert ((np.abs(out) == 3) == zero).all()


@pytest.mark.parametrize(
    "family", [cg.nodes.Spin(), cg.nodes.Bernoulli(), cg.nodes.Categorical()], ids=lambda f: repr(f)
)
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_straight_through_passes_the_activations_gradient_and_changes_no_value(family, rate):
    net = lambda x: weighted(3, cg.node(family, x, name="h"), x)  # noqa: E731
    x = jax.random.normal(KEY, (6, 4))
    target = jax.random.normal(jax.random.key(2), (6, 4))

    def loss(estimator):
        f = cg.pcff(net, rate, estimator=estimator)
        return lambda x: (f(KEY, x) * target).sum()

    value, gradient = jax.value_and_grad(loss("straight_through"))(x)
    np.testing.assert_allclose(value, loss("pathwise")(x), rtol=1e-6)
    expected = jax.grad(lambda x: (net(x) * target).sum())(x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    assert (np.asarray(jax.grad(loss("pathwise"))(x)) == 0).sum() > 5


CONTINUOUS = {
    "relu": cg.nodes.ReLU(),
    "leaky_relu": cg.nodes.LeakyReLU(0.1),
    "softplus": cg.nodes.Softplus(),
    "nair_hinton": cg.nodes.NairHinton(),
    "gaussian": cg.nodes.Gaussian(0.7),
    "rectified": cg.nodes.RectifiedGaussian(jax.nn.sigmoid, 0.2),
}


@pytest.mark.parametrize("rate", [0.5, 1.0, "traced"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_gradients_are_those_of_the_mixture_written_out(name, rate):
    """Against the definition: where(u < rate, sample(word 1), activation), differentiated by JAX.

    The words are recovered by sampling a family that returns them.
    """
    family = CONTINUOUS[name]
    x = jnp.concatenate([jnp.linspace(-3, 3, 61), jnp.array([0.0, 30.0, -30.0])])
    weight = jnp.linspace(0.5, 1.5, 64)
    value = 0.5 if rate == "traced" else rate
    net = lambda e: weighted(2, cg.node(family, e, name="h"), e)  # noqa: E731
    f = lambda r: jax.value_and_grad(lambda e: (cg.pcff(net, r)(KEY, e) * weight).sum())  # noqa: E731

    def both(r):
        return f(value if rate != "traced" else r)(x)

    got = jax.jit(both)(value)
    node_key = jax.random.fold_in(jax.random.split(KEY, 1)[0], 0)
    words = random_bits.random_words(node_key, x.shape)

    def mixture(e):
        uncollapsed = random_bits.uniform(words[0]) < value
        mixed = jnp.where(uncollapsed, family.from_words(words[1], e), family.activation(e))
        return (2 * mixed * weight).sum()

    expected = jax.jit(jax.value_and_grad(mixture))(x)
    # One formula against another in float32: a few ulp of the largest slope, about 3.
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(got[1], expected[1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["relu", "gaussian", "softplus"])
def test_second_derivatives_and_forward_mode_agree_with_the_definition(name):
    family = CONTINUOUS[name]
    x = jnp.linspace(-2, 2, 9) + 0.13
    net = lambda e: 2 * cg.node(family, e, name="h") ** 2  # noqa: E731
    sample = lambda e: cg.pcff(net, 0.5)(KEY, e)  # noqa: E731
    node_key = jax.random.fold_in(jax.random.split(KEY, 1)[0], 0)
    words = random_bits.random_words(node_key, x.shape)

    def expected(e):
        uncollapsed = random_bits.uniform(words[0]) < 0.5
        mixed = jnp.where(uncollapsed, family.from_words(words[1], e), family.activation(e))
        return 2 * mixed**2

    def derivatives(f):
        first = jax.jvp(f, (x,), (jnp.ones_like(x),))[1]
        second = jax.jvp(jax.grad(lambda e: f(e).sum()), (x,), (jnp.ones_like(x),))[1]
        return first, second

    got, wanted = jax.jit(lambda: (derivatives(sample), derivatives(expected)))()
    # Second derivatives divide by tanh(e), which is 0.13 at its smallest: rounding grows by 60.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-3), got, wanted)


def test_gradients_reach_rates_never_and_family_parameters_where_reparameterised():
    def net(s, x):
        return weighted(2, cg.node(cg.nodes.Gaussian(s), x, name="h"), x)

    def loss(rate, scale, x):
        return cg.pcff(net, rate)(KEY, scale, x).sum()

    x = jnp.zeros(50)
    rate, scale = jax.grad(loss, (0, 1))(0.5, jnp.float32(2.0), x)
    assert rate == 0
    draws = cg.pcff(net, 0.5)(KEY, jnp.float32(2.0), x)
    np.testing.assert_allclose(scale, draws.sum() / 2, rtol=1e-5)  # d(s n)/ds = n


# -- vmap over runs


def test_vmap_over_keys_rates_and_parameters_is_the_loop():
    rates = jnp.array([0.0, 0.3, 0.7, 1.0])
    keys = jax.random.split(KEY, 4)
    parameters = jax.vmap(lambda s: jax.tree.map(lambda w: w * s, PARAMETERS))(jnp.arange(1.0, 5))

    def run(key, rate, parameters):
        def loss(p):
            return (cg.pcff(two_layers, {"first": rate, "*": rate**2})(key, p, X) ** 2).mean()

        return jax.value_and_grad(loss)(parameters)

    got = jax.jit(jax.vmap(run))(keys, rates, parameters)
    one = jax.jit(run)
    for i in range(4):
        expected = one(keys[i], rates[i], jax.tree.map(lambda w, i=i: w[i], parameters))
        # Batched products sum in another order; gradients of size 10 to 1000.
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-5, atol=1e-4),
            got,
            expected,
        )
    everything_at_0 = jax.value_and_grad(lambda p: (two_layers(p, X) ** 2).mean())
    np.testing.assert_allclose(got[0][0], everything_at_0(PARAMETERS)[0], rtol=1e-5)


def test_rows_of_a_batch_and_of_vmap_are_independent_but_differently_drawn():
    net = lambda x: 3 * cg.node(cg.nodes.Gaussian(1.0), x, name="h")  # noqa: E731
    batch = cg.forward_sample(net)(KEY, jnp.zeros((50, 40)))
    inner = cg.forward_sample(jax.vmap(net))(KEY, jnp.zeros((50, 40)))
    assert len(np.unique(batch)) > 1990 and len(np.unique(inner)) > 1990
    # With one key for all rows the user asks for the same noise in each.
    same = jax.vmap(cg.forward_sample(net), (None, 0))(KEY, jnp.zeros((50, 40)))
    assert_identical(same, jnp.broadcast_to(same[0], (50, 40)))


def test_an_unjitted_procedure_may_be_called_under_disabled_jit():
    net = lambda x: lax.scan(lambda c, _: (3 * spin(c, "h"), None), x, None, length=2)[0]  # noqa: E731
    expected = cg.forward_sample(net)(KEY, jnp.ones(3))
    with jax.disable_jit():
        got = cg.forward_sample(net)(KEY, jnp.ones(3))
    assert_identical(got, expected)
