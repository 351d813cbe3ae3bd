"""Sums over some of the positions, of which the others keep what they share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax._beliefs.movement import common_axes
from cgjax._beliefs.values import Gaussian, sharing


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def smooth(number: int = 2, side: int = 8, channels: int = 3) -> jax.Array:
    """Images whose neighbours are alike."""
    coarse = jax.random.normal(jax.random.key(0), (number, side // 4, side // 4, channels))
    return jax.image.resize(coarse, (number, side, side, channels), "cubic")


def halved(h: jax.Array) -> jax.Array:
    """Averages of 2 x 2 positions."""
    return h.reshape(2, 4, 2, 4, 2, 8).mean((2, 4))


PARTS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "squares": lambda h: halved(h).mean((1, 2)),
    "squares, halved again": lambda h: (0.5 * halved(h) + 1).sum((1, 2)) / 8,
    "squares, shifted": lambda h: (halved(h) - 2.0).mean((1, 2)),
    "squares of sums": lambda h: h.reshape(2, 4, 2, 4, 2, 8).sum((2, 4)).sum((1, 2)) / 64,
    "rows": lambda h: h.mean(2).mean(1),
    "rows of squares": lambda h: halved(h).mean(2).mean(1),
    "columns": lambda h: -(-h).sum(1).sum(1) / 64,
}


@pytest.mark.parametrize("name", PARTS)
def test_averages_of_averages_are_averages(name: str) -> None:
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 8))
    about = cg.Belief(kernel, jnp.full_like(kernel, 0.1))

    def layers(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = convolved(smooth(), kernel)
        return h.mean((1, 2)), PARTS[name](h)

    whole, twice = cg.moments(layers)(about)
    # All pairs of positions have one correlation, but not one variance: at the edges it is less.
    np.testing.assert_allclose(twice.variance, whole.variance, rtol=0.02)


def test_squares_of_neighbours_vary_as_they_do() -> None:
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 8))
    about = cg.Belief(kernel, jnp.full_like(kernel, 0.1))

    def squares(kernel: jax.Array) -> jax.Array:
        return halved(convolved(smooth(), kernel))

    # Linear in the weights: the variance is that of the averages of the patches.
    exact = 0.1 * (jax.jacobian(squares)(kernel) ** 2).sum((-4, -3, -2, -1))
    found = cg.moments(squares)(about).variance
    # What neighbours share is followed on average: 1.13; and 0.61 as if all pairs were alike.
    assert 0.85 < found.sum() / exact.sum() < 1.15


def test_what_shares_along_different_axes_keeps_positions() -> None:
    zero, one = jnp.zeros((1, 4, 3)), jnp.ones((1, 4, 3))
    shared = jnp.full((2, 1, 1, 1), 0.5)
    along = [sharing(zero, one, shared, axes) for axes in ((1,), (2,))]
    assert common_axes(along) == (1,)
    assert common_axes([*along, Gaussian(zero, one)]) == (1,)
    assert common_axes(along[1:]) == (2,)
    assert common_axes([*along[1:], Gaussian(zero, one)]) == (2,)
