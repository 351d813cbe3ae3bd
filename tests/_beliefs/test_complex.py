"""Functions of complex values: of one value jointly, quotients of two, against samples."""

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from cgjax import Belief

X = Belief(1.5 + jax.random.normal(jax.random.key(0), (3, 4)), jnp.full((3, 4), 0.05))
W = 0.3 * jax.random.normal(jax.random.key(1), (4, 4))
NUMBERS = 1 + 2j * jnp.linspace(1.0, 2.0, 4)[None]


def functions(x):
    z, w = x @ (W + 1j * W.T) + 3, x @ (W.T + 1j * jnp.eye(4)) + 4
    step = (1 + 0.05 * z) / (1 - 0.05 * z)
    return {
        "of one": {
            "divided": NUMBERS / z,
            "reciprocal": jnp.reciprocal(z),
            "a power": z**3,
            "held for a while": (jnp.exp(0.1 * z) - 1) / z * NUMBERS,  # as in state-space layers
            "bilinear": step,
            "on the circle": z / jnp.abs(z),
            "sign": jnp.sign(z),
            "logarithm": jnp.log(z),
            "root": jnp.sqrt(z),
            "tanh": jnp.tanh(z),
            "moved": (1 / z).T,
            "real part": jnp.real(jnp.exp(z) / z),
        },
        "of two": {"quotient": z / w, "of a real one": x / w, "by a real one": z / (x + 5)},
    }


def test_functions_of_complex_values():
    # Twenty thousand samples: variances to 1 %, five of their standard errors to 5 %.
    draws = X.mean[None] + 0.05**0.5 * jax.random.normal(jax.random.key(2), (20_000, 3, 4))
    samples = jax.jit(jax.vmap(functions))(draws)
    found = jax.jit(cg.moments(functions))(X)
    for kind in samples:
        for name, values in samples[kind].items():
            values = np.asarray(values, np.complex128)
            variance = (np.abs(values - values.mean(0)) ** 2).mean(0)
            off = np.abs(found[kind][name].mean - values.mean(0)) / np.sqrt(variance)
            ratio = found[kind][name].variance.sum() / variance.sum()
            # Of the mean the standard error is 0.007 deviations: five of them.
            assert off.max() < 0.036, (name, off.max())
            assert abs(ratio - 1) < 0.05, (name, ratio)


def test_a_value_divided_by_itself_is_known():
    found = cg.moments(lambda x: (x @ (W + 1j * W.T)) / (x @ (W + 1j * W.T)))(X)
    np.testing.assert_allclose(found.mean, 1, rtol=1e-5)
    np.testing.assert_allclose(found.variance, 0, atol=1e-6)  # rounding of what cancels


def test_to_first_order():
    found = cg.moments(lambda x: NUMBERS / (x @ (W + 1j * jnp.eye(4)) + 2), order=1)(X)
    z = X.mean @ (W + 1j * jnp.eye(4)) + 2
    size = 0.05 * (1 + (W**2).sum(0))[None]  # E[|z - E[z]|^2]
    np.testing.assert_allclose(found.mean, NUMBERS / z, rtol=1e-5)
    np.testing.assert_allclose(found.variance, jnp.abs(NUMBERS / z**2) ** 2 * size, rtol=1e-4)
