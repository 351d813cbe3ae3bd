"""Paths through a chain: their scores, and samples of them."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, edges
from cgjax.kernels.chains._sums import filtered
from cgjax.kernels.random_bits import open_uniform


def score(chain: Chain, path: Float[Array, "B T K"]) -> Float[Array, " B"]:
    """The sum of the potentials along a path.

    Args:
        chain: B chains of T positions with K states.
        path: a one-hot row for each position, (B, T, K); what it holds at masked ones is not read.

    Returns:
        The score, (B,): -inf with a derivative of 0, where the path takes what is forbidden.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, score
        >>> transitions = jnp.array([[[[0.5, 0.0], [0.0, 0.0]]]])
        >>> chain = Chain(jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), transitions)
        >>> print(score(chain, jnp.array([[[1.0, 0.0], [1.0, 0.0]]])))
        [4.5]

    Source: Sutton and McCallum, "An introduction to conditional random fields", 2012, 2.3.
    """
    if chain.mask is not None:
        path = jnp.where(chain.mask[:, :, None], path, 0)
    before, after = _before(chain, path), path[:, 1:]
    never, forbidden = chain.unary == -jnp.inf, chain.transitions == -jnp.inf
    chosen = jnp.where(never, 0, chain.unary) * path
    taken = _along(before, jnp.where(forbidden, 0, chain.transitions)) * after
    wrong = jnp.any(never & (path != 0), (1, 2))
    wrong |= jnp.any(_along(before, forbidden.astype(path.dtype)) * after != 0, (1, 2))
    return jnp.where(wrong, -jnp.inf, jnp.sum(chosen, (1, 2)) + jnp.sum(taken, (1, 2)))


def _before(chain: Chain, path: Array) -> Array:
    """The rows of the positions before the second, the third, …: zeros where there is none."""
    if chain.mask is None:
        return path[:, :-1]
    turns = jnp.where(chain.mask, jnp.arange(chain.length)[None], -1)
    last = lax.cummax(turns, 1)[:, :-1]
    rows = jnp.take_along_axis(path, jnp.maximum(last, 0)[:, :, None], 1)
    return jnp.where(edges(chain)[:, :, None], rows, 0)


def _along(rows: Array, transitions: Array) -> Array:
    """Each row times the transitions that follow it: (B, T - 1, K)."""
    exact = lax.Precision.HIGHEST
    if transitions.shape[:2] == (1, 1):
        return jnp.einsum("bti,ij->btj", rows, transitions[0, 0], precision=exact)
    b, e, k, _ = transitions.shape
    transitions = jnp.broadcast_to(transitions, (rows.shape[0], rows.shape[1], k, k))
    return jnp.einsum("bti,btij->btj", rows, transitions, precision=exact)


class Drawn(NamedTuple):
    """One path of each chain.

    Attributes:
        paths: numbers of states, (B, T), -1 at masked positions.
        possible: (B,), false for a chain that has no possible path or is not a number: its states
            mean nothing.
    """

    paths: Int[Array, "B T"]
    possible: Bool[Array, " B"]


def sample(words: UInt32[Array, "B T"], chain: Chain) -> Drawn:
    """One path for each chain: forward filtering, backward sampling.

        z_T ~ a_T,   z_t given z_{t+1} = j is i with probability proportional to a_t(i) exp A(i, j)

    Args:
        words: uniform 32-bit words, one for each position.
        chain: as in `score`.

    Returns:
        `Drawn(paths, possible)`. A state or a step that is forbidden is never drawn. Without
        derivative.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from cgjax.kernels import random_words
        >>> from cgjax.kernels.chains import Chain, sample
        >>> transitions = jnp.array([[[[-jnp.inf, 0.0], [0.0, -jnp.inf]]]])
        >>> words = random_words(jax.random.key(0), (1, 5))[1]
        >>> path, _ = sample(words, Chain(jnp.zeros((1, 5, 2)), transitions))
        >>> bool(jnp.all(jnp.abs(path[:, 1:] - path[:, :-1]) == 1))
        True

    Source: Scott, "Bayesian methods for hidden Markov models", 2002, 2.1.
    """
    if not chain.length:
        return Drawn(jnp.zeros(words.shape, jnp.int32), jnp.ones(words.shape[0], bool))
    chain = jax.tree.map(lax.stop_gradient, chain)
    states = filtered(chain)
    uniform = open_uniform(words, states.dtype)
    shared, each = matrices_of(chain)
    if shared is not None:  # a last column, of no step, for positions that nothing follows
        shared = jnp.pad(shared, ((0, 0), (0, 1), (0, 0)))

    # What is carried is the state that follows, of which a step looks up the potentials: before it
    # was drawn they would be looked up, and it be drawn again, for each of them. Matrices that
    # change are not at hand any more in the step before: then it is the potentials.
    def back(later: Array, inputs: Tree) -> tuple[Array, Array]:
        state, uniform, matrices, mask = inputs
        logits = state + (later if shared is None else into(shared, later))
        drawn = _chosen(jnp.exp(logits - jnp.max(logits, 0)[None]), uniform)
        new = drawn if matrices is None else into(matrices, drawn)
        if mask is not None:
            here = jnp.expand_dims(mask, range(new.ndim - 1))
            new, drawn = jnp.where(here, new, later), jnp.where(mask, drawn, -1)
        return new, drawn

    masks = None if chain.mask is None else chain.mask.T
    begin = jnp.zeros_like(states[0])
    if shared is not None:
        begin = jnp.full(states.shape[2], states.shape[1], jnp.int32)
    _, drawn = lax.scan(back, begin, (states, uniform.T, each, masks), reverse=True)
    return Drawn(drawn.T, jnp.all(jnp.isfinite(jnp.max(states, 1)), 0))


# More states than these make a long program, and are reduced in a loop.
UNROLLED = 128


def _chosen(weights: Float[Array, "K B"], uniform: Float[Array, " B"]) -> Int[Array, " B"]:
    """The state that a uniform number falls to. However sums are rounded, one without weight is
    never chosen, and one always is."""
    if len(weights) > UNROLLED:
        return _chosen_of_many(weights, uniform)
    reached = list(itertools.accumulate(weights))
    least = uniform * reached[-1]
    before = sum((x <= least).astype(jnp.int32) for x in reached)
    positive = [jnp.where(x > 0, i, 0) for i, x in enumerate(weights)]
    return jnp.minimum(before, _maximum(positive))


def _chosen_of_many(weights: Float[Array, "K B"], uniform: Float[Array, " B"]) -> Array:
    """As `_chosen`, of more states. A product of matrices is a faster cumulative sum than a
    reduction of windows."""
    lower = jnp.tril(jnp.ones((len(weights), len(weights)), weights.dtype))
    reached = lax.dot(lower, weights, precision=lax.Precision.HIGHEST)
    reached = jnp.where(weights > 0, reached, 0)
    least = uniform * jnp.max(reached, 0)
    return lax.argmax(reached > least[None], 0, jnp.int32)


def _maximum(terms: list[Array]) -> Array:
    return functools.reduce(jnp.maximum, terms)


def matrices_of(chain: Chain) -> tuple[Array | None, Array | None]:
    """Transitions of all steps, (K, K, b), and those of the steps to each position, (T, K, K, b),
    of which the first is no step. One of them is None."""
    if chain.homogeneous:
        return jnp.moveaxis(chain.transitions[:, 0], 0, 2), None
    each = jnp.moveaxis(chain.transitions, 0, 3)
    return None, jnp.pad(each, ((1, 0), (0, 0), (0, 0), (0, 0)))


def into(matrix: Float[Array, "K L b"], state: Int[Array, " B"]) -> Float[Array, "K B"]:
    """The potentials of the steps into a state."""
    if matrix.shape[2] == 1:
        return jnp.take(matrix[:, :, 0].T, state, 0, mode="clip").T  # rows lie together
    return jnp.take_along_axis(matrix, state[None, None], 1)[:, 0]
