"""The largest of independent Gaussians, against samples."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief


def test_along_axes_and_in_windows():
    """Variances that pairs of neighbours make 15 % too small; however the elements are laid out."""
    variance = jax.random.gamma(jax.random.key(0), 1.0, (3, 3, 40))
    x = Belief(jnp.zeros_like(variance), variance)
    z = jax.random.normal(jax.random.key(1), (20_000, *variance.shape))

    def largest(x):
        padded = lax.reduce_window(
            x, -jnp.inf, lax.max, (5, 3, 1), (5, 3, 1), ((1, 1), (0, 0), (0, 0))
        )
        return x.max((0, 1)), padded[0, 0]

    def both(x, z):
        return cg.moments(largest)(x), (x.variance[None] ** 0.5 * z).max((1, 2)).var(0)

    (one, window), sampled = jax.jit(both)(x, z)
    # Each with a standard error of 1 %.
    np.testing.assert_allclose(one.variance / sampled, 1, atol=0.07)
    assert 0.98 < float((one.variance / sampled).mean()) < 1.02
    np.testing.assert_allclose(window.mean, one.mean, rtol=1e-5)
    np.testing.assert_allclose(window.variance, one.variance, rtol=1e-5)


def test_the_order_of_the_elements_does_not_matter():
    x = Belief(jnp.array([0.3, -0.5, 0.8, 0.1]), jnp.array([0.3, 0.05, 2.0, 0.4]))
    order = jnp.array([2, 0, 3, 1])
    turned = Belief(x.mean[order], x.variance[order])
    one, other = jax.jit(lambda x, y: tuple(map(cg.moments(jnp.max), (x, y))))(x, turned)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-6)


def test_smallest_is_the_largest_of_the_negative():
    x = Belief(jnp.array([0.3, -0.5, 0.8]), jnp.array([0.3, 0.05, 2.0]))
    smallest, largest = jax.jit(cg.moments(lambda x: (x.min(), -(-x).max())))(x)
    np.testing.assert_allclose(smallest.mean, largest.mean, rtol=1e-6)
    np.testing.assert_allclose(smallest.variance, largest.variance, rtol=1e-6)


MESSAGES = Belief(
    jax.random.normal(jax.random.key(2), (5, 3)), jnp.linspace(0.1, 1.0, 15).reshape(5, 3)
)
TO = jnp.array([2, 0, 2, 0, 7])  # none to 1, and one to nobody


def by_place(x):
    """What is written to 0, 1 and 2, and the larger of two by themselves."""
    largest = jax.ops.segment_max(x, TO, 3)
    pairs = jnp.stack([jnp.maximum(x[1], x[3]), jnp.zeros(3), jnp.maximum(x[0], x[2])])
    in_columns = jnp.full((3, 3), -jnp.inf).at[:, TO].max(x.T)
    smallest = jax.ops.segment_min(-x, TO, 3)
    once = jnp.zeros((2, 3)).at[1].max(x[0])
    return {
        "infinite": (jnp.where(jnp.isinf(largest), 0, largest), pairs),
        "negative and infinite": (jnp.where(jnp.isneginf(largest), 0, largest), pairs),
        "finite": (jnp.where(jnp.isfinite(largest), largest, 0), pairs),
        "columns": (jnp.where(in_columns == -jnp.inf, 0, in_columns).T, pairs),
        "smallest": (-jnp.where(smallest == jnp.inf, 0, smallest), pairs),
        "one": (once, jnp.stack([jnp.zeros(3), jnp.maximum(0, x[0])])),
    }


def test_the_largest_of_what_is_written_to_a_place():
    found = jax.jit(cg.moments(by_place))(MESSAGES)
    for name, (got, expected) in found.items():
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(got.variance, expected.variance, rtol=1e-4, err_msg=name)


def test_the_largest_by_place_has_a_derivative():
    def total(mean):
        def filled(x):
            largest = jax.ops.segment_max(x, TO, 3)
            return jnp.where(jnp.isinf(largest), 0, largest)

        got = cg.moments(filled)(Belief(mean, MESSAGES.variance))
        return got.mean.sum() + got.variance.sum()

    gradient = jax.jit(jax.grad(total))(MESSAGES.mean)
    step = 1e-2 * jnp.ones((5, 3)).at[4].set(0)
    change = (total(MESSAGES.mean + step) - total(MESSAGES.mean - step)) / 2
    np.testing.assert_allclose((gradient * step).sum(), change, rtol=1e-2)
    assert (gradient[4] == 0).all()  # what is written to nobody does not count


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.gelu])
def test_known_offsets_stand_before_an_activation(activation):
    """The largest of relu(x + b) is relu of the largest x + b: b might be part of the means."""
    mean, variance, offset = jax.random.uniform(jax.random.key(0), (3, 2, 4, 4, 1))

    def net(x):
        y = activation(x)
        pooled = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return pooled, y.max((1, 2))

    found = cg.moments(lambda x, offset: net(x + offset))(cg.Belief(mean - 1, variance), offset)
    moved = cg.moments(net)(cg.Belief(mean - 1 + offset, variance))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, moved)
