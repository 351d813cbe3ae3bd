"""The recurrent networks: parameter counts of the publications, initial weights, procedures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from train.models.indrnn import DenselyConnected, Plain, Residual

KEY = jax.random.key(81)
SMALL = {
    "plain": lambda: Plain(2, steps=6, features=4, rngs=nnx.Rngs(0)),
    "residual": lambda: Residual(1, steps=6, features=4, rngs=nnx.Rngs(0)),
    "dense": lambda: DenselyConnected((2, 1), growth=2, steps=6, rngs=nnx.Rngs(0)),
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
