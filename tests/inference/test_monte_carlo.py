"""Monte Carlo averages and their standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from tests.helpers import assert_identical, relu, spin, two_layers, weights

KEY = jax.random.key(31)


def chain(x):
    return 2 * spin(1.3 * spin(x, "a") - 0.2, "b")


def exact_chain(x):
    """E of `chain` by enumeration of the first node; variances too."""
    high = (1 + np.tanh(x)) / 2
    means = np.tanh([1.3 - 0.2, -1.3 - 0.2])
    mean = 2 * (high * means[0] + (1 - high) * means[1])
    return mean, 4 - mean**2  # the statistic is +-2


def test_is_within_five_standard_errors_of_the_exact_value():
    x = jnp.linspace(-1.0, 1.0, 5)
    n = 3000
    estimate = cg.monte_carlo(cg.forward_sample(chain), n)(KEY, x)
    mean, variance = exact_chain(np.asarray(x))
    assert (np.abs(estimate.mean - mean) < 5 * np.sqrt(variance / n)).all()
    # The error of an estimated standard deviation is 1 / sqrt(2 n) of it or less here.
    np.testing.assert_allclose(estimate.standard_error, np.sqrt(variance / n), rtol=0.1)
    # Feed-forward is another number, far outside.
    assert (np.abs(chain(x) - mean) > 5 * np.sqrt(variance / n)).any()


def test_is_the_sample_mean_and_its_standard_error_over_split_keys():
    net = lambda x: jnp.tanh(2 * relu(x, "h"))  # noqa: E731
    sampler, x = cg.pcff(net, 0.7), jnp.array([0.3, 1.0, -0.5])
    keys = jax.random.split(jax.random.split(KEY, 1)[0], 10)
    samples = np.asarray(jax.vmap(sampler, (0, None))(keys, x), np.float64)
    got = cg.monte_carlo(sampler, 10, batch_size=4)(KEY, x)
    # Float32 sums of ten numbers of size 1.
    np.testing.assert_allclose(got.mean, samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(got.standard_error, samples.std(0, ddof=1) / np.sqrt(10), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8, 9, 26])
def test_the_batch_size_changes_rounding_only(batch_size):
    sampler, x = cg.forward_sample(lambda x: 2 * relu(x, "h") + 1000), jnp.array([0.3, 1.0, -0.5])
    got = cg.monte_carlo(sampler, 25, batch_size=batch_size)(KEY, x)
    expected = cg.monte_carlo(sampler, 25, batch_size=25)(KEY, x)
    # Means near 1000 have an ulp of 6e-5, and deviations from them are 0.14 and more. A difference
    # of squares would be wrong in the first digit.
    np.testing.assert_allclose(got.mean, expected.mean, rtol=3e-7)
    np.testing.assert_allclose(got.standard_error, expected.standard_error, rtol=1e-3)


def test_more_samples_than_the_root_of_the_largest_integer():
    n, x = 50_000, jnp.zeros(2)
    estimate = cg.monte_carlo(cg.forward_sample(chain), n, batch_size=5000)(KEY, x)
    mean, variance = exact_chain(np.zeros(2))
    assert (np.abs(estimate.mean - mean) < 5 * np.sqrt(variance / n)).all()
    # As above: the estimated deviation is within five of its own errors.
    np.testing.assert_allclose(estimate.standard_error, np.sqrt(variance / n), rtol=0.02)


@pytest.mark.numerics
def test_float64_averages_are_as_exact_as_float64():
    with jax.enable_x64(True):
        sampler, x = cg.forward_sample(lambda x: 1e3 * spin(x, "h")), jnp.array([0.3, 1.0, -0.5])
        keys = jax.random.split(jax.random.split(KEY, 1)[0], 25)
        samples = np.asarray(jax.vmap(sampler, (0, None))(keys, x))
        got = cg.monte_carlo(sampler, 25, batch_size=8)(KEY, x)
        assert got.mean.dtype == got.standard_error.dtype == jnp.float64
        # Some ulp of sums of 25 numbers of size 1000.
        np.testing.assert_allclose(got.mean, samples.mean(0), rtol=1e-12, atol=1e-12)
        expected = samples.std(0, ddof=1) / 5
        np.testing.assert_allclose(got.standard_error, expected, rtol=1e-12)


@pytest.mark.numerics
def test_an_error_of_0_has_derivative_0():
    net = lambda x: jnp.stack([spin(x, "h") * 2, x * x])  # noqa: E731

    def loss(x):
        return sum(leaf.sum() for leaf in cg.monte_carlo(cg.forward_sample(net), 8)(KEY, x))

    assert jax.grad(loss)(jnp.float32(0.3)) == np.float32(0.6)


def test_a_function_without_randomness_has_error_0():
    estimate = cg.monte_carlo(lambda key, x: x, 8, batch_size=3)(KEY, jnp.array([0.1, 1e6]))
    np.testing.assert_allclose(estimate.mean, [0.1, 1e6], rtol=1e-7)
    # The merged mean may move by an ulp, 0.06 at 1e6.
    np.testing.assert_allclose(estimate.standard_error, 0, atol=0.05)


def test_results_may_be_trees_of_any_dtype():
    def sampler(key, x):
        draw = jax.random.bernoulli(key, 0.25, (400,))
        return {"bool": draw, "int": 3 * draw, "half": draw.astype(jnp.bfloat16), "none": None}

    estimate = cg.monte_carlo(sampler, 50)(KEY, 0.0)
    assert estimate.mean["none"] is None
    for name, factor in (("bool", 1), ("int", 3), ("half", 1)):
        mean, error = estimate.mean[name], estimate.standard_error[name]
        assert mean.dtype == error.dtype == jnp.float32
        assert abs(mean.mean() / factor - 0.25) < 5 * np.sqrt(0.1875 / 20_000)


def test_with_nodes_averages_every_statistic():
    x = jnp.zeros(400)
    out, nodes = cg.with_nodes(cg.monte_carlo(cg.forward_sample(chain), 40))(KEY, x)
    assert_identical(out, cg.monte_carlo(cg.forward_sample(chain), 40)(KEY, x))
    np.testing.assert_allclose(nodes["b"].mean * 2, out.mean, rtol=1e-6)
    assert abs(nodes["a"].mean.mean()) < 5 / np.sqrt(400 * 40)
    captured = cg.monte_carlo(cg.with_nodes(cg.forward_sample(chain)), 40)(KEY, x)
    assert_identical(captured.mean[1]["a"], nodes["a"].mean)


def test_compiles_for_the_batch_and_the_rest_only_however_many_samples():
    traces = 0

    def net(x):
        nonlocal traces
        traces += 1
        return 2 * spin(x)

    sampler = cg.forward_sample(net)
    for _ in range(2):
        cg.monte_carlo(sampler, 100, batch_size=8)(KEY, jnp.zeros(2))
    assert traces == 1


@pytest.mark.numerics
def test_gradients_are_averages_of_gradients():
    parameters, x = weights(3, 4, 4, 2), jnp.ones(3)
    sampler = cg.pcff(two_layers, 0.5)

    def loss(p):
        return cg.monte_carlo(sampler, 6, batch_size=4)(KEY, p, x).mean.sum()

    keys = jax.random.split(jax.random.split(KEY, 1)[0], 6)
    each = jax.vmap(jax.grad(lambda p, k: sampler(k, p, x).sum()), (None, 0))(parameters, keys)
    # Sums of six float32 numbers of size 10.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b.mean(0), rtol=1e-5, atol=1e-5),
        jax.jit(jax.grad(loss))(parameters),
        each,
    )


def test_mistakes_raise():
    sampler = cg.forward_sample(chain)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        cg.monte_carlo(sampler, 1)
    with pytest.raises(ValueError, match="batch_size is at least 1, got 0"):
        cg.monte_carlo(sampler, 2, batch_size=0)
    with pytest.raises(TypeError, match="key"):
        cg.monte_carlo(sampler, 2)(jnp.zeros(2))
    with pytest.raises(TypeError, match="key"):
        cg.monte_carlo(lambda key, x: x, 2)(jnp.zeros(2))
    with pytest.raises(TypeError, match="samples a network.*got one of FeedForward"):
        cg.monte_carlo(cg.feed_forward(chain), 8)
    with pytest.raises(TypeError, match="does not see"):
        cg.with_nodes(cg.monte_carlo(lambda key, x: sampler(key, x), 2))
