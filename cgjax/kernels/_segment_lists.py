"""The k best segmentations of sequences: Viterbi's algorithm for lists, from the end on.

What is kept of a boundary is not the best score of what lies behind it, given the label before it,
but the k best ones, and how each is made:

    best_t(j) = the k best of A(j, l) + e_t(d, l) + best_{t+d}(l, r)        over l, d and ranks r
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cgjax._static import Tree
from cgjax.kernels import _structures as structures


@partial(jax.jit, static_argnums=4, inline=True)
def best_segments(
    unary: Float[Array, "B T D K"],
    following: Float[Array, "b J K"],
    end: Float[Array, "b2 K"],
    lengths: Int[Array, " B"],
    k: int,
) -> tuple[Int[Array, "k B T"], Bool[Array, "k B"]]:
    """What starts at each position in the k best segmentations, and whether there are so many.

    Time is O(B T (D K k + K^2 k)).

    Args:
        unary: of the segment of label k and duration d + 1 from t on, at [t, d, k].
        following: from the label of a segment (row) to the next one; the last row is the start.
        end: of the last label.
        lengths: how many positions take part.
        k: how many, at least 1.

    Returns:
        Numbers of segments as (K, D), -1 within one; best first. Beyond the lengths they say
        nothing.

    Example:
        >>> unary = jnp.array([[[[0.0], [3.0]], [[1.0], [-jnp.inf]]]])
        >>> following, end = jnp.zeros((1, 2, 1)), jnp.zeros((1, 1))
        >>> segments, there = best_segments(unary, following, end, jnp.array([2]), 3)
        >>> print(segments[:2, 0], there[:, 0])  # both positions; one and one
        [[ 1 -1]
         [ 0  0]] [ True  True False]

    Source: Seshadri and Sundberg, "List Viterbi decoding algorithms", 1994.
    """
    b, length, most, labels = unary.shape
    ends = jnp.broadcast_to(end, (b, labels))
    ends = jnp.full((b, labels, k), -jnp.inf, unary.dtype).at[..., 0].set(ends)

    def boundary(at: Array | int, scores: Array) -> Array:
        return jnp.where((lengths == at)[:, None, None], ends, scores)

    def back(later: Array, inputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        unary, at = inputs
        u = jnp.swapaxes(unary[..., None] + later, 1, 2)
        by_label, duration = structures.first_ones(u.reshape(b, labels, most * k), k)
        ways = following[..., None] + by_label[:, None]
        scores, way = structures.first_ones(ways.reshape(b, labels + 1, labels * k), k)
        made = jnp.take_along_axis(duration.reshape(b, 1, labels * k), way, 2) + way // k * (
            most * k
        )
        here = boundary(at, scores[:, :labels])
        later = jnp.concatenate([here[:, None], later[:, :-1]], 1)
        return later - structures.most(later, (1, 2, 3)), (made, scores[:, labels])

    last = boundary(length, jnp.full_like(ends, -jnp.inf))
    later = jnp.full((b, most, labels, k), -jnp.inf, unary.dtype).at[:, 0].set(last)
    inputs = jnp.moveaxis(unary, 1, 0), jnp.arange(length)
    _, (made, firsts) = lax.scan(back, later, inputs, reverse=True)

    def step(carry: tuple[Array, ...], made: Array) -> tuple[Tree, Array]:
        label, rank, left = carry
        found = jnp.take_along_axis(made.reshape(b, (labels + 1) * k), label * k + rank, 1)
        here, choice = left == 0, found // k
        label = jnp.where(here, choice // most, label)
        left = jnp.where(here, choice % most, left - 1)
        return (label, jnp.where(here, found % k, rank), left), jnp.where(here, choice, -1)

    ranks = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), (b, k))
    start = jnp.full_like(ranks, labels), ranks, jnp.zeros_like(ranks)
    _, found = lax.scan(step, start, made)
    there = jnp.where((lengths == 0)[:, None], ranks == 0, firsts[0] != -jnp.inf)
    return jnp.moveaxis(found, 2, 0).swapaxes(1, 2), there.T
