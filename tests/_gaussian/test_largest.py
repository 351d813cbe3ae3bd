"""The largest of several Gaussians, against samples; its derivatives, against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cgjax._gaussian.largest import largest_along

CASES = 24


def case(number: int, correlation: float | None) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Means of spread 0, 0.7 and 2, and variances, the smallest of which are near 0."""
    generator = np.random.default_rng(number)
    variance = generator.gamma(1.0, size=(number, CASES))
    mean = generator.normal(size=(number, CASES)) * np.tile([0, 0.7, 2], CASES // 3)
    mean, variance = (jnp.asarray(a, jnp.float32) for a in (mean, variance))
    return (
        mean,
        variance,
        None if correlation is None else jnp.full(CASES, correlation, jnp.float32),
    )


@pytest.mark.parametrize(("number", "correlation"), [(4, None), (9, None), (9, 0.4)])
def test_against_samples(number, correlation):
    mean, variance, common = case(number, correlation)

    def sums(total, key):
        one, other = jax.random.split(key)
        z = jax.random.normal(one, (1000, number, CASES))
        if common is not None:
            shared = jax.random.normal(other, (1000, 1, CASES))
            z = (1 - correlation) ** 0.5 * z + correlation**0.5 * shared
        x = (mean[None] + jnp.sqrt(variance)[None] * z).max(1)
        return jax.tree.map(jnp.add, total, (x.mean(0) / 100, (x**2).mean(0) / 100)), None

    @jax.jit
    def both(keys):
        zero = jnp.zeros(CASES)
        (first, second), _ = lax.scan(sums, (zero, zero), keys)
        return largest_along(mean, variance, common), first, second - first**2

    got, sampled_mean, sampled = both(jax.random.split(jax.random.key(0), 100))
    # The standard errors of 100,000 samples are 0.003 deviations, and 0.5 % of the variance.
    error = (got.mean - sampled_mean) / np.sqrt(sampled)
    np.testing.assert_allclose(error, 0, atol=0.03)
    np.testing.assert_allclose(got.variance / sampled, 1, atol=0.05)


def test_derivatives():
    """What third cumulants add counts as constant: slopes are near those of differences."""
    number = 9
    with jax.enable_x64(True):
        mean, variance = (jnp.asarray(a, float) for a in case(number, None)[:2])
        directions = np.random.default_rng(0).normal(size=(2, 2, number, CASES))

        def at(t, dmean, dvariance):
            found = largest_along(mean + t * dmean, variance * jnp.exp(t * dvariance))
            return jnp.stack([found.mean, found.variance])

        @jax.jit
        def both(dmean, dvariance):
            step = 1e-4
            _, slopes = jax.jvp(lambda t: at(t, dmean, dvariance), (0.0,), (1.0,))
            return slopes, (at(step, dmean, dvariance) - at(-step, dmean, dvariance)) / (2 * step)

        slopes, wanted = (np.stack(a) for a in zip(*map(both, *directions), strict=True))
    for mine, right in zip(np.moveaxis(slopes, 1, 0), np.moveaxis(wanted, 1, 0), strict=True):
        cosine = (mine * right).sum() / np.sqrt((mine**2).sum() * (right**2).sum())
        assert cosine > 0.99


@pytest.mark.parametrize(("number", "correlation"), [(5, 1.0), (18, None)])
def test_extremes_are_finite(number, correlation):
    """Of variances from 0 to 1e8, and where all are one variable."""
    mean, variance, common = case(number, correlation)
    scale = 10.0 ** jnp.linspace(-8, 8, CASES)[None]
    known = jnp.arange(number)[:, None] % 3 == 0

    def total(mean, variance):
        found = largest_along(mean, variance, common)
        return sum(x.sum() for x in found), found

    arguments = scale**0.5 * mean, jnp.where(known, 0, scale * variance)
    slopes, found = jax.jit(jax.grad(total, (0, 1), has_aux=True))(*arguments)
    assert all(bool(jnp.isfinite(x).all()) for x in (*found, *slopes))
    assert bool((found.variance >= 0).all())
    assert bool((found.variance <= 1.01 * arguments[1].max(0)).all())
    assert bool((found.mean >= arguments[0].max(0) - 1e-3 * scale[0] ** 0.5).all())


def test_one_is_far_larger_or_nothing_is_uncertain():
    far = largest_along(jnp.array([0.0, 50, 1]), jnp.array([1.0, 2, 3]))
    np.testing.assert_allclose(far[:2], [50, 2], rtol=1e-6)
    certain = largest_along(jnp.array([0.0, 2, 2]), jnp.zeros(3))
    np.testing.assert_allclose(certain[:2], [2, 0], atol=1e-6)
