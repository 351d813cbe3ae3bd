"""Moments of curves by quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._gaussian import curve
from cgjax._gaussian.curve import curve_moments

FUNCTIONS = {"softplus": jax.nn.softplus, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
FAR = np.array([1e20, 3e38, np.inf, -1e20, -3e38, -np.inf], np.float32)
LIMITS = {
    "softplus": np.array([1e20, 3e38, np.inf, 0, 0, 0], np.float32),
    "tanh": np.sign(FAR),
    "sigmoid": np.array([1, 1, 1, 0, 0, 0], np.float32),
}
RISES = {"softplus": np.array([1, 1, 1, 0, 0, 0]), "tanh": np.zeros(6), "sigmoid": np.zeros(6)}


def test_means_far_out_have_the_function_and_its_slope_there():
    @jax.jit
    def all_of(mean, variance):
        return {name: cg.moments(f)(cg.Belief(mean, variance)) for name, f in FUNCTIONS.items()}

    mean, variance = jnp.tile(jnp.asarray(FAR), 2), jnp.repeat(jnp.array([0.0, 2.0]), 6)
    for name, belief in all_of(mean, variance).items():
        np.testing.assert_allclose(belief.mean, np.tile(LIMITS[name], 2), rtol=1e-6)
        expected = np.repeat([0.0, 2.0], 6) * np.tile(RISES[name], 2)
        np.testing.assert_allclose(belief.variance, expected, rtol=1e-4)


def test_derivatives_are_those_of_the_moments():
    def moments(mean, variance, kinks):
        return curve_moments(lambda x: jnp.maximum(x, 0) + x**2 / 4, mean, variance, kinks)

    mean, variance = jnp.float32(0.3), jnp.float32(1.7)

    @jax.jit
    def both(mean, variance):
        def f(m, v):
            return jnp.stack(moments(m, v, [jnp.zeros(())]))

        step = 1e-2
        by_mean = (f(mean + step, variance) - f(mean - step, variance)) / (2 * step)
        by_variance = (f(mean, variance + step) - f(mean, variance - step)) / (2 * step)
        return jax.jacfwd(f, (0, 1))(mean, variance), (by_mean, by_variance)

    found, expected = both(mean, variance)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-3)


def test_many_elements_have_the_moments_and_derivatives_of_few():
    """In one loop and block by block, of a number that no block divides; with a kink, and arrays
    that the function closes over."""
    size = 2 * 8192 + 7
    mean = jnp.tile(jnp.array([-2.0, -0.4, 0.0, 0.3, 2.5]), size // 5 + 1)[:size]
    variance = jnp.tile(jnp.array([0.7, 0.2, 1e-8, 1.5]), size // 4 + 1)[:size]
    scale = jnp.linspace(0.5, 1.5, size)

    def of_all(mean, variance, scale):
        functions = [jax.nn.elu, lambda x: jnp.tanh(scale * x)]
        return [tuple(cg.moments(f)(cg.Belief(mean, variance))) for f in functions]

    @jax.jit
    def both(*arrays):
        one = jnp.ones_like(arrays[0])
        _, pull = jax.vjp(of_all, *arrays)
        return of_all(*arrays), pull([(one, 2 * one)] * 2)

    arrays = mean, variance, scale
    ends = np.r_[:20, size - 20 : size]
    for many, few in zip(
        jax.tree.leaves(both(*arrays)),
        jax.tree.leaves(both(*(a[ends] for a in arrays))),
        strict=True,
    ):
        np.testing.assert_allclose(many[ends], few, rtol=2e-5, atol=2e-5)


def test_a_function_of_booleans_is_differentiated_after_its_trace_has_ended():
    """Where it closes over arrays of the traced function that are no numbers."""

    @jax.jit
    def mean(m, up, scale):
        bent = cg.moments(lambda x: jnp.where(up, scale, -1.0) * jax.nn.softplus(x))
        return bent(cg.Belief(m, jnp.ones(3))).mean.sum()

    up, at = jnp.array([True, False, True]), jnp.zeros(3)
    slope, by_scale = jax.grad(mean, (0, 2))(at, up, jnp.float32(2.0))
    np.testing.assert_allclose(slope, [1.0, -0.5, 1.0], rtol=1e-4)  # E[sigmoid] = 1/2
    step = (mean(at, up, jnp.float32(2.5)) - mean(at, up, jnp.float32(1.5))) / 1.0
    np.testing.assert_allclose(by_scale, step, rtol=1e-4)

    @jax.jit
    def chosen(m, up):
        return cg.moments(lambda x: jax.nn.softplus(jnp.where(up, x, -x)))(
            cg.Belief(m, jnp.ones(3))
        ).mean.sum()

    np.testing.assert_allclose(jax.grad(chosen)(at, up), [0.5, -0.5, 0.5], rtol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "default"])
@pytest.mark.parametrize("powers", [1, 3])
def test_sums_of_many_elements_are_those_of_few(powers, device, monkeypatch):
    """The accuracy of few elements, which other tests hold, is that of the forms for many."""
    mean, deviation = jnp.array([-3.0, 0.0, 0.4, 50.0]), jnp.array([0.1, 1.0, 3.0, 7.0])

    def sums(f, mean, deviation):
        return curve._smooth_sums(f, powers, f(mean), mean, deviation)

    def chosen(*operands, **branches):
        return branches[device](*operands)

    for f in FUNCTIONS.values():
        few = jax.jvp(lambda *a, f=f: sums(f, *a), (mean, deviation), (mean, deviation))
        with monkeypatch.context() as patched:
            patched.setattr(curve, "_FEW", 0)
            patched.setattr(lax, "platform_dependent", chosen)
            many = jax.jvp(lambda *a, f=f: sums(f, *a), (mean, deviation), (mean, deviation))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), few, many)


def test_equal_layers_share_the_function_that_is_compiled():
    """A deeper network has no more loops to compile."""

    def loss(depth, mean):
        belief = cg.Belief(mean, 1 + mean**2)
        for _ in range(depth):
            belief = cg.moments(jnp.tanh)(belief)
        return belief.mean.sum()

    def size(depth):
        mean = jax.ShapeDtypeStruct((1 << 14,), jnp.float32)
        return len(jax.jit(jax.grad(partial(loss, depth))).lower(mean).as_text())

    assert size(4) < 1.2 * size(2)
