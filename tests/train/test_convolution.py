"""The convolution of the residual networks, against JAX's derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train.models.convolution import convolved


def plain(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    padding = ((1, 1), (1, 1))
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (1, 5, 8, 2)])
def test_values_and_derivatives_are_those_of_jax(shape, stride):
    keys = jax.random.split(jax.random.key(stride), 3)
    x = jax.random.normal(keys[0], shape)
    kernel = jax.random.normal(keys[1], (3, 3, shape[-1], 4))
    weights = jax.random.normal(keys[2], plain(x, kernel, stride).shape)

    def loss(f, x, kernel):
        return (weights * jnp.sin(f(x, kernel, stride))).sum()

    for f in (convolved, jax.jit(convolved, static_argnums=2)):
        np.testing.assert_array_equal(f(x, kernel, stride), plain(x, kernel, stride))
    got = jax.jit(jax.grad(lambda *a: loss(convolved, *a), (0, 1)))(x, kernel)
    expected = jax.jit(jax.grad(lambda *a: loss(plain, *a), (0, 1)))(x, kernel)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32, other orders of sums


def test_rows_may_be_mapped():
    """As runs of a sweep are."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, [(3, 2, 4, 4, 2), (3, 3, 3, 2, 5)], strict=True)
    )

    def gradient(f):
        return jax.vmap(jax.grad(lambda x, k: (f(x, k, 1) ** 2).sum(), (0, 1)))(x, kernel)

    for a, b in zip(gradient(convolved), gradient(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # as above


def test_convolutions_in_loops_are_in_the_order_that_is_fast_there():
    x, kernel = jnp.ones((4, 8, 8, 2)), jnp.ones((3, 3, 2, 2))

    def step(kernel, _):
        return kernel - jax.grad(lambda k: (convolved(x, k, 2) ** 2).sum())(kernel), None

    text = jax.jit(lambda k: lax.scan(step, k, length=3)[0]).lower(kernel).compile().as_text()
    assert text is not None
    labels = [
        line.split("dim_labels=")[1].split(",")[0]
        for line in text.splitlines()
        if " convolution(" in line
    ]
    assert labels and set(labels) == {"b01f_01io->b01f"}
