"""What the recursions of trees and of segments share: sums, shares and choices of states.

All of them are on logarithms, relative to the largest one: right for every potential, -inf
included, of which nothing has a derivative.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cgjax.kernels.chains._best import first_ones as first_ones
from cgjax.kernels.chains._chain import total as total
from cgjax.kernels.chains._logarithmic import log_sum as log_sum

# What a recursion does with what is possible: `log_sum` for sums over states, `largest` for best.
Reduce = Callable[[Array, int], Array]


class Scored(NamedTuple):
    """What is known of a value of each of B nodes.

    Attributes:
        unknown: whether it holds a NaN.
        whole: whether it is a value at all.
        score: -inf for what is forbidden.
    """

    unknown: Bool[Array, " B"]
    whole: Bool[Array, " B"]
    score: Float[Array, " B"]


def ones_of(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 where there is a 1, and 0: with the derivative of x, of which a score is linear."""
    moved = jnp.where(jnp.isfinite(x), x, 0)
    return (x == 1).astype(x.dtype) + (moved - lax.stop_gradient(moved))


def largest(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The maximum along an axis."""
    return jnp.max(x, axis)


def most(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """The maximum along axes, which stay with size 1, a constant; 0 where nothing is possible."""
    found = lax.stop_gradient(jnp.max(x, axes, keepdims=True))
    return jnp.where(found == -jnp.inf, 0, found)


def shares(logits: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Probabilities along an axis; 0 where nothing is possible."""
    weights = jnp.exp(logits - most(logits, (axis,)))
    return normalised(weights, (axis,))


def normalised(weights: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """Weights divided by their sum, where there is any: rounding does not add up along a path."""
    sums = jnp.sum(weights, axes, keepdims=True)
    return weights / jnp.where(sums == 0, 1, sums)


def chosen(
    logits: Float[Array, "*batch n"], uniform: Float[Array, "*batch"] | None
) -> Int[Array, "*batch"]:
    """The number of one entry of the last axis, drawn by a uniform number; None: the largest one.

    What is impossible is never drawn. Of equal ones the first is the largest.
    """
    if uniform is None:
        return lax.argmax(logits, logits.ndim - 1, jnp.int32)
    reached = jnp.cumsum(jnp.exp(logits - most(logits, (-1,))), -1)
    # Strictly above, so that what has no weight is not chosen; uniform is below 1.
    above = reached > uniform[..., None] * reached[..., -1:]
    return lax.argmax(above, logits.ndim - 1, jnp.int32)


def row_of(
    matrices: Float[Array, "*batch i j"], state: Int[Array, "*batch"]
) -> Float[Array, "*batch j"]:
    """The row of each matrix at a state."""
    return jnp.take_along_axis(matrices, state[..., None, None], -2)[..., 0, :]


def entropies(
    pairs: Float[Array, "*batch i j"], before: Float[Array, "*batch i"]
) -> Float[Array, "*batch"]:
    """-sum_ij P(i, j) log P(j given i) in nats, of P(i, j) and P(i)."""
    possible = pairs > 0
    p = jnp.where(possible, pairs, 1)
    given = p / jnp.where(possible, before[..., None], 1)
    return -jnp.sum(jnp.where(possible, p * jnp.log(given), 0), (-1, -2))


def summed(potentials: Float[Array, "*shape"], taken: Float[Array, "*shape"]) -> tuple:
    """The products of potentials and how often each is taken, and whether one taken is -inf."""
    never = potentials == -jnp.inf
    return jnp.where(never, 0, potentials) * taken, never & (taken != 0)


def own_variance(
    p: Float[Array, "*shape"], variance: Float[Array, "*shape"], axes: tuple[int, ...]
) -> Float[Array, "*shape"]:
    """sum_l Cov(k, l)^2 variance_l over the states along axes, of which one is taken or none."""
    squares = p**2 * variance
    others = jnp.sum(squares, axes, keepdims=True) - squares
    return p**2 * ((1 - p) ** 2 * variance + jnp.where(others < 0, 0, others))
