"""Linear maps of one variable: copies, moves back and forth, products with itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg

BELIEF = cg.Belief(jnp.array([0.1, 0.5, -0.3]), jnp.array([1.0, 0.5, 0.2]))
# Each writes what the second one does.
EQUAL = {
    "broadcast": (lambda x: jnp.broadcast_to(x, (2, 3)).sum(0), lambda x: 2 * x),
    "tile": (lambda x: jnp.tile(x, (2, 1)).sum(0), lambda x: 2 * x),
    "stack": (lambda x: jnp.stack([x, x]).mean(0), lambda x: x),
    "concatenate": (lambda x: jnp.concatenate([x, x]).sum(), lambda x: 2 * x.sum()),
    "repeat": (lambda x: jnp.repeat(x, 2).sum(), lambda x: 2 * x.sum()),
    "gather": (lambda x: x[jnp.array([0, 0, 1])].sum(), lambda x: 2 * x[0] + x[1]),
    "product": (lambda x: (jnp.ones((2, 3)) @ x).sum(), lambda x: 2 * x.sum()),
    "mapped": (lambda x: jax.vmap(lambda _: x)(jnp.arange(2)).sum(0), lambda x: 2 * x),
    "curve": (
        lambda x: jnp.tanh(jnp.broadcast_to(x, (2, 3))).sum(0),
        lambda x: 2 * jnp.tanh(x),
    ),
    "after": (lambda x: jnp.tile(x, (2, 1)).sum(0) ** 2, lambda x: (2 * x) ** 2),
    "twice": (
        lambda x: (y := jnp.tile(x, (2, 1)).sum(0)) * jnp.tanh(y),
        lambda x: 2 * x * jnp.tanh(2 * x),
    ),
    "softmax": (
        lambda x: jnp.tile(jax.nn.softmax(x), (2, 1)).sum(0),
        lambda x: 2 * jax.nn.softmax(x),
    ),
    "largest": (lambda x: jnp.stack([x, x]).max((0, 1)), lambda x: x.max()),
    "smallest": (lambda x: jnp.stack([x, x]).min(0), lambda x: x),
    "outer": (lambda x: jnp.trace(jnp.outer(x, x)), lambda x: x @ x),
    "crossed": (lambda x: jnp.trace(x[:, None] * x[None, :]), lambda x: x @ x),
    "diagonal": (lambda x: jnp.diag(jnp.outer(x, x)), lambda x: x**2),
    "reversed": (lambda x: x - x[::-1][::-1], lambda x: x - x),
    "rolled": (lambda x: x - jnp.roll(jnp.roll(x, 1), -1), lambda x: x - x),
    "parts": (lambda x: jnp.concatenate([x[:1], x[1:]]) - x, lambda x: x - x),
    "written": (lambda x: jnp.zeros(3).at[:].set(x) - x, lambda x: x - x),
    "curves": (lambda x: jnp.exp(x[::-1]) - jnp.exp(x)[::-1], lambda x: x - x),
    "running": (lambda x: jnp.diff(jnp.cumsum(x)), lambda x: x[1:]),
}


@pytest.fixture(scope="module")
def moments():
    def both(x):
        return {
            name: tuple(map(lambda f: tuple(cg.moments(f)(x)), fs)) for name, fs in EQUAL.items()
        }

    return jax.jit(both)(BELIEF)


@pytest.mark.parametrize("name", EQUAL)
def test_equal_functions_have_equal_moments(moments, name):
    found, expected = moments[name]
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-5, atol=2e-6)


def test_copies_of_copies_keep_the_first_order_variance():
    def f(x):
        return jnp.tile(jnp.stack([x, x]), (2, 1)).sum(0)

    mean, variance = cg.moments(f, order=1)(BELIEF)
    np.testing.assert_allclose(mean, 4 * BELIEF.mean, rtol=1e-6)
    np.testing.assert_allclose(variance, 16 * BELIEF.variance, rtol=1e-6)
