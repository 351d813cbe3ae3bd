"""The best paths through a chain."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, by_edge, edges, matrix_of
from cgjax.kernels.chains._paths import UNROLLED, into, matrices_of, score


class Best(NamedTuple):
    """The best paths of each chain.

    Attributes:
        paths: numbers of states, (k, B, T), -1 at masked positions.
        scores: (k, B), falling; -inf where there are fewer possible paths.
    """

    paths: Int[Array, "k B T"]
    scores: Float[Array, "k B"]


def best(chain: Chain, k: int = 1) -> Best:
    """The k paths with the highest scores (Viterbi's algorithm for lists).

    Of paths with equal scores those that end in states of lower numbers come first.

    Args:
        chain: as in `score`.
        k: how many paths, at least 1.

    Returns:
        `Best(paths, scores)`. Scores may be differentiated where they are finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, best
        >>> chain = Chain(jnp.array([[[0.0, 1.0], [0.0, 3.0]]]), jnp.zeros((1, 1, 2, 2)))
        >>> found = best(chain, 2)
        >>> print(found.paths[:, 0], found.scores[:, 0])
        [[1 1]
         [0 1]] [4. 3.]

    Source: Seshadri and Sundberg, "List Viterbi decoding algorithms", 1994.
    """
    batch, length, states = chain.unary.shape
    if not length:  # one path, of score 0
        scores = jnp.full((k, batch), -jnp.inf, chain.unary.dtype).at[0].set(0)
        return Best(jnp.zeros((k, batch, 0), jnp.int32), scores)
    if k == 1:
        paths, scores = _best_one(chain)
        return Best(paths[None], scores[None])
    unary = jnp.moveaxis(chain.unary, 1, 0)
    shared = chain.transitions[:, 0] if chain.homogeneous else None
    masks = None if chain.mask is None else (chain.mask.T, _padded(edges(chain)).T)
    each = by_edge(chain.transitions)
    if each is not None:
        each = jnp.pad(each, ((1, 0), (0, 0), (0, 0), (0, 0)))
    # Scores of the k best ways into each state, (B, states, k); before the first there is one.
    nothing = jnp.full((batch, states, k), -jnp.inf, unary.dtype).at[:, :, 0].set(0)

    def step(scores: Array, inputs: Tree) -> tuple[Array, Array]:
        unary, matrix, masks, turn = inputs
        matrix = matrix_of(matrix, shared)
        ways = scores[:, None] + jnp.swapaxes(matrix, 1, 2)[..., None]  # (B, to, from, k)
        new, came_from = first_ones(ways.reshape(batch, states, states * k), k)
        follows = turn > 0 if masks is None else masks[1][:, None, None]
        itself = jnp.arange(states * k, dtype=jnp.int32).reshape(1, states, k)
        new = jnp.where(follows, new, nothing) + unary[:, :, None]
        came_from = jnp.where(follows, came_from, itself)
        if masks is not None:
            here = masks[0][:, None, None]
            new, came_from = jnp.where(here, new, scores), jnp.where(here, came_from, itself)
        return new, came_from

    inputs = unary, each, masks, jnp.arange(length)
    scores, came_from = lax.scan(step, nothing, inputs)
    if chain.mask is not None:
        empty = nothing.at[:, 1:].set(-jnp.inf)
        scores = jnp.where(jnp.any(chain.mask, 1)[:, None, None], scores, empty)
    scores, ends = first_ones(scores.reshape(batch, states * k), k)

    def back(at: Array, came_from: Array) -> tuple[Array, Array]:
        return jnp.take_along_axis(came_from.reshape(batch, states * k), at, 1), at // k

    _, paths = lax.scan(back, ends, came_from, reverse=True)
    paths = jnp.transpose(paths, (2, 1, 0))
    if chain.mask is not None:
        paths = jnp.where(chain.mask[None], paths, -1)
    return Best(paths, scores.T)


@jax.custom_jvp
def _best_one(chain: Chain) -> tuple[Array, Array]:
    """The best path of each chain, (B, T), and its score, (B,).

    Of a step only the scores are kept, (K, B): where the best way into a state came from is asked
    on the way back, of the states of one path.
    """
    (shared, each), masks = matrices_of(chain), None
    follows = jnp.broadcast_to(jnp.arange(chain.length)[:, None] > 0, (chain.length, 1))
    if chain.mask is not None:
        masks, follows = chain.mask.T, _padded(edges(chain)).T

    def step(scores: Array, inputs: Tree) -> tuple[Array, Array]:
        unary, matrix, mask, follows = inputs
        new = _highest(scores, matrix_of(matrix, shared))
        new = jnp.where(follows[None], new, 0) + unary
        return (new if mask is None else jnp.where(mask[None], new, scores)), scores

    unary = jnp.transpose(chain.unary, (1, 2, 0))
    scores, before = lax.scan(step, jnp.zeros_like(unary[0]), (unary, each, masks, follows))
    if chain.mask is not None:  # a chain without positions has one path, of score 0
        scores = jnp.where(jnp.any(chain.mask, 1)[None], scores, jnp.zeros_like(scores))

    def back(at: Array, inputs: Tree) -> tuple[Array, Array]:
        before, matrix, follows = inputs
        ways = before + into(matrix_of(matrix, shared), at)
        return jnp.where(follows, _first_best(ways), at), at

    ends = lax.argmax(scores, 0, jnp.int32)
    _, paths = lax.scan(back, ends, (before, each, follows), reverse=True)
    paths = paths.T if chain.mask is None else jnp.where(chain.mask, paths.T, -1)
    # `_highest` hands on no NaN: what is no number is found in what was kept.
    most = jnp.maximum(jnp.max(before, (0, 1)), jnp.max(scores, 0))
    known = (most < jnp.inf) & _steps_are_known(chain)
    return paths, jnp.where(known, jnp.max(scores, 0), jnp.nan)


def _steps_are_known(chain: Chain) -> Bool[Array, " b"]:
    """For which chains the potentials of all steps that are taken are numbers below inf."""
    taken = edges(chain)
    taken = jnp.any(taken, 1, keepdims=True) if chain.homogeneous else taken
    steps = jnp.where(taken[:, :, None, None], chain.transitions, 0)
    return jnp.max(steps, (1, 2, 3), initial=-jnp.inf) < jnp.inf


@_best_one.defjvp
def _best_one_jvp(primals: Tree, tangents: Tree) -> tuple[Tree, Tree]:
    """The derivative is that of the score of the path."""
    (chain,), (change,) = primals, tangents
    paths, scores = _best_one(chain)
    taken = jax.nn.one_hot(paths, chain.unary.shape[2], dtype=scores.dtype)

    def along(unary: Array, transitions: Array) -> Array:
        return score(Chain(unary, transitions, chain.mask), taken)

    _, changed = jax.jvp(along, chain[:2], change[:2])
    return (paths, scores), (
        np.zeros(paths.shape, jax.dtypes.float0),
        jnp.where(jnp.isfinite(scores), changed, 0),
    )


# A maximum of so many is one expression: longer ones spill registers.
_GROUP = 8


def _highest(scores: Float[Array, "K B"], matrix: Float[Array, "K L b"]) -> Float[Array, "L B"]:
    """The highest score of the ways into each state. As maxima of vectors over chains."""
    if len(scores) > UNROLLED:
        return jnp.max(scores[:, None] + matrix, 0)
    return _largest([scores[i][None] + matrix[i] for i in range(len(scores))])


def _first_best(scores: Float[Array, "K B"]) -> Int[Array, " B"]:
    """The first state with the highest score; the last one, where a score is NaN."""
    states = len(scores)
    if states > UNROLLED:
        return lax.argmax(scores, 0, jnp.int32)
    most = _largest(list(scores))
    places = [jnp.where(scores[i] == most, i, states - 1) for i in range(states)]
    return functools.reduce(jnp.minimum, places).astype(jnp.int32)


def _largest(terms: list[Array]) -> Array:
    """Their maximum, where all are numbers: a choice is one instruction, and a maximum, which
    hands on NaN, three."""

    def larger(x: Array, y: Array) -> Array:
        return jnp.where(x > y, x, y)

    groups = [terms[i : i + _GROUP] for i in range(0, len(terms), _GROUP)]
    return functools.reduce(larger, [functools.reduce(larger, group) for group in groups])


def _padded(edges: Bool[Array, "B E"]) -> Bool[Array, "B T"]:
    """Whether each position, the first included, follows another."""
    return jnp.pad(edges, ((0, 0), (1, 0)))


def first_ones(values: Array, k: int) -> tuple[Array, Array]:
    """The k largest along the last axis and where they stand, -inf beyond its end."""
    size = values.shape[-1]
    if k == 1:
        where = lax.argmax(values, values.ndim - 1, jnp.int32)[..., None]
        return jnp.take_along_axis(values, where, -1), where
    found, where = lax.top_k(values, min(k, size))
    missing = [(0, 0)] * (values.ndim - 1) + [(0, k - min(k, size))]
    return jnp.pad(found, missing, constant_values=-jnp.inf), jnp.pad(where, missing)
