"""Several results of an element-wise function in one loop of a CPU."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cgjax._gaussian.blocks import together
from cgjax._gaussian.curve import Integral
from cgjax._gaussian.device import by_device
from cgjax._gaussian.loop import in_one_loop
from cgjax._gaussian.written import of_numbers
from tests.helpers import as_users

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
        return by_device(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    loop = in_one_loop(function, X)
    assert loop is not None
    np.testing.assert_array_equal(jax.jit(loop)(X), X + 2)
    np.testing.assert_array_equal(jax.jit(function)(X), X + 1)


RULES = {name: getattr(jax.nn, name) for name in ("tanh", "silu", "gelu")}


@pytest.mark.parametrize("name", RULES)
def test_it_is_one_loop_without_intermediate_arrays(name):
    """XLA promises neither: what it writes to memory costs several times as much."""
    x = jax.ShapeDtypeStruct((1 << 16,), jnp.float32)
    written = of_numbers(RULES[name], x.dtype)
    assert written is not None
    program = as_users(lambda *arrays: together(Integral(written).partials, *arrays))
    compiled = program.lower(x, x).compile()
    main = compiled.as_text().split("\nENTRY ")[1]
    kernels = re.findall(r" (fusion|call|while|reduce|convolution|custom-call)\(", main)
    assert kernels == ["fusion"]
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 1024 < memory.output_size_in_bytes
