"""Computes the factors of a model, and the values that are asked about, for all their states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._walk import Records, walk
from cgjax.inference._chunks import outer, weighted
from cgjax.inference._factors import Factor, Model, Question, Scope
from cgjax.inference._scaled import Table, normalised, of_logarithm, scaled
from cgjax.inference._states import EVIDENCE, WEIGHTED, Conditional, Given

# Configurations are worked through in chunks of at most about this many array elements.
_CHUNK_ELEMENTS = 1 << 21
# The numbers of so many configurations are written into the program, more are computed.
_MOST_WRITTEN = 1 << 12

# What a walk finds at some configurations, which come first.
Found = tuple[list[jax.Array], Records]


class Conditionals:
    """The tables of a model, as they are traced.

    Args:
        model: the factors and the questions.
        arrays: the flat arguments of the network.
        logs: whether tables have exponents.
    """

    # Whether of nodes that are not listed the log-probability of the mode is recorded.
    best = False

    def __init__(self, model: Model, arrays: Sequence[jax.Array], logs: bool):
        self.model, self.logs = model, logs
        self.fixed = model.parts.fixed(arrays)
        self._listed = {f.node for f in model.factors if f.own is not None}
        self._averaged: set[int] = set()
        self._of_node: dict[int, dict[Scope, Conditional]] = {}
        self._scopes: dict[int, dict[Scope, None]] = {}
        for factor in model.factors:
            self._scopes.setdefault(factor.node, {})[factor.parents] = None
        for question in model.questions:
            node = model.linear.nodes[question.value]
            if question.mean and node is not None:
                self._averaged.add(node)
                self._scopes.setdefault(node, {})[question.scope] = None

    # -- factors

    def tables(self) -> list[Table]:
        """The tables of all factors."""
        return list(map(self.table, self.model.factors))

    def table(self, factor: Factor) -> Table:
        """The table of a factor; the axis of its own piece comes first."""
        weights = None
        if self.model.sites[factor.node].kind == WEIGHTED:
            weights = self.model.parts.handed(factor.node, self.fixed)
        found = self.of_node(factor.node)[factor.parents]
        axes = factor.parents if factor.own is None else (factor.own, *factor.parents)
        shape = [self.model.pieces[p].size for p in axes]
        mantissa, exponent = self._entries(factor, found, weights)
        return Table(
            axes, mantissa.reshape(shape), None if exponent is None else exponent.reshape(shape)
        )

    def _entries(
        self, factor: Factor, found: Conditional, weights: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        """The entries of the table of a factor, in one row: mantissas and exponents."""
        if factor.own is None:
            assert found.log is not None  # it is observed
            log = found.log.reshape(len(found.log), -1)[:, np.array(factor.elements)].sum(1)
            return of_logarithm(log)
        kind = self.model.kinds[factor.node]
        some = slice(None)
        if len(factor.elements) < kind.num_nodes:
            some = np.array(factor.elements)
        absent = (found.present <= 0)[:, None, None]

        def laid(x: jax.Array, otherwise: float) -> jax.Array:
            """(states, nodes, configurations); in a branch that was not taken any law serves."""
            x = jnp.where(absent, otherwise, x.reshape(len(x), kind.states, kind.num_nodes))
            return jnp.moveaxis(x[:, :, some], 0, -1)

        assert found.probabilities is not None  # they are listed
        p = laid(found.probabilities, 1 / kind.states)
        if not self.logs:
            return outer(p[None])[0].reshape(-1), None
        assert found.log is not None  # they are asked for
        log = laid(found.log, -math.log(kind.states))
        if weights is not None:
            weights = weights.reshape(kind.num_nodes, kind.states).T[:, some]
            mantissa, exponent = of_logarithm(log + weights[:, :, None])
        else:
            mantissa, exponent = scaled(p, log)
        if len(factor.elements) != 1:
            mantissa, exponent = normalised(mantissa, exponent)
        return outer(mantissa[None])[0].reshape(-1), _outer_sum(exponent).reshape(-1)

    def of_node(self, node: int) -> dict[Scope, Conditional]:
        """What is recorded about a component, for each set of parents that is needed."""
        if node not in self._of_node:
            scopes = list(self._scopes[node])
            _, records = self.walked([], node, scopes)
            ends = np.cumsum([self.size(s) for s in scopes])
            parts = zip(scopes, ends, strict=True)
            self._of_node[node] = {
                scope: jax.tree.map(lambda x: x[end - self.size(scope) : end], records[node])  # noqa: B023
                for scope, end in parts
            }
        return self._of_node[node]

    # -- questions

    def expectations(self, laws: Mapping[Scope, jax.Array]) -> list[jax.Array]:
        """The expectation of every value, given the joint distributions of the pieces in scopes."""
        by_value: dict[int, list[Question]] = {}
        for question in self.model.questions:
            by_value.setdefault(question.value, []).append(question)
        together: dict[tuple[Scope, ...], list[int]] = {}
        for value, questions in by_value.items():
            if scopes := tuple(dict.fromkeys(q.scope for q in questions if not q.mean)):
                together.setdefault(scopes, []).append(value)
        found: dict[tuple[int, Scope], jax.Array] = {}
        for scopes, values in together.items():
            results = self.averaged(values, scopes, laws)
            found.update(results)
        return [self.assembled(k, by_value[k], found, laws) for k in sorted(by_value)]

    def averaged(
        self, values: Sequence[int], scopes: Sequence[Scope], laws: Mapping[Scope, jax.Array]
    ) -> dict[tuple[int, Scope], jax.Array]:
        """The averages of whole values over some scopes."""
        results, _ = self.walked(values, None, scopes)
        found, start = {}, 0
        for scope in scopes:
            end = start + self.size(scope)
            for k, x in zip(values, results, strict=True):
                found[k, scope] = _average(laws, scope, x[start:end])
            start = end
        return found

    def assembled(
        self,
        value: int,
        questions: Sequence[Question],
        found: Mapping[tuple[int, Scope], jax.Array],
        laws: Mapping[Scope, jax.Array],
    ) -> jax.Array:
        """The expectation of a value, from those of its elements."""
        node = self.model.linear.nodes[value]
        parts = []
        for question in questions:
            if question.mean and node is not None:
                record = self.of_node(node)[question.scope]
                assert record.mean is not None  # it is not observed
                whole = _average(laws, question.scope, record.mean)
            else:
                whole = found[value, question.scope]
            parts.append(whole if len(questions) == 1 else whole.reshape(-1)[question.places])
        if len(parts) == 1:
            return parts[0]
        places = np.concatenate([q.places for q in questions])
        shape = self.model.linear.values.result_shapes[value]
        return jnp.concatenate(parts)[np.argsort(places)].reshape(shape)

    # -- configurations

    def size(self, scope: Scope) -> int:
        """The number of joint states."""
        return math.prod(self.model.pieces[p].size for p in scope)

    def walked(self, values: Sequence[int], target: int | None, scopes: Sequence[Scope]) -> Found:
        """Values, and what is recorded about a component, at all configurations of some scopes."""
        parts, sites = self.model.parts, self.model.sites
        targets = () if target is None else (target,)
        part = parts.part([parts.results[k] for k in values], targets)
        new = {i: k for k, i in enumerate(part.nodes)}
        visitor = Given(
            targets=frozenset(new[i] for i in targets),
            listing=target in self._listed,
            averaging=target in self._averaged,
            logs=self.logs,
            best=self.best,
        )
        known = {new[i]: parts.handed(i, self.fixed) for i in targets if sites[i].kind == EVIDENCE}
        arguments = part.at(self.fixed)
        given = [i for i in part.nodes if i in self.model.kinds and i != target]
        given += [i for i in targets if any(self._has(s, i) for s in scopes)]

        def one(states: Mapping[int, jax.Array]) -> Found:
            at = {new[i]: x for i, x in states.items()} | known
            out, records = walk(part.program, visitor, arguments, given=at)
            return out, {i: records[new[i]] for i in targets}

        width = 1 + sum(math.prod(sites[i].shape) for i in part.nodes)
        shapes = self.model.linear.values.result_shapes
        width += sum(math.prod(shapes[k]) for k in values)
        count = sum(map(self.size, scopes))
        if not given:
            same = one({})
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), same)
        every = jax.vmap(one)
        if len(scopes) > 1 or count * width <= _CHUNK_ELEMENTS:
            each = [self.states(s, _numbers(self.size(s)), given) for s in scopes]
            return every(jax.tree.map(_concatenated, *each))
        [scope] = scopes
        # Computed again for the derivative: what a chunk needs on the way is not stored.
        part_of = jax.checkpoint(lambda numbers: every(self.states(scope, numbers, given)))
        size = max(1, _CHUNK_ELEMENTS // width)
        num_chunks = -(-count // size)
        numbers = jnp.minimum(jnp.arange(num_chunks * size), count - 1).reshape(num_chunks, size)
        found = lax.map(part_of, numbers)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)

    def _has(self, scope: Scope, component: int) -> bool:
        return any(self.model.pieces[p].component == component for p in scope)

    def states(self, scope: Scope, numbers: Any, given: Sequence[int]) -> dict[int, Any]:
        """The numbers of the nodes' states, for numbers of configurations of a scope; of what lies
        outside, the first state."""
        xp = np if isinstance(numbers, np.ndarray) else jnp
        columns: dict[int, dict[int, Any]] = {i: {} for i in given}
        for p in reversed(scope):
            piece = self.model.pieces[p]
            index, numbers = numbers % piece.size, numbers // piece.size
            for k in reversed(piece.elements):
                if piece.component in columns:
                    columns[piece.component][k] = index % piece.states
                index = index // piece.states
        zero, found = xp.zeros_like(numbers), {}
        for i, own in columns.items():
            kind = self.model.kinds[i]
            if not kind.num_nodes:
                found[i] = xp.zeros((len(zero), *kind.shape), zero.dtype)
                continue
            rows = xp.stack([own.get(k, zero) for k in range(kind.num_nodes)], 1)
            found[i] = rows.reshape(-1, *kind.shape)
        return found


def _numbers(count: int) -> Any:
    xp = np if count <= _MOST_WRITTEN else jnp
    return xp.arange(count, dtype=np.int32)


def _concatenated(*arrays: Any) -> Any:
    written = all(isinstance(x, np.ndarray) for x in arrays)
    return (np if written else jnp).concatenate(arrays)


def _outer_sum(x: jax.Array) -> jax.Array:
    """Sums for all joint states of independent nodes: (s, n, d) to (s**n, d)."""
    if x.shape[1] == 0:
        return jnp.zeros((1, x.shape[2]), x.dtype)
    total = x[:, 0]
    for k in range(1, x.shape[1]):
        total = (total[:, None] + x[None, :, k]).reshape(-1, x.shape[2])
    return total


def _average(laws: Mapping[Scope, jax.Array], scope: Scope, values: jax.Array) -> jax.Array:
    """The expectation of values, one for each configuration."""
    if not scope:
        return weighted(jnp.ones(1), values)
    return weighted(laws[scope].reshape(-1), values)
