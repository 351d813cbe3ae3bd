"""Sequences cut into labelled segments: partition function, marginals, samples, best segmentation.

With beta_t(j) for all that lies behind a boundary at t, given that a segment of label j ends there,

    u_t(d, k) = e_t(d, k) + beta_{t+d}(k)         a segment of label k and duration d starts at t
    beta_t(j) = log sum_k exp(A(j, k) + log sum_d exp u_t(d, k)),    beta_T(j) = end(j)

The first segment follows one of a label of its own, whose row of A is the start. Forwards,
P(k | j, t) and P(d | k, t) are shares of the same sums: products of probabilities, and no
differences.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from cgjax._static import Tree
from cgjax.kernels import _structures as structures
from cgjax.kernels._segment_lists import best_segments
from cgjax.kernels._segment_sums import ends, starts
from cgjax.kernels._segment_sums import labels as labels
from cgjax.kernels._segment_sums import totals as totals
from cgjax.kernels._structures import Reduce, Scored, log_sum
from cgjax.kernels.random_bits import open_uniform

# log Z (B,), P(segment) (B, T, D, K), P(previous label, label) summed over boundaries or at each,
# (B, K + 1, K) or (T, B, K + 1, K).
Expectations = tuple[Array, Array, Array]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["unary", "transitions", "start", "end", "lengths"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Segments:
    """Independent sequences of T positions, cut into segments of 1 to D positions and K labels.

        score = start[first label] + sum over segments of unary[t, d - 1, k]
                + sum over neighbours of transitions[j, k] + end[last label]

    Time is O(B T (D K + K^2)) in all methods. Derivatives of the log-partition are `expectations`,
    which may be differentiated again.

    Attributes:
        unary: of the segment of label k that starts at t and has d positions, at [t, d - 1, k];
            (B, T, D, K), at least float32, -inf where it is forbidden or too long.
        transitions: (B or 1, K, K), from the label of a segment (row) to that of the next one.
        start: of the first label, (B or 1, K).
        end: of the last label, (B or 1, K).
        lengths: how many of the positions take part, (B,).

    Example:
        >>> import jax.numpy as jnp
        >>> unary = jnp.zeros((1, 3, 2, 1)).at[0, 2, 1].set(-jnp.inf)
        >>> one = jnp.zeros((1, 1))
        >>> segments = Segments(unary, one[None], one, one, jnp.array([3]))
        >>> print(jnp.exp(segments.log_partition()).round(3))  # 1+1+1, 1+2, 2+1
        [3.]

    Source: Sarawagi and Cohen, "Semi-Markov conditional random fields for information extraction",
    2004.
    """

    unary: Float[Array, "B T D K"]
    transitions: Float[Array, "b K K"]
    start: Float[Array, "b2 K"]
    end: Float[Array, "b3 K"]
    lengths: Int[Array, " B"]

    def _following(self) -> Float[Array, "b J K"]:
        """The transitions with the start as a last row."""
        b = max(self.transitions.shape[0], self.start.shape[0])
        k = self.start.shape[1]
        rows = jnp.broadcast_to(self.transitions, (b, k, k))
        return jnp.concatenate([rows, jnp.broadcast_to(self.start, (b, k))[:, None]], 1)

    def log_partition(self) -> Float[Array, " B"]:
        """log Z, (B,); -inf where nothing is possible, 0 without positions."""
        return _log_partition(self.unary, self._following(), self.end, self.lengths)

    def marginals(self) -> Float[Array, "B T D K"]:
        """P(a segment of label k starts at t and has d positions), at [t, d - 1, k]."""
        return self._expectations(False)[1]

    def pairs(self) -> Float[Array, "B T K K"]:
        """P(a segment of label j ends before t, and one of label k starts there), 0 at t = 0."""
        pairs = jnp.moveaxis(self._expectations(True)[2], 0, 1)
        return pairs[:, :, :-1]

    def entropy(self) -> Float[Array, " B"]:
        """-E[log P(segmentation)] in nats, (B,): of each segment given those before it."""
        _, segments, pairs = self._expectations(True)
        labels = structures.entropies(pairs, jnp.sum(pairs, 3))
        first = starts(segments)
        durations = structures.entropies(jnp.swapaxes(segments, 2, 3), first)
        return structures.total(labels.T + durations)

    def read(self, x: Float[Array, "B T D K"]) -> Float[Array, "B T D K"]:
        """What is read of a value: nothing beyond the lengths."""
        return jnp.where(self._inside()[:, :, None, None], x, 0)

    def score(self, x: Float[Array, "B T D K"]) -> Scored:
        """Whether x, of what is read, is a segmentation, and its score: -inf where it takes what is
        forbidden, with a derivative of 0."""
        unknown = jnp.any(jnp.isnan(x), (1, 2, 3))
        single = jnp.all((x == 0) | (x == 1), (1, 2, 3))
        x = structures.ones_of(x)
        first, last = starts(x), ends(x)
        # Each boundary that is reached is left, from 0 on.
        arrived = jnp.pad(jnp.sum(last, 2), ((0, 0), (1, 0)))
        arrived = arrived.at[:, 0].set(1)
        left = jnp.pad(jnp.sum(first, 2), ((0, 0), (0, 1)))
        at_end = jnp.arange(arrived.shape[1])[None] == self.lengths[:, None]
        whole = single & jnp.all(arrived == left + at_end, 1)
        before = jnp.pad(last, ((0, 0), (1, 0), (0, 1)))[:, :-1].at[:, 0, -1].set(1)
        taken = before[..., None] * first[:, :, None]
        matrices = jnp.broadcast_to(self._following()[:, None], taken.shape)
        final = jnp.where(self._last()[:, :, None], last, 0)
        each = (
            structures.summed(self.unary, x),
            structures.summed(matrices, taken),
            structures.summed(jnp.broadcast_to(self.end[:, None], final.shape), final),
        )
        never = jnp.zeros_like(whole)
        value = jnp.zeros(whole.shape, x.dtype)
        for scores, wrong in each:
            axes = tuple(range(2, scores.ndim))
            never |= jnp.any(wrong, (1, *axes))
            value = value + structures.total(jnp.sum(scores, axes))
        return Scored(unknown, whole, jnp.where(never, -jnp.inf, value))

    def drawn(
        self, words: UInt32[Array, "B T D K"]
    ) -> tuple[Float[Array, "B T D K"], Bool[Array, " B"]]:
        """Segments from the first on, and whether any segmentation was possible; no derivative.

        It reads the first word of each position.
        """
        return self._segmentation(log_sum, open_uniform(words[:, :, 0, 0], self.unary.dtype))

    def best(self) -> tuple[Float[Array, "B T D K"], Bool[Array, " B"]]:
        """The most probable segmentation, and whether any is possible; no derivative."""
        return self._segmentation(structures.largest, None)

    def listed(self, k: int) -> tuple[Float[Array, "k B T D K"], Bool[Array, "k B"]]:
        """The k most probable segmentations, best first, and whether there are so many; no
        derivative."""
        fixed = jax.tree.map(lax.stop_gradient, self)
        following = fixed._following()
        choices, there = best_segments(fixed.unary, following, fixed.end, self.lengths, k)
        return self._starting(choices), there

    def neighbour_variance(self, variance: Float[Array, "B T D K"]) -> Float[Array, "B T D K"]:
        """sum over l of Cov(k, l)^2 variance_l, k and l being segments that start at one position.

        That is how uncertain unary potentials move the marginals, to first order.
        """
        return structures.own_variance(self.marginals(), variance, (2, 3))

    def _inside(self) -> Bool[Array, "B T"]:
        return jnp.arange(self.unary.shape[1])[None] < self.lengths[:, None]

    def _last(self) -> Bool[Array, "B T"]:
        return jnp.arange(self.unary.shape[1])[None] == self.lengths[:, None] - 1

    def _expectations(self, each: bool) -> Expectations:
        return _expectations(self.unary, self._following(), self.end, self.lengths, each=each)

    def _segmentation(self, reduce: Reduce, uniform: Array | None) -> tuple[Array, Array]:
        fixed = jax.tree.map(lax.stop_gradient, self)
        following = fixed._following()
        choices, possible = _chosen(
            reduce, fixed.unary, following, fixed.end, self.lengths, uniform
        )
        return self._starting(choices), possible

    def _starting(self, choices: Int[Array, "*n B T"]) -> Float[Array, "*n B T D K"]:
        """Segments of numbers as (K, D), none where they are -1."""
        choices = jnp.where(self._inside(), choices, -1)
        most, k = self.unary.shape[2:]
        segments = jax.nn.one_hot(choices, k * most, dtype=self.unary.dtype)
        return jnp.swapaxes(segments.reshape(*choices.shape, k, most), -1, -2)


def _backwards(
    unary: Array, following: Array, end: Array, lengths: Array, reduce: Reduce
) -> tuple[Float[Array, " B"], Float[Array, "T B D K"]]:
    """log Z, or the best score, and u at each position, up to a constant."""
    b, length, most, k = unary.shape

    @jax.checkpoint
    def reduced(u: Array) -> Array:
        return reduce(following + reduce(u, 1)[:, None], 2)

    def boundary(at: Array | int, value: Array) -> Array:
        return jnp.where((lengths == at)[:, None], end, value)

    def step(later: Array, inputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, ...]]:
        unary, at = inputs
        u = unary + later
        before = reduced(u)
        here = boundary(at, before[:, :k])
        later = jnp.concatenate([here[:, None], later[:, :-1]], 1)
        largest = structures.most(later, (1, 2))
        return later - largest, (u, before[:, k], largest[:, 0, 0])

    last = boundary(length, jnp.full((b, k), -jnp.inf, unary.dtype))
    later = jnp.full((b, most, k), -jnp.inf, unary.dtype).at[:, 0].set(last)
    inputs = jnp.moveaxis(unary, 1, 0), jnp.arange(length)
    _, (u, firsts, constants) = lax.scan(step, later, inputs, reverse=True)
    value = firsts[0] + structures.total(constants[1:].T)
    value = jnp.where(value == -jnp.inf, -jnp.inf, value)  # a constant, of derivative 0
    return jnp.where(lengths == 0, 0, value), u


# Compiled once for all calls that are not compiled with what is around them; in a program, these
# are the operations they consist of.
@partial(jax.jit, inline=True)
def _value(unary: Array, following: Array, end: Array, lengths: Array) -> Array:
    return _backwards(unary, following, end, lengths, log_sum)[0]


@partial(jax.jit, static_argnums=0, inline=True)
def _chosen(
    reduce: Reduce,
    unary: Array,
    following: Array,
    end: Array,
    lengths: Array,
    uniform: Array | None,
) -> tuple[Array, Array]:
    """What starts at each position, numbered as (K, D), -1 within segments; and whether any can."""
    value, u = _backwards(unary, following, end, lengths, reduce)
    b, _, most, k = unary.shape
    matrices = jnp.broadcast_to(following, (b, k + 1, k))

    def step(carry: tuple[Array, Array], inputs: Tree) -> tuple[Tree, Array]:
        label, left = carry
        u, uniform = inputs
        logits = structures.row_of(matrices, label)[:, None] + u
        choice = structures.chosen(jnp.swapaxes(logits, 1, 2).reshape(b, k * most), uniform)
        here = left == 0
        label = jnp.where(here, choice // most, label)
        left = jnp.where(here, choice % most, left - 1)
        return (label, left), jnp.where(here, choice, -1)

    start = jnp.full(b, k, jnp.int32), jnp.zeros(b, jnp.int32)
    _, choices = lax.scan(step, start, (u, None if uniform is None else uniform.T))
    return choices.T, jnp.isfinite(value)


@jax.custom_jvp
def _log_partition(unary: Array, following: Array, end: Array, lengths: Array) -> Array:
    return _value(unary, following, end, lengths)


@_log_partition.defjvp
def _log_partition_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    value, segments, pairs = _expectations(*primals, each=False)
    by_unary, by_following, by_end, _ = tangents
    length = segments.shape[1]
    last = jnp.arange(length)[None] == primals[3][:, None] - 1
    final = jnp.sum(jnp.where(last[:, :, None], ends(segments), 0), 1)
    change = jnp.sum(segments * by_unary, (1, 2, 3)) + jnp.sum(pairs * by_following, (1, 2))
    return value, change + jnp.sum(final * by_end, 1)


@partial(jax.jit, static_argnames="each", inline=True)
def _expectations(
    unary: Array, following: Array, end: Array, lengths: Array, each: bool
) -> Expectations:
    value, u = _backwards(unary, following, end, lengths, log_sum)
    b, length, most, k = unary.shape

    @jax.checkpoint
    def tables(u: Array) -> tuple[Array, Array]:
        by_label = following + log_sum(u, 1)[:, None]
        return structures.shares(by_label, 2), structures.shares(u, 1)

    def step(carry: tuple[Array, Array | None], inputs: tuple[Array, Array]) -> tuple[Tree, Tree]:
        arriving, sums = carry  # probabilities of a boundary here, 1, 2, … positions on, by label
        u, first = inputs
        labels, durations = tables(u)
        before = jnp.pad(arriving[:, 0], ((0, 0), (0, 1)))
        before = jnp.where(first, jax.nn.one_hot(k, k + 1, dtype=u.dtype)[None], before)
        pairs = before[:, :, None] * labels
        segments = jnp.sum(pairs, 1)[:, None] * durations
        arriving = jnp.pad(arriving[:, 1:], ((0, 0), (0, 1), (0, 0))) + segments
        arriving = structures.normalised(arriving, (1, 2))  # there is one next boundary
        if sums is None:
            return (arriving, None), (segments, pairs)
        return (arriving, sums + pairs), (segments, None)

    arriving = jnp.zeros((b, most, k), unary.dtype)
    sums = None if each else jnp.zeros((b, k + 1, k), unary.dtype)
    (_, sums), (segments, pairs) = lax.scan(step, (arriving, sums), (u, jnp.arange(length) == 0))
    found = pairs if sums is None else sums
    return value, jnp.moveaxis(segments, 0, 1), found
