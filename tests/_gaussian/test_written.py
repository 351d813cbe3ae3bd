"""Functions are equal where they are written alike, and are traced once for all that are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax._gaussian import curve
from cgjax._gaussian.written import Written, of_numbers, opened

FLOAT = jnp.float32


def of(function, *dtypes) -> Written:
    found = of_numbers(function, *(dtypes or (FLOAT,)))
    assert found is not None
    return found


def scaled(number):
    return lambda x: jnp.tanh(number * x)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (scaled(2.0), scaled(2.0), True),
        (scaled(2.0), scaled(3.0), False),
        (scaled(0.0), scaled(-0.0), False),
        (scaled(jnp.nan), scaled(jnp.nan), True),
        (lambda x: x * jnp.tanh(x), lambda x: jnp.tanh(x) * x, False),  # as they are written
        (lambda x: x**2, lambda x: x**3, False),
        (jax.jit(jnp.sin), jax.jit(lambda x: jnp.sin(x)), False),  # their names differ
        (jax.nn.gelu, lambda x: jax.nn.gelu(x), True),
        (lambda x: (jnp.sin(x), jnp.cos(x)), lambda x: (jnp.cos(x), jnp.sin(x)), False),
        (lambda x: [jnp.sin(x)], lambda x: jnp.sin(x), False),
    ],
)
def test_functions_are_equal_where_they_are_written_alike(one, other, equal):
    a, b = of(one), of(other)
    assert (a == b) is equal
    if equal:
        assert hash(a) == hash(b)


def test_a_function_of_other_dtypes_is_another_one():
    assert of(jnp.tanh) != of(jnp.tanh, jnp.bfloat16)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 1, 3)])
def test_a_function_of_numbers_is_one_of_arrays(shape):
    x = jnp.linspace(-2, 2, int(np.prod(shape))).reshape(shape).astype(FLOAT)
    for f in (jax.nn.gelu, jax.nn.elu, lambda x: jnp.where(x > 1, jnp.ones_like(x), -x)):
        np.testing.assert_array_equal(of(f)(x), f(x))
    both = of(lambda x, y: [x * y, jnp.ones(())], FLOAT, FLOAT)
    product, ones = both(x, jnp.float32(2))
    assert product.shape == ones.shape == shape
    np.testing.assert_array_equal(product, 2 * x)


def test_arrays_that_a_function_closes_over_are_arguments():
    x, w = jnp.arange(3.0), jnp.array([1.0, -1.0, 2.0])
    v = w + 1
    found = opened(lambda x: jnp.tanh(w * x), x)
    again = opened(lambda x: jnp.tanh(v * x), x)
    assert found is not None and again is not None
    (function, arrays), (other, others) = found, again
    np.testing.assert_array_equal(arrays[0], w)
    np.testing.assert_array_equal(others[0], v)
    assert function == other
    np.testing.assert_allclose(function(x, w), jnp.tanh(w * x), rtol=1e-6)
    assert of_numbers(lambda x: jnp.sum(w) * x, FLOAT) is None


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.gelu, jax.nn.elu])
def test_layers_of_one_shape_share_what_is_traced(activation, monkeypatch):
    """Forward and backward; and layers of other numbers do not."""
    calls = []
    traced = curve._partials

    def counted(*args):
        calls.append(args)
        return traced(*args)

    monkeypatch.setattr(curve, "_partials", counted)
    jax.clear_caches()

    def total(x, scales):
        for scale in scales:
            belief = cg.moments(lambda x, scale=scale: activation(scale * x))(x)
            x = cg.Belief(belief.mean, belief.variance)
        return x.mean.sum() + x.variance.sum()

    x = cg.Belief(jnp.zeros(5), jnp.ones(5))
    jax.make_jaxpr(jax.grad(total), static_argnums=1)(x, (1.5,))
    once = len(calls)
    assert once > 0
    jax.make_jaxpr(jax.grad(total), static_argnums=1)(x, (1.5,) * 4)
    assert len(calls) == once
    jax.make_jaxpr(jax.grad(total), static_argnums=1)(x, (1.25, 1.5))
    assert len(calls) == 2 * once
