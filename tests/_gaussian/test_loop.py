"""Several results of an element-wise function in one loop of a CPU."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._gaussian.loop import in_one_loop

EDGES = [0.0, 1e-30, 1e-7, 1e-3, 0.3, 0.5, 0.9, 1.0, 1.5, 4.0, 7.9, 9.0, 80.0, 1e6, 3e38, math.inf]
X = jnp.array([*EDGES, *(-x for x in EDGES), math.nan, *np.linspace(-6, 6, 241)], jnp.float32)


def test_operations_that_are_written_out_keep_their_digits():
    """Also where functions are small, at infinity, and of what is no number."""

    def functions(x):
        up = jnp.abs(x)
        return {
            "tanh": jnp.tanh(x),
            "log1p": jnp.log1p(up),
            "log1p below 0": jnp.log1p(jnp.maximum(-up, -0.999)),
            "erfc": lax.erfc(x),
            "quotient": 2 / (3 + up),
        }

    loop = in_one_loop(functions, X)
    assert loop is not None
    found, expected = jax.jit(loop)(X), jax.jit(functions)(X)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=3e-6, atol=1e-37, err_msg=name)


def test_what_does_not_fit_is_no_loop():
    """Other operations, other dtypes, and loops of their own."""
    assert in_one_loop(jnp.sin, X) is None
    assert in_one_loop(lambda x: x.astype(jnp.bfloat16), X) is None
    assert in_one_loop(jnp.tanh, X.astype(jnp.bfloat16)) is None
    assert in_one_loop(lambda x: lax.fori_loop(0, 3, lambda _, y: y + 1, x), X) is None


def test_of_what_depends_on_the_device_it_takes_the_form_of_no_special_one():
    """That for CPUs may be made for its own way to hold intermediate results."""

    def function(x):
        return lax.platform_dependent(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    loop = in_one_loop(function, X)
    assert loop is not None
    np.testing.assert_array_equal(jax.jit(loop)(X), X + 2)
