"""Products of an affine function and a function of sums, by the derivatives of their factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._beliefs import groups

X = jax.random.normal(jax.random.key(0), (3, 12)) + jnp.arange(12)[None] / 4
G = jax.random.uniform(jax.random.key(1), (1, 12), minval=0.5, maxval=2.0)


def mean(x, axis=-1):
    return x.mean(axis, keepdims=True)


def two_passes(x):
    return (x - mean(x)) * lax.rsqrt(mean(jnp.square(x - mean(x))) + 1e-3) * G.astype(x.dtype) + 1


def one_pass(x):
    scale = G.astype(x.dtype) * lax.rsqrt(mean(x**2) - mean(x) ** 2 + 1e-3)
    return G.astype(x.dtype) - (mean(x) - x) * scale


def divided(x):
    return (x - mean(x)) / (0.1 + jnp.std(x, -1, keepdims=True))


def root_mean_square(x):
    return -(3 * x * lax.rsqrt(mean(x * x) + 1e-3))


def in_groups(x):
    grouped = x.reshape(3, 3, 4)
    centred = grouped - mean(grouped)
    return (centred / jnp.sqrt(mean(centred**2) + 1e-2)).reshape(3, 12) * G


def over_examples(x):
    return (x - mean(x, 0)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-2) * G


NORMALISATIONS = [
    two_passes,
    one_pass,
    divided,
    root_mean_square,
    in_groups,
    over_examples,
]


def values_and_gradients(f, at):
    def both(x):
        out = cg.moments(f)(cg.Belief(x, 0.05 + 0.1 * x**2))
        return jnp.stack([out.mean, out.variance])

    weights = jax.random.normal(jax.random.key(2), (2, *at.shape))
    return both(at), jax.grad(lambda x: jnp.vdot(weights, both(x)))(at)


@pytest.mark.parametrize("f", NORMALISATIONS, ids=lambda f: f.__name__)
def test_factors_have_the_derivatives_of_the_product(f, monkeypatch):
    """The same moments and gradients as where the product is differentiated as it is written."""
    found = []

    def noted(*arguments):
        found.append(groups_scaled(*arguments))
        return found[-1]

    groups_scaled = groups.scaled
    monkeypatch.setattr(groups, "scaled", noted)
    by_factors = values_and_gradients(f, X)
    assert any(found)  # else both are the same code
    monkeypatch.setattr(groups, "scaled", lambda eqn, operands: None)
    as_written = values_and_gradients(f, X)
    for one, other in zip(by_factors, as_written, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize(
    "square", [jnp.square, lambda x: x**2, lambda x: x * x, lambda x: lax.integer_pow(x, 2)]
)
def test_squares_of_what_is_affine_are_exact(square):
    """x - mean(x) of independent Gaussians is Gaussian: of its square all is known."""
    variance = jnp.broadcast_to(0.2 + G, X.shape)
    found = cg.moments(lambda x: square(x - mean(x)))(cg.Belief(X, variance))
    centre = X - mean(X)
    spread = variance * (1 - 2 / 12) + mean(variance) / 12
    np.testing.assert_allclose(found.mean, centre**2 + spread, rtol=1e-5)
    np.testing.assert_allclose(found.variance, 2 * spread**2 + 4 * centre**2 * spread, rtol=1e-5)


def test_first_order_squares_stay_first_order():
    found = cg.moments(lambda x: jnp.square(x - mean(x)), order=1)(
        cg.Belief(X, jnp.broadcast_to(G, X.shape))
    )
    np.testing.assert_allclose(found.mean, (X - mean(X)) ** 2, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("f", [two_passes, one_pass, divided], ids=lambda f: f.__name__)
def test_normalisations_in_half_precision(f, dtype):
    """Moments are those of the function, not of its rounding: as in single precision."""
    x, variance = X.astype(dtype), (0.05 + 0.1 * X**2).astype(dtype)
    scale = G.astype(dtype)

    def scaled(x, scale):
        return f(x) * scale

    found = cg.moments(scaled)(cg.Belief(x, variance), scale)
    wide = [a.astype(jnp.float32) for a in (x, variance, scale)]
    expected = cg.moments(scaled)(cg.Belief(wide[0], wide[1]), wide[2])
    assert found.mean.dtype == found.variance.dtype == dtype
    # What is rounded is the result, and constants of the function: a part in 2**8, or 2**11.
    for one, other in zip(found, expected, strict=True):
        size = float(jnp.abs(other).max())
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=0.02, atol=0.01 * size)
