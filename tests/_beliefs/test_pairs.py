"""Averages over pairs of positions, and what values keep of what was computed of them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax._beliefs.curves.curve import as_curve, composed
from cgjax._beliefs.curves.several import _multiplied
from cgjax._beliefs.movement import spread
from cgjax._beliefs.pairs import neighbour_average, over_pairs
from cgjax._beliefs.values import Gaussian, sharing

AXES = {"one": (1,), "two": (1, 2), "of size 1 too": (0, 2)}


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def pair_by_pair(loading: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The averages over all pairs, and over neighbours: the mean of those along each axis."""
    order = [*axes, *(k for k in range(loading.ndim) if k not in axes)]
    x = loading.transpose(order).reshape(-1, *(loading.shape[k] for k in order[len(axes) :]))
    anywhere = np.mean([x[p] * x[q] for p in range(len(x)) for q in range(len(x)) if p != q], 0)
    near = []
    for axis in axes:
        ahead = np.moveaxis(loading, axis, 0)
        if len(ahead) > 1:
            products = np.moveaxis(ahead[1:] * ahead[:-1], 0, axis)
            near.append(products.mean(axes))
    return anywhere, np.mean(near, 0)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_averages_are_those_of_all_pairs_and_of_neighbours(axes: tuple[int, ...]) -> None:
    loading = drawn(1, 4, 5, 3)
    expected = np.stack(pair_by_pair(loading, axes))
    found = over_pairs(jnp.asarray(loading, jnp.float32), axes)
    kept = tuple(1 if k in axes else n for k, n in enumerate(loading.shape))
    assert found.shape == (2, *kept)
    # A few roundings of sums of at most 20 numbers near 1.
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_neighbours_of_a_stride() -> None:
    loading = drawn(2, 7, 3)
    expected = (loading[:, 2:] * loading[:, :-2]).mean(1, keepdims=True)
    found = neighbour_average(jnp.asarray(loading, jnp.float32), 1, (1,), 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # rounding of five terms


def test_sums_of_many_positions_in_half_precision() -> None:
    # Their sum, 3e6, is no number of float16, and their squares' digits would be lost.
    found = over_pairs(jnp.full((1, 30_000, 1), 100, jnp.float16), (1,))
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found, np.full((2, 1, 1, 1), 1e4))


def test_one_position_has_no_pairs() -> None:
    np.testing.assert_array_equal(over_pairs(jnp.ones((3, 1)), (1,)), np.zeros((2, 3, 1)))


def example(gain: float) -> Gaussian:
    """Four positions with a covariance of 0.3, of neighbours 0.5, some of it a gain."""
    variance = jnp.asarray([[1.0, 2.0, 1.5, 1.0]])
    shared = jnp.asarray([0.3, 0.5]).reshape(2, 1, 1)
    gains = jnp.full_like(variance, gain) if gain else None
    return sharing(jnp.zeros_like(variance), variance, shared, (1,), gains)


@pytest.mark.parametrize("gain", [0.0, 0.4])
def test_covariances_are_those_that_a_gaussian_was_made_with(gain: float) -> None:
    x = example(gain)
    for found in (x.covariance(), x.constant_covariance(), x.without_gain().covariance()):
        np.testing.assert_allclose(found.ravel(), [0.3, 0.5], rtol=1e-6)  # of single numbers


def test_averages_are_lost_with_another_variance() -> None:
    x = example(0.0)
    wider = replace(x, variance=4 * x.variance)
    assert x.averages is not None and wider.averages is None
    np.testing.assert_allclose(wider.covariance(), 4 * x.covariance(), rtol=1e-6)  # roundings
    leaves, structure = jax.tree.flatten(x)
    assert jax.tree.unflatten(structure, leaves).averages is None
    assert x.stored().averages is x.averages  # of the same numbers


def test_an_impossible_covariance_is_as_large_as_can_be() -> None:
    x = example(0.0)
    beyond = sharing(x.mean, x.variance, 9 * jnp.ones((2, 1, 1)), x.axes)
    deviation = np.sqrt(np.asarray(x.variance[0], np.float64))
    most = pair_by_pair(deviation[None], (1,))
    np.testing.assert_allclose(beyond.covariance().ravel(), np.ravel(most), rtol=1e-6)  # roundings
    np.testing.assert_array_equal(beyond.correlation, 1)


def test_a_bias_is_shared_by_all_positions() -> None:
    bias = cg.Belief(jnp.zeros(3), jnp.asarray([1.0, 2.0, 0.0]))
    x = jnp.zeros((2, 4, 3))

    def total(bias: jax.Array) -> jax.Array:
        return (x + bias[None, None]).sum(1)

    found = jax.jit(cg.moments(total))(bias).variance
    np.testing.assert_allclose(found, [[16.0, 32.0, 0.0]] * 2, rtol=1e-6)  # roundings


def test_a_scale_is_one_number_at_all_positions() -> None:
    x, scale = drawn(1, 4, 3), Gaussian(jnp.asarray([1.0, -2.0, 0.5]), jnp.asarray([0.1, 0.2, 0.0]))
    mean, variance = jnp.asarray(x, jnp.float32), jnp.asarray(x**2 + 0.1, jnp.float32)
    shared = jnp.broadcast_to(jnp.asarray([0.02, 0.05]).reshape(2, 1, 1, 1), (2, 1, 1, 3))
    value = sharing(mean, variance, shared, (1,))
    repeated = spread(scale, x.shape, (2,))
    # Without what is known of it, position by position.
    unknown = replace(repeated, variance=repeated.variance)
    one, other = (_multiplied(value, y, 2) for y in (repeated, unknown))
    assert repeated.averages is not None and unknown.averages is None
    np.testing.assert_allclose(one.covariance(), other.covariance(), rtol=1e-5)  # roundings


def test_moments_of_a_function_are_computed_once() -> None:
    weights = jnp.asarray(drawn(3, 3), jnp.float32)

    def once(x: jax.Array) -> jax.Array:
        return jnp.tanh(x) @ weights

    def twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jnp.tanh(x)
        return y @ weights, y @ (2 * weights)

    x = cg.Belief(jnp.ones((2, 3)), jnp.ones((2, 3)))
    one, two = (str(jax.make_jaxpr(cg.moments(f))(x)) for f in (once, twice))
    assert one.count("tanh") == two.count("tanh") > 0


def test_moments_of_an_inner_trace_do_not_leave_it() -> None:
    curve = as_curve(Gaussian(jnp.zeros(3), jnp.ones(3)))
    tanh = jax.make_jaxpr(jnp.tanh)(jnp.zeros(3)).eqns[0]
    value = composed(tanh, [curve], 2)
    inner = jax.jit(lambda: value.settled(2).mean)()
    first, second = value.settled(2), value.settled(2)
    np.testing.assert_allclose(inner, first.mean, atol=1e-7)  # compiled, and not
    assert first is not second and first.mean is second.mean  # two variables, computed once
