"""The recurrent networks: parameter counts of the publications, initial weights, procedures."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from train.models.indrnn import DenselyConnected, Options, Plain, Residual

KEY = jax.random.key(81)
recurrences = importlib.import_module("cgjax.kernels._recurrence")
SMALL = {
    "plain": lambda implementation=None: Plain(
        2, Options(6, implementation=implementation), features=4, rngs=nnx.Rngs(0)
    ),
    "residual": lambda implementation=None: Residual(
        1, Options(6, implementation=implementation), features=4, rngs=nnx.Rngs(0)
    ),
    "dense": lambda implementation=None: DenselyConnected(
        (2, 1), Options(6, implementation=implementation), growth=2, rngs=nnx.Rngs(0)
    ),
}


def parameters(build):
    """Their shapes; nothing is computed."""
    return nnx.state(nnx.eval_shape(build), nnx.Param)


def bounded(leaf):
    return "recurrent_bound" in leaf.get_metadata()


@pytest.mark.parametrize(
    ("build", "count", "recurrent"),
    [
        (lambda: Plain(6, rngs=nnx.Rngs(0)), 86_410, 6),
        (lambda: Plain(12, rngs=nnx.Rngs(0)), 187_786, 12),
        (lambda: Residual(rngs=nnx.Rngs(0)), 170_890, 11),
        (lambda: DenselyConnected(rngs=nnx.Rngs(0)), 256_514, 40),
    ],
    ids=["plain-6", "plain-12", "residual", "dense"],
)
def test_parameters_are_as_many_as_in_the_published_runs(build, count, recurrent):
    params = parameters(build)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    is_variable = lambda leaf: isinstance(leaf, nnx.Variable)  # noqa: E731
    found = jax.tree.leaves(params, is_leaf=is_variable)
    bounds = [leaf.get_metadata()["recurrent_bound"] for leaf in found if bounded(leaf)]
    assert bounds == recurrent * [5 ** (1 / 784)]


def test_initial_weights():
    net = Plain(2, features=128, rngs=nnx.Rngs(0), last_close_to_one=True)
    recurrent: list[Any] = [layer.recurrent for layer in net.layers]
    first, second = recurrent
    for layer, largest in ((first, 0.3038), (second, 0.02685)):
        kernel = np.asarray(layer.input.kernel[...])
        # The largest of at least 128 uniform numbers: within 5 % of the bound but once in 700.
        assert 0.95 * largest < abs(kernel).max() <= 1.001 * largest
        np.testing.assert_array_equal(layer.input.bias[...], 0)
    bound = 5 ** (1 / 784)
    u = np.asarray(first.recurrent[...])
    assert u.min() < 0.1 and 0.9 < u.max() <= bound
    u = np.asarray(second.recurrent[...])
    assert 0.9979 < u.min() < 0.999 and 1.001 < u.max() < 1.0021
    kernel = np.asarray(net.classifier.kernel[...])
    # Standard deviation sqrt(2 / 128); its estimate from n numbers has one of 1 / sqrt(2 n).
    assert abs(kernel.std() / np.sqrt(2 / 128) - 1) < 5 / np.sqrt(2 * kernel.size)
    norm = net.layers[0].norm
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_noise_and_samples_come_from_the_procedure(name):
    net = DenselyConnected((1,), growth=2, rngs=nnx.Rngs(0)) if name == "dense" else SMALL[name]()
    x = jax.random.normal(KEY, (3, 6, 1))
    net.eval()
    f, params, state = cg.functional(net)
    run = jax.jit(lambda: f(params, state, x)[0])
    none = run()
    assert none.shape == (3, 10)
    marginalised = jax.jit(lambda: cg.feed_forward(f)(params, state, x, 0.25)[0])()
    np.testing.assert_allclose(marginalised, none, rtol=1e-6, atol=1e-6)

    def sampled(rate, drop_rate):
        return jax.jit(lambda: cg.pcff(f, rate)(KEY, params, state, x, drop_rate)[0])()

    np.testing.assert_allclose(sampled(0.0, None), none, rtol=1e-6, atol=1e-6)
    assert not np.allclose(sampled(0.0, 0.4), none)
    assert not np.allclose(sampled(0.5, None), none)


def test_one_mask_serves_all_steps_and_the_statistics_are_over_batch_and_time():
    net = SMALL["plain"]()
    x = jax.random.normal(KEY, (3, 6, 1))
    f, params, state = cg.functional(net)
    (_, new), nodes = cg.with_nodes(cg.pcff(f, 0.0))(KEY, params, state, x, 0.5)
    assert nodes["layer_0_dropout"].shape == (1, 3, 4)
    states = nodes["layer_0"]
    assert states.shape == (6, 3, 4)
    mean = new["layers"][0]["norm"]["mean"][...]
    np.testing.assert_allclose(mean, 0.1 * states.mean((0, 1)), rtol=1e-5)


def test_skips_are_edges_of_the_graph():
    x = jax.ShapeDtypeStruct((6, 1), jnp.float32)
    net = SMALL["residual"]()
    net.eval()
    graph = cg.chain_graph(net)(x)
    assert [p.name for p in graph["layer_2"].parents] == ["x", "layer_1", "layer_2"]
    net = SMALL["dense"]()
    net.eval()
    graph = cg.chain_graph(net)(x)
    # layer_0 | 1 and 2, 3 and 4 | transition 5 | 6 and 7 | transition 8.
    parents = {i: [p.name for p in graph[f"layer_{i}"].parents] for i in (5, 8)}
    assert parents[5] == ["layer_0", "layer_2", "layer_4", "layer_5"]
    assert parents[8] == ["layer_5", "layer_7", "layer_8"]


# -- the implementation of the recurrence


@pytest.fixture
def implementations(monkeypatch):
    """Of the recurrences that are traced; the kernel for GPUs is interpreted by Pallas."""
    settings, seen = recurrences._settings, []

    def interpreted(*args, **options):
        made = settings(*args, **options)
        seen.append(made.implementation)
        return made._replace(interpret=made.implementation == "mosaic_gpu", ahead=2)

    monkeypatch.setattr(recurrences, "_settings", interpreted)
    return seen


@pytest.mark.parametrize(("name", "depth"), [("plain", 2), ("residual", 3), ("dense", 9)])
def test_the_implementation_reaches_every_layer(name, depth, implementations):
    for implementation in (None, "parallel", "mosaic_gpu"):
        made = functools.partial(SMALL[name], implementation)
        f, params, state = cg.functional(nnx.eval_shape(made))
        jax.eval_shape(cg.feed_forward(f), params, state, jnp.ones((3, 6, 1)))
    assert implementations == depth * ["scan"] + depth * ["parallel"] + depth * ["mosaic_gpu"]


def test_the_implementations_differ_by_roundings(implementations):
    x = jax.random.normal(KEY, (3, 6, 1))
    f, params, state = cg.functional(SMALL["plain"]())
    expected = jax.jit(f)(params, state, x)
    for implementation in ("parallel", "mosaic_gpu"):
        got = jax.jit(cg.functional(SMALL["plain"](implementation))[0])(params, state, x)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
        jax.tree.map(close, got, expected)
    assert set(implementations) == {"scan", "parallel", "mosaic_gpu"}


def test_a_training_step_with_the_kernel_is_that_of_the_loop(implementations):
    """Over two runs of other rates of dropout and PCFF, as in a sweep."""
    x = jax.random.normal(KEY, (3, 6, 1))

    def gradients(implementation):
        f, params, state = cg.functional(SMALL["plain"](implementation))

        def loss(params, key, rate):
            logits, _ = cg.pcff(f, rate)(key, params, state, x, rate)
            return (logits**2).mean()

        both = jax.vmap(jax.grad(loss), (None, 0, 0))
        return jax.jit(both)(params, jax.random.split(KEY), jnp.array([0.0, 0.5]))

    got, expected = gradients("mosaic_gpu"), gradients("scan")
    # Roundings of float32, through two normalisations.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, got, expected)
    weights = got["layers"][0]["recurrent"]["recurrent"][...]
    assert abs(weights[0] - weights[1]).max() > 1e-3
    assert set(implementations) == {"scan", "mosaic_gpu"}
