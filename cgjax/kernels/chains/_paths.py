"""Paths through a chain: their scores, and samples of them."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int, UInt32

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, edges
from cgjax.kernels.chains._sums import filtered
from cgjax.kernels.random_bits import open_uniform


class Labels(NamedTuple):
    """What the rows of a path say, (B, T) each.

    Attributes:
        states: the number of the state; of a row that is not one-hot, of any.
        one_hot: whether a row is one-hot: one 1, and zeros.
        unknown: whether a row holds a NaN.
    """

    states: Int[Array, "B T"]
    one_hot: Bool[Array, "B T"]
    unknown: Bool[Array, "B T"]


def labels(path: Float[Array, "B T K"]) -> Labels:
    """The states of one-hot rows.

    Args:
        path: a row for each position, (B, T, K).

    Returns:
        `Labels(states, one_hot, unknown)`, (B, T) each.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import labels
        >>> found = labels(jnp.array([[[0.0, 1.0], [0.0, 0.5]]]))
        >>> print(found.states[0, 0], found.one_hot)
        1 [[ True False]]
    """
    # On CPUs products with a vector are faster than the largest entry of a row, or than sums of
    # comparisons.
    k, exact = path.shape[2], lax.Precision.HIGHEST
    numbers = jnp.arange(1, k + 1, dtype=path.dtype)
    found = jnp.matmul(path, numbers, precision=exact)
    states = jnp.clip(jnp.nan_to_num(found), 1, k).astype(jnp.int32) - 1
    there = jnp.matmul((path != 0).astype(path.dtype), jnp.ones_like(numbers), precision=exact)
    taken = jnp.take_along_axis(path, states[:, :, None], 2, mode="clip")[:, :, 0]
    return Labels(states, (there == 1) & (taken == 1), jnp.isnan(found))


def score(
    chain: Chain, path: Float[Array, "B T K"], states: Int[Array, "B T"] | None = None
) -> Float[Array, " B"]:
    """The sum of the potentials along a path.

    Args:
        chain: B chains of T positions with K states.
        path: a one-hot row for each position, (B, T, K); what it holds at masked ones is not read.
        states: their numbers, (B, T), as `labels` finds them; found here by default.

    Returns:
        The score, (B,): -inf with a derivative of 0, where the path takes what is forbidden. Its
        derivative by the path is that of the sum of products of potentials and entries.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, score
        >>> transitions = jnp.array([[[[0.5, 0.0], [0.0, 0.0]]]])
        >>> chain = Chain(jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), transitions)
        >>> print(score(chain, jnp.array([[[1.0, 0.0], [1.0, 0.0]]])))
        [4.5]

    Source: Sutton and McCallum, "An introduction to conditional random fields", 2012, 2.3.
    """
    # By what is taken: on CPUs products with zeros take several times as long.
    states = labels(path).states if states is None else states
    if chain.mask is not None:
        path = jnp.where(chain.mask[:, :, None], path, 0)
    return _score(chain.unary, chain.transitions, path, chain.mask, states)


@jax.custom_jvp
def _score(
    unary: Array, transitions: Array, path: Array, mask: Array | None, states: Array
) -> Array:
    chain = Chain(unary, transitions, mask)
    own = jnp.take_along_axis(unary, states[:, :, None], 2, mode="clip")[:, :, 0]
    steps = _taken(chain, transitions, states)
    if mask is not None:
        own = jnp.where(mask, own, 0)
    return jnp.sum(own, 1) + jnp.sum(jnp.where(edges(chain), steps, 0), 1)


def _score_jvp(primals: Tree, tangents: Tree) -> tuple[Array, Array]:
    unary, transitions, path, mask, states = primals
    chain = Chain(unary, transitions, mask)
    found = _score(*primals)
    by_unary, by_steps, by_path, *_ = tangents
    changed = jnp.zeros_like(found)
    if not isinstance(by_unary, SymbolicZero):
        # Where the path is, in place of what it takes: the transpose is one product of entries.
        changed += jnp.sum(path * by_unary, (1, 2))
    if not isinstance(by_steps, SymbolicZero):
        taken = jnp.where(edges(chain), _taken(chain, by_steps, states), 0)
        changed += jnp.sum(taken, 1)
    if not isinstance(by_path, SymbolicZero):
        changed += jnp.sum(_slope(chain, path) * by_path, (1, 2))
    return found, jnp.where(found == -jnp.inf, 0, changed)


_score.defjvp(_score_jvp, symbolic_zeros=True)


def _last(chain: Chain) -> Int[Array, "b E"]:
    """The number of the position before the second, the third, …, which takes part."""
    if chain.mask is None:
        return jnp.arange(chain.length - 1)[None]
    turns = jnp.where(chain.mask, jnp.arange(chain.length)[None], 0)
    return lax.cummax(turns, 1)[:, :-1]


def _taken(chain: Chain, transitions: Array, states: Array) -> Array:
    """The entry of the transitions that each step takes, (B, T - 1)."""
    before, after = states[:, :-1], states[:, 1:]
    if chain.mask is not None:
        before = jnp.take_along_axis(states, _last(chain), 1)
    b, e, k, _ = transitions.shape
    if b == e == 1:
        return jnp.take(transitions.reshape(k * k), before * k + after, mode="clip")
    rows = jnp.arange(states.shape[0])[:, None] if b > 1 else 0
    steps = jnp.arange(before.shape[1])[None] if e > 1 else 0
    return transitions.at[rows, steps, before, after].get(mode="clip")


def _slope(chain: Chain, path: Array) -> Array:
    """The derivative of the sum of products of potentials and a path's entries by these."""
    batch, length, k = path.shape
    slope = jnp.where(chain.unary == -jnp.inf, 0, chain.unary)
    if length > 1:
        steps = jnp.where(chain.transitions == -jnp.inf, 0, chain.transitions)
        rows, last = jnp.arange(batch)[:, None], jnp.broadcast_to(_last(chain), (batch, length - 1))
        there = edges(chain)[:, :, None]
        into = _along(jnp.where(there, path[rows, last], 0), steps)
        out_of = _along(jnp.where(there, path[:, 1:], 0), jnp.swapaxes(steps, 2, 3))
        slope = slope.at[:, 1:].add(into).at[rows, last].add(out_of)
    return slope if chain.mask is None else jnp.where(chain.mask[:, :, None], slope, 0)


def _along(rows: Float[Array, "B E K"], transitions: Float[Array, "b e K K"]) -> Array:
    """Each row times the transitions of its step."""
    exact = lax.Precision.HIGHEST
    if transitions.shape[:2] == (1, 1):
        return jnp.einsum("bei,ij->bej", rows, transitions[0, 0], precision=exact)
    matrices = jnp.broadcast_to(transitions, (*rows.shape[:2], *transitions.shape[2:]))
    return jnp.einsum("bei,beij->bej", rows, matrices, precision=exact)


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
