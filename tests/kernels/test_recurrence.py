"""The independent recurrence: every implementation against loops written out here."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax.kernels import independent_recurrence, random_words, sampled_independent_recurrence
from cgjax.kernels import recurrence as module
from cgjax.kernels.random_bits import row_words, uniform
from cgjax.kernels.recurrence._activations import NAMES, activation
from tests.helpers import assert_identical

KEY = jax.random.key(17)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.125),
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
}
FAMILIES = {"relu": cg.nodes.ReLU(), "tanh": cg.nodes.Spin(), "logistic": cg.nodes.Bernoulli()}
IMPLEMENTATIONS = [("scan", name) for name in NAMES] + [("parallel", "relu")]
LENGTH, BATCH, UNITS = 13, 3, 6
# Powers of two where a value shall be exact: negative, zero, one, and above the bound.
WEIGHTS = jnp.array([-1.0, -0.5, 0.0, 0.75, 1.0, 1.25])


def problem(length=LENGTH, dtype=jnp.float32):
    """Inputs, weights, initial state and cotangents; some inputs exactly 0, and states at kinks."""
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (length, BATCH, UNITS))
    x = x.at[2:5, 0].set(0.0).at[6, 1].set(-50.0).at[7:9, 1].set(0.0)
    initial = jax.random.normal(keys[1], (BATCH, UNITS)).at[2].set(0.0)
    g = jax.random.normal(keys[2], x.shape)
    return jax.tree.map(lambda a: a.astype(dtype), (x, WEIGHTS, initial, g))


def unrolled(act, x, u, initial):
    """The definition, step by step in Python."""
    state, states = jnp.broadcast_to(initial, x.shape[1:]), []
    for t in range(x.shape[0]):
        state = act(x[t] + u[None] * state)
        states.append(state)
    return jnp.stack(states)


@pytest.fixture(scope="module")
def expected():
    """States and their vector-Jacobian products in float64, by JAX's own derivative."""
    found = {}
    with jax.enable_x64(True):
        arrays = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), problem())
        for name, act in ACTIVATIONS.items():
            x, u, initial, g = arrays
            states, pull = jax.vjp(partial(unrolled, act), x, u, initial)
            found[name] = jax.tree.map(np.asarray, (states, *pull(g)))
    return found


def values_and_gradients(f, x, u, initial, g):
    states, pull = jax.vjp(f, x, u, initial)
    return states, *pull(g)


def assert_near(got, expected, units):
    """Within a number of units of rounding of the largest value; both may be of any dtype."""
    for a, b in zip(got, expected, strict=True):
        b = np.asarray(b, np.float64)
        scale = units * float(jnp.finfo(a.dtype).eps) * np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=scale)


def implemented(name, implementation):
    return partial(
        independent_recurrence, activation=name, leak=0.125, implementation=implementation
    )


@pytest.mark.parametrize(("implementation", "name"), IMPLEMENTATIONS)
def test_values_and_gradients_are_those_of_the_definition(implementation, name, expected):
    x, u, initial, g = problem()
    f = implemented(name, implementation)
    got = jax.jit(partial(values_and_gradients, f))(x, u, initial, g)
    # Float32 against float64: rounding grows by at most 1.25^13 = 18 in the last unit.
    assert_near(got, expected[name], 40)
    # At exact zeros the derivative is that of `jax.nn`, not nearly but the same.
    if name in ("relu", "leaky_relu"):
        np.testing.assert_array_equal(got[1][2, 0] == 0, expected[name][1][2, 0] == 0)
    assert np.isfinite(got[2]).all()


@pytest.mark.parametrize("implementation", ["scan", "parallel"])
def test_derivatives_at_a_zero_weight_and_at_ties_are_exact(implementation):
    # The state is 0 at every step of the first unit; 1, 2, 4 at those of the second.
    x = jnp.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    f = partial(independent_recurrence, implementation=implementation)
    for u, dx, du in (
        ([0.0, 0.0], [[0, 1], [0, 1], [0, 1]], [0, 0]),
        ([1.0, 2.0], [[0, 7], [0, 0], [0, 0]], [0, 5]),
    ):
        states, pull = jax.vjp(f, x, jnp.array(u))
        got = pull(jnp.ones_like(x))
        expected = jax.vjp(partial(unrolled, jax.nn.relu), x, jnp.array(u), jnp.zeros((1, 2)))
        del dx, du
        np.testing.assert_array_equal(got[0], expected)


def test_forward_mode_and_second_derivatives():
    x, u, initial, _ = problem()
    for implementation, name in (("scan", "tanh"), ("parallel", "relu")):
        f = implemented(name, implementation)
        plain = partial(unrolled, ACTIVATIONS[name])

        def derivatives(f):
            loss = lambda u: jnp.sum(f(x, u, initial) ** 2)  # noqa: E731
            change = jax.jvp(f, (x, u, initial), (x, u, initial))[1]
            return change, jax.hessian(loss)(u), jax.jacrev(jax.jacrev(loss))(u)

        assert_near(jax.jit(lambda: derivatives(f))(), jax.jit(lambda: derivatives(plain))(), 200)
