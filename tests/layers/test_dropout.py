"""Dropout as noise nodes."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import cgjax as cg
from tests.helpers import assert_identical, relu, weights

KEY = jax.random.key(61)


def sample(layer, x, key=KEY):
    return np.asarray(cg.forward_sample(layer)(key, x))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_is_distributed_as_flax_dropout(rate):
    n = 20_000
    x = jnp.full(n, 3.0)
    ours = sample(cg.layers.Dropout(rate), x)
    flax = nnx.Dropout(rate, rngs=nnx.Rngs(0))
    flax.train()
    theirs = np.asarray(flax(x))
    assert set(np.unique(ours)) == set(np.unique(theirs))  # 0 and 3 / (1 - rate), to the bit
    # Both numbers of dropped elements are binomial; their difference has twice the variance.
    difference = abs((ours == 0).sum() - (theirs == 0).sum())
    assert difference < 5 * np.sqrt(2 * n * rate * (1 - rate))
    assert abs((ours == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize("distribution", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.75])
def test_plain_evaluation_and_feed_forward_marginalise_exactly(distribution, rate):
    layer = cg.layers.Dropout(rate, distribution=distribution)
    x = jax.random.normal(KEY, (50, 7))
    assert_identical(layer(x), x)
    assert_identical(cg.feed_forward(layer)(x), x)
    gradient = jax.grad(lambda x: layer(x).sum())(x)
    assert_identical(gradient, jnp.ones_like(x))


def test_the_ends_are_exact():
    x = jnp.linspace(-2, 2, 30)
    assert_identical(sample(cg.layers.Dropout(0.0), x), np.asarray(x))
    assert_identical(sample(cg.layers.Dropout(1.0), x), np.zeros(30, np.float32))
    assert_identical(cg.layers.Dropout(1.0)(x), jnp.zeros(30))
    gradient = jax.grad(lambda x: cg.forward_sample(cg.layers.Dropout(1.0))(KEY, x).sum())(x)
    assert_identical(gradient, jnp.zeros(30))
    assert_identical(sample(cg.layers.Dropout(0.0, distribution="gaussian"), x), np.asarray(x))


def test_gaussian_noise_has_mean_1_and_the_variance_of_bernoulli_noise():
    n, rate = 40_000, 0.3
    draws = sample(cg.layers.Dropout(rate, distribution="gaussian"), jnp.ones(n))
    scale = np.sqrt(rate / (1 - rate))
    assert stats.kstest((draws - 1) / scale, "norm").pvalue > 1e-6


def test_masks_are_shared_along_the_chosen_axes_only():
    x = jnp.ones((5, 6, 40))
    shapes = {(0,): (1, 6, 40), (-2, 0): (1, 1, 40), (): (5, 6, 40), (2,): (5, 6, 1)}
    for axes, shape in shapes.items():
        layer = cg.layers.Dropout(0.5, broadcast_dims=axes)
        out, nodes = cg.with_nodes(cg.forward_sample(layer))(KEY, x)
        assert nodes["dropout"].shape == shape
        assert_identical(out, jnp.broadcast_to(2 * nodes["dropout"], x.shape))
    # Every element that is not shared is drawn by itself.
    masks = sample(cg.layers.Dropout(0.5, broadcast_dims=(0,)), x)[0]
    assert len(np.unique(masks, axis=0)) == 6


def test_inner_maps_and_loops_have_a_mask_for_each_row():
    layer = cg.layers.Dropout(0.5)
    x = jnp.ones((8, 3, 20))
    for net in (jax.vmap(layer), jax.vmap(jax.vmap(layer)), lambda x: jax.lax.map(layer, x)):
        out = sample(net, x)
        assert set(np.unique(out)) == {0.0, 2.0}
        assert len(np.unique(out.reshape(24, 20), axis=0)) == 24
    # A constant input under a map is one value, with one mask.
    constant = lambda x: jax.vmap(lambda row: row + layer(jnp.ones(20)))(x)  # noqa: E731
    assert len(np.unique(sample(constant, jnp.zeros((8, 20))), axis=0)) == 1


def test_one_mask_for_all_steps_is_drawn_before_the_scan():
    layer = cg.layers.Dropout(0.5)

    def fresh(x):
        return jax.lax.scan(lambda c, s: (c, layer(s)), 0, x)[1]

    def shared(x):
        mask = layer(jnp.ones_like(x[0]))
        return jax.lax.scan(lambda c, s: (c, s * mask), 0, x)[1]

    x = jnp.ones((5, 30))
    assert len(np.unique(sample(fresh, x), axis=0)) == 5
    assert len(np.unique(sample(shared, x), axis=0)) == 1


def test_works_with_pcff_in_one_network():
    parameters, x = weights(3, 4, 4, 2), jax.random.normal(KEY, (5, 3))
    layer = cg.layers.Dropout(0.5, name="drop")

    def net(parameters, x):
        h = layer(relu(x @ parameters[0], "h"))
        return layer(relu(h @ parameters[1], "g")) @ parameters[2]

    def run(rate):
        return cg.with_nodes(cg.pcff(net, rate))(KEY, parameters, x)

    out, nodes = run(0.0)
    assert list(nodes) == ["h", "drop", "g", "drop#1"]
    # Dropout training: activations, with sampled masks.
    h = jax.nn.relu(x @ parameters[0])
    g = jax.nn.relu((2 * h * nodes["drop"]) @ parameters[1])
    expected = (2 * g * nodes["drop#1"]) @ parameters[2]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    # The masks are the same at every rate, and differ from each other.
    for rate in (0.5, 1.0, {"h": jnp.float32(0.3)}):
        other = run(rate)[1]
        assert_identical((other["drop"], other["drop#1"]), (nodes["drop"], nodes["drop#1"]))
    assert (nodes["drop"] != nodes["drop#1"]).any()
    assert (run(1.0)[1]["h"] != nodes["h"]).any()
    plain = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p[0]) @ p[1]) @ p[2]  # noqa: E731
    assert_identical(cg.feed_forward(net)(parameters, x), jax.jit(plain)(parameters, x))


def test_expectation_over_masks_of_a_linear_network_is_feed_forward():
    x = jax.random.normal(KEY, (20,))
    layer = cg.layers.Dropout(0.4)
    net = lambda x: (layer(x) * jnp.arange(20.0)).sum()  # noqa: E731
    estimate = cg.monte_carlo(cg.pcff(net, 0.0), 4000)(KEY, x)
    assert abs(estimate.mean - net(x)) < 5 * estimate.standard_error


@pytest.mark.parametrize("distribution", ["bernoulli", "gaussian"])
def test_rates_may_be_arrays_traced_mapped_and_assigned_later(distribution):
    x = jnp.ones(100)

    def run(rate, x):
        return cg.forward_sample(cg.layers.Dropout(rate, distribution=distribution))(KEY, x)

    rates = jnp.array([0.1, 0.5, 0.8])
    got = jax.jit(jax.vmap(run, (0, None)))(rates, x)
    for rate, row in zip((0.1, 0.5, 0.8), got, strict=True):
        # Divided by 1 - rate, rounded once when known and once when traced.
        np.testing.assert_allclose(row, run(rate, x), rtol=1e-6, atol=1e-6)
    layer = cg.layers.Dropout(0.0, distribution=distribution)
    assert_identical(sample(layer, x), np.ones(100, np.float32))
    layer.rate = 0.5
    assert len(np.unique(sample(layer, x))) > 1
    layer = cg.layers.Dropout(jnp.float32(0.5), distribution=distribution)
    layer.rate = jnp.float32(0.0)
    assert_identical(sample(layer, x), np.ones(100, np.float32))


def test_coupled_masks_grow_with_the_rate():
    x = jnp.ones(500)
    kept = [sample(cg.layers.Dropout(r), x) != 0 for r in (0.1, 0.4, 0.6, 0.9)]
    for more, fewer in zip(kept, kept[1:], strict=False):
        assert (more >= fewer).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_keeps_its_dtype_and_the_rate_its_precision(dtype):
    n = 40_000
    out = cg.forward_sample(cg.layers.Dropout(0.001))(KEY, jnp.ones(n, dtype))
    assert out.dtype == dtype
    # In bfloat16 1 - 0.001 would be 1 and nothing would be dropped: 40 expected, deviation 6.3.
    assert 8 < (np.asarray(out, np.float32) == 0).sum() < 72
    assert_identical(cg.layers.Dropout(0.3)(jnp.ones(5, dtype)), jnp.ones(5, dtype))


def test_is_a_module_among_others():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs), cg.layers.Dropout(0.5)])

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    net = Net(nnx.Rngs(0))
    x = jnp.ones((4, 3))
    assert_identical(cg.feed_forward(net)(x), jax.jit(lambda x: net.layers[0](x))(x))
    dropped = cg.pcff(net, 0.0)(KEY, x)
    assert (dropped == 0).any() and (dropped != 0).any()
    # It has no variables, so it changes none, and works inside anyone's transformations.
    assert_identical(jax.jit(lambda x: cg.pcff(net, 0.0)(KEY, x))(x), dropped)
    f, params, state = cg.functional(net)
    assert_identical(cg.pcff(f, 0.0)(KEY, params, state, x)[0], dropped)


def test_mistakes_raise():
    for rate in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"probability in \[0, 1\]"):
            cg.layers.Dropout(rate)
        with pytest.raises(ValueError, match=r"probability in \[0, 1\]"):
            cg.layers.Dropout(jnp.full(3, rate))
    with pytest.raises(ValueError, match=r"probability in \[0, 1\)"):
        cg.layers.Dropout(1.0, distribution="gaussian")
    for rate in ("0.5", None, True):
        with pytest.raises(TypeError, match="drop rate is a number"):
            cg.layers.Dropout(rate)
    for axis in (2, -3):
        with pytest.raises(ValueError, match=r"axes of the input.*shape \(2, 3\)"):
            cg.layers.Dropout(0.5, broadcast_dims=(axis,))(jnp.ones((2, 3)))
    layer = cg.layers.Dropout(0.5)
    layer.rate = 1.5
    with pytest.raises(ValueError, match="from 0.0 to 1.0, got values from -0.5"):
        layer(jnp.ones(2))
    # As users call it: the tests' run-time check of annotations would raise first.
    unchecked = inspect.unwrap(cg.layers.Dropout.__init__)
    with pytest.raises(ValueError, match="bernoulli, gaussian"):
        unchecked(layer, 0.5, distribution="uniform")
    call = inspect.unwrap(cg.layers.Dropout.__call__)
    with pytest.raises(TypeError, match=r"floating-point array, got int32\[3\]"):
        call(cg.layers.Dropout(0.5), jnp.arange(3))
