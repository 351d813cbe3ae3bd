"""Sequences cut into labelled segments, of which neighbours touch ([A] section 3)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Num

from cgjax.kernels import segments
from cgjax.nodes import _structure_checks as checks
from cgjax.nodes._structured import Structured

_POTENTIALS = ("transitions", "start", "end")


@dataclasses.dataclass(frozen=True, eq=False)
class SemiMarkov(Structured):
    """A sequence of T positions cut into segments with K labels and at most D positions each.

        P = exp(sum over segments of e[t, d - 1, k] + sum over neighbours of transitions[j, k]
                + start[first label] + end[last label]) / Z

    for segments of label k that start at position t and have d positions: a semi-Markov CRF. The
    last three axes of e are the positions, the durations from 1 to D, and the labels; `scores`
    makes them of scores of labels at positions. The whole sequence is one node.

    Its statistic has the shape of e: 1 where a segment starts, at its duration and label, and 0
    elsewhere; so it says everything about the segmentation. Its activation is the probability of
    each segment, exactly. `labels` turns either into what labels have at each position.

    A segment ends within the sequence, whatever e holds for longer ones. -inf in e or in a
    parameter forbids a segment or a step. Segments of one label may follow each other, unless
    transitions forbid it. With D = 1 this is a `LinearChain`. Beyond the length of a sequence the
    statistic, marginals, samples and gradients are 0, and `log_prob` does not read it; a sequence
    without positions has the log-partition 0.

    Everything is computed on logarithms in at least float32, in time O(T (D K + K^2)) and memory
    O(T D K) (`cgjax.kernels.segments`).

    Args:
        transitions: `transitions[j, k]` is the potential of a segment of label k behind one of
            label j, of shape (K, K); or (..., 1, K, K), one matrix for each sequence of a batch.
        max_duration: D, how many positions a segment has at most.
        start: potentials of the first label, (..., K); by default 0.
        end: potentials of the last label, (..., K); by default 0.
        lengths: how many of the first positions take part, integers (...); by default all.

    Raises:
        ValueError: the longest duration is below 1; the shapes do not fit together or to e; a
            length is below 0 or above T; a potential is NaN or inf; known potentials leave a
            sequence without a possible segmentation. Where those are traced, its log-partition is
            -inf, its marginals are 0, and its samples NaN.
        TypeError: lengths or the longest duration are no integers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> words = SemiMarkov(-jnp.eye(2), max_duration=3)  # labels tend to change
        >>> e = words.scores(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
        >>> e.shape
        (4, 3, 2)
        >>> best = words.mode(e)
        >>> print(words.labels(best)[:, 1], best.sum((-2, -1)))  # labels, and where segments start
        [0. 0. 1. 1.] [1. 0. 1. 0.]
        >>> print(words.labels(words.activation(e))[:, 1].round(2))
        [0.22 0.11 0.74 0.96]

    Source: [A] section 3, alternative inference in the last component; Sarawagi and Cohen,
    "Semi-Markov conditional random fields for information extraction", 2004.
    """

    touching: ClassVar[str | None] = "neighbouring segments"
    axes: ClassVar[tuple[str, ...]] = ("positions", "durations", "states")
    extra_axes: ClassVar[Mapping[str, int]] = {
        "transitions": 0,
        "start": -2,
        "end": -2,
        "lengths": -3,
    }

    transitions: ArrayLike
    max_duration: int = dataclasses.field(metadata={"static": True})
    start: ArrayLike | None = None
    end: ArrayLike | None = None
    lengths: ArrayLike | None = None

    def __post_init__(self) -> None:
        for name in checks.given(self, _POTENTIALS):
            checks.check_potentials(self, name)
        shapes = "(K, K) or (..., 1, K, K), from the label of the row to that of the column"
        checks.check_matrices(self, "transitions", shapes)
        for name in checks.given(self, ("start", "end")):
            checks.check_same_states(self, name, "transitions")
        if self.lengths is not None:
            checks.check_integers(self, "lengths")
        most = self.max_duration
        if not isinstance(most, int) or isinstance(most, bool):
            raise TypeError(
                f"SemiMarkov.max_duration is an integer, the most positions of a segment, got "
                f"{most!r}"
            )
        if most < 1:
            raise ValueError(f"SemiMarkov.max_duration is at least 1, got {most}")

    def scores(self, positions: Num[ArrayLike, "..."]) -> Float[Array, "..."]:
        """Natural parameters of scores of labels at positions: the sum of those of a segment.

        Scores of durations may be added to them, (D, K).

        Args:
            positions: a score for each label at each position, (..., T, K).

        Returns:
            (..., T, D, K), whose gradient by `positions` is the transposed sum, `labels`. What
            reaches beyond the last position is impossible, whatever stands there.

        Example:
            >>> import jax.numpy as jnp
            >>> print(SemiMarkov(jnp.zeros((1, 1)), 2).scores(jnp.array([[1.0], [2.0]]))[0])
            [[1.]
             [3.]]
        """
        *batch, length, k = _with_axes("scores", positions, ("positions", "states"))
        flat = jnp.asarray(positions).reshape(math.prod(batch), length, k)
        found = segments.totals(flat, self.max_duration)
        return found.reshape(*batch, *found.shape[1:])

    def labels(self, segments_of: Num[ArrayLike, "..."]) -> Float[Array, "..."]:
        """What each label has at each position, (..., T, K).

        Args:
            segments_of: a value of the statistic, of which this makes one-hot rows; or
                probabilities of segments, of which it makes those of labels: (..., T, D, K).

        Example:
            >>> import jax.numpy as jnp
            >>> family = SemiMarkov(jnp.zeros((2, 2)), 2)
            >>> x = jnp.zeros((2, 2, 2)).at[0, 1, 1].set(1.0)  # one segment, of both positions
            >>> print(family.labels(x))
            [[0. 1.]
             [0. 1.]]
        """
        shape = _with_axes("labels", segments_of, self.axes)
        flat = jnp.asarray(segments_of).reshape(math.prod(shape[:-3]), *shape[-3:])
        found = segments.labels(flat)
        return found.reshape(*shape[:-2], shape[-1])

    def pair_marginals(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """P(a segment of label j ends and one of label k follows), shape (..., T - 1, K, K).

        Entry t belongs to the boundary before position t + 1. At least float32.

        Args:
            e: natural parameter, (..., T, D, K).

        Example:
            >>> import jax.numpy as jnp
            >>> family = SemiMarkov(jnp.zeros((1, 1)), 2)
            >>> print(family.pair_marginals(jnp.zeros((2, 2, 1))))  # 1 + 1 or 2
            [[[0.5]]]
        """
        pairs = self._potentials(e).pairs()[:, 1:]
        return pairs.reshape(*self._batch(e), *pairs.shape[1:])

    def conditioned(
        self, e: Num[ArrayLike, "*nodes"], x: Num[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """e with -inf for all segments that those which are known by x leave no room for.

        What is known of a start and a duration is the label of such a segment, one-hot, or that
        there is none, 0. Where x is NaN nothing is known.
        """
        e = self.natural_parameter(e)
        rows = ~jnp.isnan(x).any(-1, keepdims=True)
        there = (rows & (x == 1)).astype(jnp.float32)
        absent = rows & (x == 0)
        wrong = rows & ~((x == 0) | (x == 1)).all(-1, keepdims=True)
        there = there.reshape(math.prod(e.shape[:-3]), *e.shape[-3:])
        taken = jnp.sum(segments.labels(there), -1, keepdims=True)  # how many lie at each position
        inside = segments.totals(taken, self.max_duration).reshape(*e.shape[:-1], 1)
        durations = jnp.arange(1, self.max_duration + 1).reshape(*(1,) * (e.ndim - 2), -1, 1)
        # Of what is known to be there, one lies at each of its positions: else two overlap.
        fits = jnp.where(rows & (x == 1), inside == durations, inside == 0)
        nothing = wrong.any((-3, -2, -1), keepdims=True)
        return jnp.where(fits & ~absent & ~nothing, e, -jnp.inf)

    def num_states(self, shape: tuple[int, ...]) -> int:
        """The number of segmentations of T positions; of shorter ones, there are as many places."""
        return _counts(shape, self.max_duration)[-1]

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The segmentations of these numbers, by the duration and the label of each segment.

        Sequences that are shorter have fewer: what is left over is no value, and impossible.
        """
        length, most, k = shape[-3:]
        counts = np.minimum(_counts(shape, most), np.iinfo(np.int32).max)
        # Of what is left, how many begin with a segment of at most so many positions.
        lead = np.zeros((length + 1, most))
        for n in range(1, length + 1):
            for d in range(1, min(n, most) + 1):
                lead[n, d - 1] = k * counts[n - d]
        up_to = jnp.asarray(np.minimum(np.cumsum(lead, 1), np.iinfo(np.int32).max), jnp.int32)
        counts = jnp.asarray(counts, jnp.int32)
        number = jnp.broadcast_to(numbers[..., 0, 0, 0], shape[:-3]).astype(jnp.int32)
        left = jnp.broadcast_to(self._lengths(shape), shape[:-3])
        exists = number < counts[left]
        going, found = jnp.zeros(shape[:-3], jnp.int32), []
        for _ in range(length):
            here = (going == 0) & (left > 0) & exists
            duration = jnp.sum(number[..., None] >= up_to[left], -1)
            before = jnp.where(duration > 0, up_to[left, jnp.maximum(duration - 1, 0)], 0)
            rest = jnp.maximum(counts[jnp.maximum(left - duration - 1, 0)], 1)
            label, within = jnp.divmod(number - before, rest)
            choice = jnp.where(here, duration * k + label, -1)
            found.append(jax.nn.one_hot(choice, most * k, dtype=float))
            number = jnp.where(here, within, number)
            going, left = jnp.where(here, duration, going - 1), jnp.maximum(left - 1, 0)
        return jnp.stack(found, -2).reshape(shape)

    def _lengths(self, shape: tuple[int, ...]) -> Int[Array, "..."]:
        return jnp.asarray(shape[-3] if self.lengths is None else self.lengths, jnp.int32)

    def _variance(self, marginals: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        return marginals * (1 - marginals)

    def _check_shapes(self, shape: tuple[int, ...]) -> None:
        *batch, length, durations, _ = shape
        if not length or durations != self.max_duration:
            raise ValueError(
                "SemiMarkov needs a natural parameter of shape (..., positions, "
                f"{self.max_duration}, states), with at least one position and a score for each "
                f"duration up to max_duration, got shape {shape}; `scores` makes one of scores of "
                "labels at positions"
            )
        checks.check_states(self, "transitions", shape, "positions, durations and states")
        got = np.shape(self.transitions)
        if len(got) > 2 and got[-3] != 1:
            raise ValueError(
                f"SemiMarkov.transitions has shape {got}; give one matrix, (K, K), or one for each "
                "sequence of a batch, (..., 1, K, K)"
            )
        own = {"transitions": 3, "start": 1, "end": 1, "lengths": 0}
        checks.check_leading(self, own, tuple(batch), shape)
        checks.check_lengths(self, self.lengths, length, shape)

    def _check_possible(self, e: Array) -> None:
        never = checks.forbidden(self, e, _POTENTIALS, ("lengths",))
        if never is None:
            return
        *batch, length, most, k = e.shape
        lengths = np.asarray(length if self.lengths is None else self.lengths)
        lengths = np.broadcast_to(lengths, batch)
        allowed = np.broadcast_to(~never["transitions"], (*batch, 1, k, k))[..., 0, :, :]
        begin, end = (~never.get(name, np.zeros(k, bool)) for name in ("start", "end"))
        reached = np.zeros((length + 1, *batch, k), bool)  # a segment of this label ends here
        possible = lengths == 0
        for t in range(length + 1):
            possible = possible | ((lengths == t) & (reached[t] & end).any(-1))
            into = (reached[t][..., None] & allowed).any(-2) if t else begin
            for d in range(1, min(most, length - t) + 1):
                reached[t + d] |= into & ~never["e"][..., t, d - 1, :]
        names = "`transitions`, `start`, `end`"
        checks.require_possible(self, possible, names, ("sequences", "segmentation"))

    def _potentials(self, e: Num[ArrayLike, "*nodes"]) -> segments.Segments:
        unary, e = self._wide(e), jnp.asarray(e)
        length, most, k = e.shape[-3:]
        lengths = self._of_batch(self._lengths(e.shape), 0, e)
        lengths = jnp.broadcast_to(lengths, unary.shape[:1])
        last = jnp.arange(length)[:, None] + jnp.arange(most)[None]
        fits = last[None] < lengths[:, None, None]

        def flat(parameter: ArrayLike | None, own: int) -> Array:
            parameter = np.zeros(k) if parameter is None else parameter
            return self._of_batch(jnp.asarray(parameter, unary.dtype), own, e)

        transitions = jnp.asarray(self.transitions)
        transitions = flat(transitions[None] if transitions.ndim == 2 else transitions, 3)[:, 0]
        return segments.Segments(
            jnp.where(fits[..., None], unary, -jnp.inf),
            transitions,
            flat(self.start, 1),
            flat(self.end, 1),
            lengths,
        )


def _with_axes(method: str, array: ArrayLike, axes: tuple[str, ...]) -> tuple[int, ...]:
    if jnp.ndim(array) < len(axes):
        raise ValueError(
            f"SemiMarkov.{method} needs an array of shape (..., {', '.join(axes)}), got shape "
            f"{jnp.shape(array)}"
        )
    return jnp.shape(array)


def _counts(shape: tuple[int, ...], most: int) -> list[int]:
    """How many segmentations 0 to T positions have."""
    length, _, k = shape[-3:]
    counts = [1]
    for n in range(1, length + 1):
        counts.append(k * sum(counts[max(n - most, 0) : n]))
    return counts
