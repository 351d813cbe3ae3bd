"""Stochastic normalisation: batch normalisation in law, and what procedures make of its noise."""

import functools
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, stats

import cgjax as cg
from cgjax.layers._stochastic_norm import noise_divergence
from tests.helpers import assert_identical

KEY = jax.random.key(71)
MEAN, VAR = np.array([0.5, -1.0], np.float32), np.array([2.0, 0.25], np.float32)
SCALE, BIAS = np.array([1.5, -0.5], np.float32), np.array([0.25, 1.0], np.float32)


def given(layer: Any) -> Any:
    """A layer with these statistics, scales and biases."""
    for name, value in (("mean", MEAN), ("var", VAR), ("scale", SCALE), ("bias", BIAS)):
        getattr(layer, name)[...] = value
    return layer


def norm(**options: Any) -> cg.layers.StochasticNorm:
    layer = cg.layers.StochasticNorm(2, use_running_average=True, **options)
    return given(layer)


def batch_norm(**options: Any) -> nnx.BatchNorm:
    layer = nnx.BatchNorm(2, rngs=nnx.Rngs(0), **options)
    return given(layer)


@pytest.mark.parametrize("learnt", [False, True])
def test_feed_forward_is_batch_normalisation_at_test_time(learnt):
    x = jax.random.normal(KEY, (3, 4, 4, 2))
    usual, layer = batch_norm(use_running_average=True), norm(learnt=learnt)
    assert_identical(layer(x), usual(x))
    # Compiled both: a product and a sum may be rounded once where they meet in one program.
    forward = jax.jit(cg.feed_forward(layer))
    assert_identical(forward(x), jax.jit(lambda x: usual(x))(x))
    half = layer(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


@functools.cache
def by_batches(count, number):
    """What nnx.BatchNorm makes of two inputs by the statistics of `number` Gaussian batches."""
    graph, state = nnx.split(batch_norm(momentum=0.0, epsilon=0.0))
    mean, deviation = jnp.asarray(MEAN)[None], jnp.sqrt(jnp.asarray(VAR))[None]
    inputs = mean + jnp.array([[0.7, 0.7], [-1.5, -1.5]]) * deviation

    def one(key):
        layer = nnx.merge(graph, state, copy=True)
        layer(mean + deviation * jax.random.normal(key, (count, 2)))
        return layer(inputs, use_running_average=True)

    return inputs, np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, number)), np.float64)


@pytest.mark.parametrize("count", [8, 32])
def test_samples_have_the_law_of_batch_normalisation(count):
    """Of an input that is not in the batch: both moments, and the whole distribution."""
    number = 20_000
    inputs, theirs = by_batches(count, number)
    layer = norm(batch=count, epsilon=0.0)
    x = jnp.broadcast_to(inputs, (number, *inputs.shape)).reshape(-1, 2)
    ours = cg.forward_sample(layer)(KEY, x)
    ours = np.asarray(ours, np.float64).reshape(theirs.shape)
    for k, j in np.ndindex(2, 2):
        a, b = ours[:, k, j], theirs[:, k, j]
        for power in (1, 2):
            p, q = a**power, b**power
            error = math.sqrt((p.var() + q.var()) / number)
            assert abs(p.mean() - q.mean()) < 5 * error
        result: Any = stats.ks_2samp(a, b)
        assert result.pvalue > 1e-6


def test_moments_are_those_of_the_law():
    """E[U] z and Var[U] (z^2 + 1/M) + E[U]^2/M, which samples have, too."""
    m, x = 8, jnp.array([[1.0, 2.0], [-3.0, 0.5]])
    layer = norm(batch=m, epsilon=0.0)
    belief = cg.moments(layer, nodes="random")(x)
    z = (np.asarray(x) - MEAN) / np.sqrt(VAR)
    first = math.sqrt(m / 2) * math.gamma((m - 2) / 2) / math.gamma((m - 1) / 2)
    spread = m / (m - 3) - first**2
    # float32's rounding.
    np.testing.assert_allclose(belief.mean, first * z * SCALE + BIAS, 2e-6, 2e-6)
    expected = (spread * (z**2 + 1 / m) + first**2 / m) * SCALE**2
    np.testing.assert_allclose(belief.variance, expected, 1e-5)
    collapsed = cg.moments(layer)(x)
    assert_identical(collapsed.mean, layer(x))
    assert (collapsed.variance == 0).all()

    estimate = cg.monte_carlo(cg.forward_sample(layer), 4000)(KEY, x)
    assert (abs(estimate.mean - belief.mean) < 5 * estimate.standard_error).all()


def test_an_uncertain_input():
    """z ~ N(m, v) of its own: E[U^2] (m^2 + v + 1/M) - E[U]^2 m^2."""
    m = 16
    layer = cg.layers.StochasticNorm(1, batch=m, epsilon=0.0, use_running_average=True)
    belief = cg.moments(layer, nodes="random")(cg.Belief(jnp.array([[2.0]]), jnp.array([[0.5]])))
    first = math.sqrt(m / 2) * math.gamma((m - 2) / 2) / math.gamma((m - 1) / 2)
    np.testing.assert_allclose(belief.mean, [[2 * first]], 1e-5)
    expected = m / (m - 3) * (4 + 0.5 + 1 / m) - 4 * first**2
    np.testing.assert_allclose(belief.variance, [[expected]], 1e-5)


def test_over_its_own_batch_the_variance_is_larger():
    """(M + 1)/(M - 3) where batch normalisation, whose batch an input is in itself, has 1."""
    m, number = 8, 50_000
    layer = cg.layers.StochasticNorm(1, batch=m, epsilon=0.0, use_running_average=True)
    x = jax.random.normal(jax.random.fold_in(KEY, 1), (number, 1))
    y = np.asarray(cg.forward_sample(layer)(KEY, x), np.float64)
    error = math.sqrt((y**2).var() / number)
    assert abs((y**2).mean() - (m + 1) / (m - 3)) < 5 * error


def test_positions_share_noise_and_examples_do_not():
    x = jnp.zeros((3, 4, 5, 2))
    _, nodes = cg.with_nodes(cg.forward_sample(norm()))(KEY, x)
    assert {k: v.shape for k, v in nodes.items()} == {
        "norm_shift": (3, 1, 1, 2),
        "norm_factor": (3, 1, 1, 2),
    }
    assert len(np.unique(nodes["norm_shift"])) == 6
    _, shared = cg.with_nodes(cg.forward_sample(norm(per="batch", name="bn")))(KEY, x)
    assert {v.shape for v in shared.values()} == {(1, 1, 1, 2)} and "bn_shift" in shared
    # A mapped example is an example.
    for per, rows in (("example", 3), ("batch", 1)):
        layer = norm(per=per)
        mapped = cg.forward_sample(lambda x, layer=layer: jax.vmap(layer)(x))(KEY, x[:, 0, 0])
        assert len(np.unique(np.asarray(mapped), axis=0)) == rows
    _, flat = cg.with_nodes(cg.forward_sample(norm()))(KEY, jnp.zeros(2))
    assert flat["norm_shift"].shape == (2,)


def test_pcff_samples_noise_at_any_rate():
    """Training with the noise of batches while nodes stay collapsed."""
    x = jax.random.normal(KEY, (3, 2))
    assert abs(cg.pcff(norm(), 0.0)(KEY, x) - norm()(x)).max() > 1e-2


def test_running_statistics():
    """Averages of means and of variances of divisor n - 1; a call uses what was there before."""
    layer = norm(momentum=0.75)
    layer.train()
    f, params, state = cg.functional(layer)
    x = jax.random.normal(KEY, (3, 4, 2))
    y, new = f(params, state, x)
    assert_identical(y, norm()(x))
    flat = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(new["mean"][...], 0.75 * MEAN + 0.25 * flat.mean(0), 1e-5)
    np.testing.assert_allclose(new["var"][...], 0.75 * VAR + 0.25 * flat.var(0, ddof=1), 1e-5)
    slope = jax.grad(lambda x: f(params, state, x)[0].sum())(x)
    expected = np.broadcast_to(SCALE / np.sqrt(VAR + 1e-5), x.shape)
    np.testing.assert_allclose(slope, expected, 1e-5)


def test_learnt_noise_begins_close_to_the_law_and_has_a_divergence_from_it():
    m = 32
    layer = norm(batch=m, learnt=True)
    x = jnp.array([[1.0, 2.0]])
    start = cg.moments(layer, nodes="random")(x)
    law = cg.moments(norm(batch=m), nodes="random")(x)
    # They differ by terms of order 1/M^2 beside the variance's 1/M.
    np.testing.assert_allclose(start.variance, law.variance, 0.2)
    assert norm().divergence() == 0

    def by_quadrature(tau, sigma, m):
        def of_factor(z):
            u = math.exp(sigma * z)
            own = stats.norm.logpdf(z) - math.log(sigma) - math.log(u)
            prior = stats.chi.logpdf(math.sqrt(m) / u, m - 1) + 0.5 * math.log(m) - 2 * math.log(u)
            return stats.norm.pdf(z) * (own - prior)

        shift = (m * tau**2 - 1 - math.log(m * tau**2)) / 2
        return shift + integrate.quad(of_factor, -10, 10)[0]

    for tau, sigma, m in ((0.2, 0.1, 32), (0.5, 0.3, 8), (0.1, 0.05, 128)):
        got = noise_divergence(jnp.log(jnp.array([tau])), jnp.log(jnp.array([sigma])), m)
        np.testing.assert_allclose(got, by_quadrature(tau, sigma, m), 1e-4, 1e-4)
    begin = layer.divergence()
    assert 0 < begin < 0.1
    assert layer.divergence(4) > begin
    f, params, state = cg.functional(layer)
    slope = jax.grad(lambda p: f(p, state, x)[0].sum() + noise_divergence(
        p["log_tau"][...], p["log_sigma"][...], 8))(params)  # fmt: skip
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(slope))


def test_gradients_reach_the_noise():
    layer = norm(learnt=True)
    f, params, state = cg.functional(layer)
    x = jnp.array([[1.0, 2.0], [0.0, 1.0]])
    slope = jax.grad(lambda p: (cg.forward_sample(f)(KEY, p, state, x)[0] ** 2).sum())(params)
    assert all((g != 0).all() and jnp.isfinite(g).all() for g in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": 3}, ValueError, "batch is above 3 and finite, .*got 3"),
        ({"batch": "many"}, TypeError, "batch is one number, got"),
        ({"per": "image"}, ValueError, "per is 'example' or 'batch', got 'image'"),
        ({"momentum": 1.5}, ValueError, r"momentum is in \[0, 1\], got 1.5"),
        ({"features": 0}, ValueError, "features is at least 1, got 0"),
        ({"name": "a/b"}, ValueError, "free of the characters"),
    ],
)
def test_errors(options, error, message):
    # Without the checks of annotations that the tests add.
    unchecked = inspect.unwrap(cg.layers.StochasticNorm.__init__)
    with pytest.raises(error, match=message):
        unchecked(norm(), **{"features": 2} | options)


def test_errors_of_inputs():
    with pytest.raises(ValueError, match=r"has 2 features, got an input of shape \(3, 4\)"):
        norm()(jnp.ones((3, 4)))
    call = inspect.unwrap(cg.layers.StochasticNorm.__call__)
    with pytest.raises(TypeError, match=r"floating-point arrays, got int32\(3, 2\)"):
        call(norm(), jnp.ones((3, 2), jnp.int32))
