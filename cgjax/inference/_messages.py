"""Loopy belief propagation: messages between variables and the factors that they are in.

    r_{f->v}(x_v) = sum over x_{f - v} of F_f(x_f) prod_{u in f - v} q_{u->f}(x_u)
    q_{v->f}(x_v) = prod_{g with v, g != f} r_{g->v}(x_v)

All messages of one round are made at once (flooding), on logarithms, each normalised. Factors of
equal shape are one array, and so are the messages to variables with as many states, so that what is
compiled grows with the number of different shapes, not with the number of factors or rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# By the number of states of the variables: (edges, states).
Messages = dict[int, jax.Array]


class Batch(NamedTuple):
    """Factors of one shape.

    Attributes:
        variables: (factors, axes): the variable of each axis.
        sizes: the number of states of each axis.
    """

    variables: np.ndarray
    sizes: tuple[int, ...]


class _Bucket(NamedTuple):
    """Variables with as many states, and about as many edges.

    Attributes:
        variables: (variables,).
        edges: (variables, edges), among those of this number of states; the rest is padding, the
            number of an edge that there is not.
    """

    variables: np.ndarray
    edges: np.ndarray


class Schedule(NamedTuple):
    """How long messages are passed.

    Attributes:
        iterations: the most rounds.
        damping: how much of the last message stays.
        tolerance: the change of a message, as a probability, below which they have converged; None
            for all rounds, whatever they change.
    """

    iterations: int
    damping: float
    tolerance: float | None


class State(NamedTuple):
    """The messages from factors to variables after some rounds.

    Attributes:
        messages: log-probabilities.
        iterations: the number of rounds.
        residual: the largest change of a probability in the last one, before it was damped.
    """

    messages: Messages
    iterations: jax.Array
    residual: jax.Array


class FactorGraph:
    """Which variable is in which factor, as arrays of indices.

    Args:
        batches: the factors.
        states: the number of states of each variable.
    """

    def __init__(self, batches: Sequence[Batch], states: Sequence[int]):
        self.batches = [*batches]
        # Of each axis of each batch the number of states, and the place of its first edge.
        self.places: list[list[int]] = []
        ends: dict[int, list[np.ndarray]] = {}
        self.counts = dict.fromkeys(states, 0)
        for batch in batches:
            self.places.append([])
            for axis, size in enumerate(batch.sizes):
                self.places[-1].append(self.counts[size])
                self.counts[size] += len(batch.variables)
                ends.setdefault(size, []).append(batch.variables[:, axis])
        self.buckets: dict[int, list[_Bucket]] = {}
        self.back: dict[int, np.ndarray] = {}  # of each edge, its place in all buckets
        for size, found in ends.items():
            self.buckets[size] = _buckets(np.concatenate(found))
            edges = np.concatenate([b.edges.reshape(-1) for b in self.buckets[size]])
            self.back[size] = np.argsort(edges, kind="stable")[: self.counts[size]]

    def run(self, tables: Sequence[jax.Array], schedule: Schedule) -> State:
        """Passes messages along all edges, from uniform ones on.

        Args:
            tables: the logarithms of the factors of each batch: (factors, *sizes).
            schedule: how long.
        """
        dtype = jnp.result_type(*tables)
        messages = {
            size: jnp.full((count, size), -math.log(size), dtype)
            for size, count in self.counts.items()
            if count
        }
        state = State(messages, jnp.int32(0), jnp.asarray(jnp.inf, dtype))

        def step(state: State) -> State:
            new = self.round(tables, state.messages)
            changes = [
                jnp.abs(jnp.exp(new[s]) - jnp.exp(old)).max() for s, old in state.messages.items()
            ]
            if schedule.damping:
                new = {
                    s: _damped(new[s], old, schedule.damping) for s, old in state.messages.items()
                }
            return State(new, state.iterations + 1, jnp.stack(changes).max())

        if not messages:
            return state._replace(residual=jnp.zeros((), dtype))
        if schedule.tolerance is None:
            return lax.scan(lambda s, _: (step(s), None), state, None, schedule.iterations)[0]
        tolerance = schedule.tolerance

        def goes_on(state: State) -> jax.Array:
            return (state.iterations < schedule.iterations) & (state.residual > tolerance)

        return lax.while_loop(goes_on, step, state)

    def round(self, tables: Sequence[jax.Array], messages: Messages) -> Messages:
        """All messages from factors to variables, given the last ones."""
        incoming = self.to_factors(messages)
        found: dict[int, list[jax.Array]] = {}
        for number, (batch, table) in enumerate(zip(self.batches, tables, strict=True)):
            outgoing = _to_variables(table, self.of_batch(incoming, number))
            for size, message in zip(batch.sizes, outgoing, strict=True):
                found.setdefault(size, []).append(_normalised(message))
        return {size: jnp.concatenate(parts) for size, parts in found.items()}

    def to_factors(self, messages: Messages) -> Messages:
        """The messages from variables to factors, in the order of the edges."""
        found = {}
        for size, own in messages.items():
            parts = [_others(x).reshape(-1, size) for x in self._at_variables(own, size)]
            found[size] = _from_largest(jnp.concatenate(parts)[self.back[size]])
        return found

    def of_batch(self, messages: Messages, number: int) -> list[jax.Array]:
        """The messages of all factors of a batch, for each axis: (factors, states)."""
        batch = self.batches[number]
        pairs = zip(batch.sizes, self.places[number], strict=True)
        return [messages[size][at : at + len(batch.variables)] for size, at in pairs]

    def beliefs(self, messages: Messages) -> dict[int, tuple[np.ndarray, jax.Array]]:
        """By their numbers of states: variables, and the logarithms of their distributions."""
        found = {}
        for size, own in messages.items():
            parts = [_normalised(x.sum(1)) for x in self._at_variables(own, size)]
            numbers = np.concatenate([b.variables for b in self.buckets[size]])
            found[size] = numbers, jnp.concatenate(parts)
        return found

    def joint(self, tables: Sequence[jax.Array], messages: Messages, number: int) -> jax.Array:
        """The joint distributions of the variables of each factor of a batch: (factors, *sizes)."""
        incoming = self.of_batch(self.to_factors(messages), number)
        log = tables[number] + _outer(incoming)
        flat = _normalised(log.reshape(len(log), -1))
        return jnp.exp(flat).reshape(log.shape)

    def _at_variables(self, messages: jax.Array, size: int) -> list[jax.Array]:
        """What comes in at the variables of each bucket: (variables, edges, states)."""
        none = jnp.zeros((1, size), messages.dtype)
        padded = jnp.concatenate([messages, none])
        return [padded[bucket.edges] for bucket in self.buckets[size]]


def _buckets(ends: np.ndarray) -> list[_Bucket]:
    """Variables by their number of edges, rounded up to a power of 2.

    Args:
        ends: the variable of each edge.
    """
    order = np.argsort(ends, kind="stable")
    numbers, starts, degrees = np.unique(ends[order], return_index=True, return_counts=True)
    widths = 2 ** np.ceil(np.log2(degrees)).astype(int)
    found = []
    for width in np.unique(widths):
        some = widths == width
        place = starts[some, None] + np.arange(width)
        inside = np.arange(width) < degrees[some, None]
        edges = np.where(inside, order[np.minimum(place, len(ends) - 1)], len(ends))
        found.append(_Bucket(numbers[some], edges))
    return found


def _others(x: jax.Array) -> jax.Array:
    """For each edge the sum over all others: (variables, edges, states).

    Of sums from both sides: nothing is subtracted, which would round, and fail where a state is
    impossible.
    """
    if x.shape[1] == 1:
        return jnp.zeros_like(x)
    none = jnp.zeros_like(x[:, :1])
    before = jnp.cumsum(jnp.concatenate([none, x[:, :-1]], 1), 1)
    after = jnp.cumsum(jnp.concatenate([none, x[:, :0:-1]], 1), 1)[:, ::-1]
    return before + after


def _to_variables(table: jax.Array, incoming: Sequence[jax.Array]) -> list[jax.Array]:
    """The messages of factors to each of their variables: a list of (factors, states).

    Half of the axes is summed out, then the other half, and so on: all messages together take about
    twice the work of one.
    """
    if len(incoming) == 1:
        return [table]
    half = len(incoming) // 2
    first, second = incoming[:half], incoming[half:]
    lead, rest = table.shape[: 1 + half], table.shape[1 + half :]
    of_first = _outer(first).reshape(*lead, *(1,) * len(rest))
    of_second = _outer(second).reshape(lead[0], *(1,) * half, *rest)
    axes = range(1, table.ndim)
    left = _log_sum(table + of_second, tuple(axes[half:]))
    right = _log_sum(table + of_first, tuple(axes[:half]))
    return [*_to_variables(left, first), *_to_variables(right, second)]


def _outer(incoming: Sequence[jax.Array]) -> jax.Array:
    """The sum of messages for all joint states: (factors, *states)."""
    total = incoming[0]
    for message in incoming[1:]:
        lead = (len(message), *(1,) * (total.ndim - 1))
        total = total[..., None] + message.reshape(*lead, -1)
    return total


def _log_sum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """log sum exp, -inf with derivative 0 where nothing is possible."""
    largest = lax.stop_gradient(x.max(axes, keepdims=True))
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    total = jnp.exp(x - largest).sum(axes)
    possible = total > 0
    log = jnp.log(jnp.where(possible, total, 1)) + largest.reshape(total.shape)
    return jnp.where(jnp.isnan(total), jnp.nan, jnp.where(possible, log, -jnp.inf))


def _from_largest(message: jax.Array) -> jax.Array:
    """Up to a constant, with a largest element of 0: sums of small numbers are rounded less."""
    largest = lax.stop_gradient(message.max(1, keepdims=True))
    return message - jnp.where(jnp.isfinite(largest), largest, 0)


def _normalised(message: jax.Array) -> jax.Array:
    """Log-probabilities; all -inf where nothing is possible."""
    total = _log_sum(message, (1,))[:, None]
    return message - jnp.where(total > -jnp.inf, total, 0)


def _damped(new: jax.Array, old: jax.Array, damping: float) -> jax.Array:
    """The logarithm of a mean of probabilities."""
    pair = jnp.stack([new + math.log1p(-damping), old + math.log(damping)])
    return _log_sum(pair, (0,))
