"""What `clamp` refuses: no dict of values, or values that a node cannot have."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg

X = jnp.zeros(2)
# Below the check of annotations that runs in tests.
clamp = inspect.unwrap(cg.clamp)


def net(x):
    y = cg.node(cg.nodes.Spin(), x, name="spin") + cg.node(cg.nodes.ReLU(), x, name="relu")
    z = cg.node(cg.nodes.LeakyReLU(), x, name="leaky") + cg.node(cg.nodes.Binary(3.0, 1.0), x)
    return y + z + cg.node(cg.nodes.Categorical(), x, name="class")


@pytest.mark.parametrize("values", [3, None, "spin", [("spin", 1.0)]])
def test_values_are_a_dict(values):
    with pytest.raises(TypeError, match=r"dict from node names to arrays.*got "):
        clamp(net, values)


def test_names_are_names_and_values_numbers():
    with pytest.raises(TypeError, match="given by its name, got 3"):
        clamp(net, {3: 1.0})
    for value in ("high", None, [[1], [1, 2]], jax.random.key(0)):
        with pytest.raises(TypeError, match="'spin' must be a number or an array of numbers"):
            clamp(net, {"spin": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spin", 7.0),
        ("spin", np.nan),
        ("spin", [0.5, -1.001]),
        ("relu", -0.5),
        ("relu", np.inf),
        ("leaky", np.nan),
        ("binary_0", jnp.array([2.0, 0.5])),
        ("class", jnp.array([1.5, -0.5])),
    ],
)
def test_values_out_of_reach_raise(name, value):
    clamped = cg.clamp(net, {name: value})
    for call in (clamped, cg.feed_forward(clamped), jax.jit(clamped)):
        with pytest.raises(ValueError, match=f"'{name}' is a .* cannot be clamped to"):
            call(X)


def test_values_means_and_what_is_traced_pass():
    values = {"spin": 0.5, "relu": [0.0, 2.0], "leaky": -3, "binary_0": 2.0, "class": True}
    got = cg.clamp(net, values)(X)
    np.testing.assert_allclose(got, np.array([0.5, 2.5]) - 3 + 2 + 1)
    traced = jax.jit(lambda value: cg.clamp(net, {"spin": value})(X))(7.0)
    assert np.isfinite(traced).all()
    states = jnp.array([0.1, 0.3])
    table = lambda x: cg.node(cg.nodes.Binary(states, states + 1), x, name="h")  # noqa: E731
    np.testing.assert_array_equal(cg.clamp(table, {"h": 0.5})(X), [0.5, 0.5])


def test_of_families_with_arrays_what_does_not_depend_on_these_is_known():
    states = jnp.array([0.1, 0.3])
    chain = lambda x: cg.node(cg.nodes.LinearChain(jnp.zeros((3, 3))), x, name="h")  # noqa: E731
    table = lambda x: cg.node(cg.nodes.Binary(states, states + 1), x, name="h")  # noqa: E731
    x = jnp.zeros((4, 3))
    for net_of, value, e in (
        *((chain, value, x) for value in (7.0, -0.1, np.nan, np.inf)),
        *((table, value, X) for value in (np.nan, -np.inf)),
    ):
        with pytest.raises(ValueError, match="'h' is a .* cannot be clamped to"):
            cg.clamp(net_of, {"h": value})(e)
    np.testing.assert_array_equal(
        cg.clamp(chain, {"h": 1 / 3})(x), np.full((4, 3), np.float32(1 / 3))
    )
    np.testing.assert_array_equal(cg.clamp(table, {"h": 5.0})(X), [5.0, 5.0])
