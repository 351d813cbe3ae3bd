"""Computes the factors of a model, and the values that are asked about, for all their states."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._program.parts import Part
from cgjax._walk import walk as run
from cgjax.inference._alike import Call, alike, together
from cgjax.inference._chunks import outer, weighted
from cgjax.inference._factors import Factor, Model, Question, Scope
from cgjax.inference._scaled import (
    Laws,
    Leaves,
    Table,
    normalised,
    of_logarithm,
    scaled,
    stacked,
)
from cgjax.inference._states import EVIDENCE, WEIGHTED, Conditional, Given

# Configurations are worked through in chunks of at most about this many array elements.
_CHUNK_ELEMENTS = 1 << 21
# The numbers of so many configurations are written into the program, more are computed.
_MOST_WRITTEN = 1 << 12

# Tables of more entries are arrays of their own.
MOST_TOGETHER = 1 << 12

# What a walk finds at some configurations, which come first.
Found = tuple[list[jax.Array], Conditional | None]


class _Walk(NamedTuple):
    """A part of the network, and the configurations that it is evaluated at.

    Attributes:
        call: the part, and what goes in.
        values: the values that are wanted.
        target: the component whose conditional is wanted, if one is.
        scopes: the sets of pieces whose configurations these are.
        given: the components whose states are given, in the part's order.
    """

    call: Call
    values: tuple[int, ...]
    target: int | None
    scopes: tuple[Scope, ...]
    given: tuple[int, ...]


class _Raw(NamedTuple):
    """Entries of a table that are not scaled yet: numbers, their logarithms, or both."""

    number: jax.Array | None
    log: jax.Array | None

    def scaled(self) -> tuple[jax.Array, jax.Array | None]:
        """Mantissas and exponents."""
        if self.log is None:
            assert self.number is not None  # one of both is
            return self.number, None
        return of_logarithm(self.log) if self.number is None else scaled(self.number, self.log)


class Conditionals:
    """The tables of a model, as they are traced.

    Args:
        model: the factors and the questions.
        arrays: the flat arguments of the network.
        logs: whether tables have exponents.
    """

    def __init__(self, model: Model, arrays: Sequence[jax.Array], logs: bool):
        self.model, self.logs = model, logs
        self.sizes = model.sizes
        self.fixed = model.parts.fixed(arrays)
        self._listed = {f.node for f in model.factors if f.own is not None}
        self._averaged: set[int] = set()
        self._scopes: dict[int, dict[Scope, None]] = {}
        self._factors: dict[int, list[int]] = {}
        for number, factor in enumerate(model.factors):
            self._scopes.setdefault(factor.node, {})[factor.parents] = None
            self._factors.setdefault(factor.node, []).append(number)
        for question in model.questions:
            node = model.linear.nodes[question.value]
            if question.mean and node is not None:
                self._averaged.add(node)
                self._scopes.setdefault(node, {})[question.scope] = None

    # -- factors

    def tables(self) -> list[Table]:
        """The tables of all factors."""
        return self.leaves().tables()

    def leaves(self) -> Leaves:
        """The tables of all factors, the small ones in one array."""
        found: dict[int, Table] = {}
        rows: dict[bool | None, list[tuple[list[int], _Raw | tuple[jax.Array, ...]]]] = {}
        axes: dict[int, Scope] = {}
        for walks, (factors, _) in self.nodes:
            for j, entries in enumerate(factors):
                numbers = [self._factors[w.target or 0][j] for w in walks]
                for k, walk in zip(numbers, walks, strict=True):
                    axes[k] = self._axes(walk, self.model.factors[k])
                size = entries[0].shape[-1] if entries[0] is not None else entries[1].shape[-1]
                if size > MOST_TOGETHER:
                    for row, k in enumerate(numbers):
                        one = jax.tree.map(lambda x: x[row], entries)  # noqa: B023
                        whole = one.scaled() if isinstance(one, _Raw) else one
                        found[k] = self._table(axes[k], *whole)
                    continue
                kind = entries.number is not None if isinstance(entries, _Raw) else None
                rows.setdefault(kind, []).append((numbers, entries))
        starts: dict[int, int] = {}
        parts: list[tuple[jax.Array, jax.Array | None]] = []
        end = 0
        for some in rows.values():
            for numbers, entries in some:
                size = jax.tree.leaves(entries)[0].shape[-1]
                for k in numbers:
                    starts[k] = end
                    end += size
            flat = jax.tree.map(
                lambda *x: jnp.concatenate([y.reshape(-1) for y in x]), *(e for _, e in some)
            )
            parts.append(flat.scaled() if isinstance(flat, _Raw) else flat)
        every = [axes[k] for k in range(len(axes))]
        return Leaves.of(every, self.sizes, starts, parts, found)

    def _axes(self, walk: _Walk, factor: Factor) -> Scope:
        """The axes of a factor's table; that of its own piece comes first."""
        scopes = list(self._scopes[factor.node])
        parents = walk.scopes[scopes.index(factor.parents)]
        return parents if factor.own is None else (factor.own, *parents)

    def _table(self, axes: Scope, mantissa: jax.Array, exponent: jax.Array | None) -> Table:
        shape = [self.sizes[p] for p in axes]
        return Table(
            axes,
            mantissa.reshape(shape),
            None if exponent is None else exponent.reshape(shape),
        )

    @functools.cached_property
    def nodes(self) -> list[tuple[list[_Walk], Any]]:
        """The entries of all factors and the means, of components of one form together."""
        walks = [self.walk((), node, list(scopes)) for node, scopes in self._scopes.items()]
        found: list[tuple[list[_Walk], Any]] = []
        for group in alike([w.call for w in walks]):
            some = [walks[k] for k in group]
            one = functools.partial(self._of_node, some[0])
            found.append((some, together(one, [w.call.operands for w in some])))
        return found

    def _of_node(
        self, walk: _Walk, *operands: jax.Array
    ) -> tuple[list[_Raw | tuple[jax.Array, ...]], list[jax.Array] | None]:
        """The entries of the factors of a component, and its means for each set of parents."""
        node = walk.target
        assert node is not None  # it is what the walk is for
        _, record = self.walked(walk, operands)
        assert record is not None  # it is asked for
        ends = np.cumsum([self.size(s) for s in walk.scopes])
        pieces = [
            jax.tree.map(lambda x: x[end - self.size(s) : end], record)  # noqa: B023
            for s, end in zip(walk.scopes, ends, strict=True)
        ]
        scopes = list(self._scopes[node])
        weights = operands[-1] if self.model.sites[node].kind == WEIGHTED else None
        factors = [self.model.factors[k] for k in self._factors.get(node, ())]
        made = [self._entries(f, pieces[scopes.index(f.parents)], weights) for f in factors]
        means = None
        if node in self._averaged:
            means = [p.mean for p in pieces if p.mean is not None]
        return made, means

    def _entries(
        self, factor: Factor, found: Conditional, weights: jax.Array | None
    ) -> _Raw | tuple[jax.Array, ...]:
        """The entries of the table of a factor, in one row."""
        if factor.own is None:
            assert found.log is not None  # it is observed
            log = found.log.reshape(len(found.log), -1)[:, np.array(factor.elements)].sum(1)
            return _Raw(None, log)
        kind = self.model.kinds[factor.node]
        some = slice(None)
        if len(factor.elements) < kind.num_nodes:
            some = np.array(factor.elements)
        always = isinstance(found.present, np.ndarray)  # in no branch

        def laid(x: jax.Array, otherwise: float) -> jax.Array:
            """(states, nodes, configurations); in a branch that was not taken any law serves."""
            x = x.reshape(len(x), kind.states, kind.num_nodes)
            if not always:
                x = jnp.where((found.present <= 0)[:, None, None], otherwise, x)
            return jnp.moveaxis(x[:, :, some], 0, -1)

        assert found.probabilities is not None  # they are listed
        p = laid(found.probabilities, 1 / kind.states)
        if not self.logs:
            return _Raw(outer(p[None])[0].reshape(-1), None)
        assert found.log is not None  # they are asked for
        log = laid(found.log, -math.log(kind.states))
        if weights is not None:
            log = log + weights.reshape(kind.num_nodes, kind.states).T[:, some][:, :, None]
        raw = _Raw(None if weights is not None else p, log)
        if len(factor.elements) == 1:
            return jax.tree.map(lambda x: x.reshape(-1), raw)
        mantissa, exponent = raw.scaled()
        assert exponent is not None  # there are logarithms
        mantissa, exponent = normalised(mantissa, exponent)
        return outer(mantissa[None])[0].reshape(-1), _outer_sum(exponent).reshape(-1)

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
        found = self._averaged_values(together, laws) | self._averaged_means(laws)
        return [self._assembled(k, by_value[k], found) for k in sorted(by_value)]

    def _averaged_values(
        self, together_: Mapping[tuple[Scope, ...], Sequence[int]], laws: Mapping[Scope, jax.Array]
    ) -> dict[tuple[int, bool, Scope], jax.Array]:
        """The averages of whole values over some scopes."""
        walks = [self.walk(tuple(values), None, scopes) for scopes, values in together_.items()]
        found: dict[tuple[int, bool, Scope], jax.Array] = {}
        for group in alike([w.call for w in walks]):
            some = [walks[k] for k in group]
            first = some[0]

            def one(*given: jax.Array) -> list[list[jax.Array]]:
                count = len(first.scopes)  # noqa: B023
                results, _ = self.walked(first, given[count:])  # noqa: B023
                ends = np.cumsum([self.size(s) for s in first.scopes])  # noqa: B023
                return [
                    [weighted(law, x[end - law.size : end]) for x in results]
                    for law, end in zip(given, ends, strict=False)
                ]

            columns = zip(*(w.scopes for w in some), strict=True)
            rows = [self._laws(laws, list(column)) for column in columns]
            operands = [[*(x[k] for x in rows), *w.call.operands] for k, w in enumerate(some)]
            averages = together(one, operands, dict(enumerate(rows)))
            for row, walk in enumerate(some):
                for scope, of_scope in zip(walk.scopes, averages, strict=True):
                    for value, x in zip(walk.values, of_scope, strict=True):
                        found[value, False, tuple(sorted(scope))] = x[row]
        return found

    def _averaged_means(
        self, laws: Mapping[Scope, jax.Array]
    ) -> dict[tuple[int, bool, Scope], jax.Array]:
        """The averages of the means of components over their parents."""
        asked: dict[int, dict[Scope, list[int]]] = {}
        for q in self.model.questions:
            node = self.model.linear.nodes[q.value]
            if q.mean and node is not None:
                asked.setdefault(node, {}).setdefault(q.scope, []).append(q.value)
        found: dict[tuple[int, bool, Scope], jax.Array] = {}
        for walks, (_, means) in self.nodes if asked else ():
            if means is None:
                continue
            for k, mean in enumerate(means):
                rows = [
                    (row, walk, scope)
                    for row, walk in enumerate(walks)
                    if (scope := list(self._scopes[walk.target or 0])[k]) in asked[walk.target or 0]
                ]
                if not rows:
                    continue
                law = self._laws(laws, [walk.scopes[k] for _, walk, _ in rows])
                if len(rows) < len(walks):
                    mean = mean[np.array([row for row, *_ in rows])]
                averages = jax.vmap(weighted)(law, mean)
                for row, (_, walk, scope) in enumerate(rows):
                    for value in asked[walk.target or 0][scope]:
                        found[value, True, scope] = averages[row]
        return found

    def _laws(self, laws: Mapping[Scope, jax.Array], scopes: Sequence[Scope]) -> jax.Array:
        """The joint distributions of pieces in the order given, (scopes, joint states)."""
        if not scopes[0]:
            return jnp.ones((len(scopes), 1))
        return laws.rows(scopes) if isinstance(laws, Laws) else stacked(laws, scopes)

    def _assembled(
        self,
        value: int,
        questions: Sequence[Question],
        found: Mapping[tuple[int, bool, Scope], jax.Array],
    ) -> jax.Array:
        """The expectation of a value, from those of its elements."""
        parts = [found[value, q.mean, q.scope] for q in questions]
        if len(parts) == 1:
            return parts[0]
        parts = [x.reshape(-1)[q.places] for x, q in zip(parts, questions, strict=True)]
        places = np.concatenate([q.places for q in questions])
        shape = self.model.linear.values.result_shapes[value]
        return jnp.concatenate(parts)[np.argsort(places)].reshape(shape)

    # -- configurations

    def size(self, scope: Scope) -> int:
        """The number of joint states."""
        return math.prod(self.sizes[p] for p in scope)

    def walk(self, values: tuple[int, ...], target: int | None, scopes: Sequence[Scope]) -> _Walk:
        """The part of the network that values or a component need, for some sets of pieces."""
        parts, sites = self.model.parts, self.model.sites
        targets = () if target is None else (target,)
        part = parts.part([parts.results[k] for k in values], targets)
        new = {i: k for k, i in enumerate(part.nodes)}
        pieces = self.model.pieces
        last = len(new)

        def place(p: int) -> tuple[int, int]:
            return new.get(pieces[p].component, last), p

        arranged = tuple(tuple(sorted(s, key=place)) for s in scopes)
        inside = {pieces[p].component for s in scopes for p in s}
        given = tuple(
            i for i in part.nodes if i in self.model.kinds and (i != target or i in inside)
        )
        operands = part.at(self.fixed)
        factors: Hashable = None
        if target is not None:
            of_target = (self.model.factors[k] for k in self._factors.get(target, ()))
            factors = (
                tuple(
                    (f.own is None, f.elements, list(scopes).index(f.parents)) for f in of_target
                ),
                target in self._listed,
                target in self._averaged,
            )
            if sites[target].kind in (EVIDENCE, WEIGHTED):
                operands = [*operands, parts.handed(target, self.fixed)]
        layout = tuple(
            tuple((place(p)[0], pieces[p].elements, pieces[p].states) for p in s) for s in arranged
        )
        large = sum(map(self.size, scopes)) * self._width(part, values) > _CHUNK_ELEMENTS // 16
        form = (layout, factors, tuple(new[i] for i in given), len(values))
        call = Call(part, operands, (form, (values, target) if large else None))
        return _Walk(call, values, target, arranged, given)

    def _width(self, part: Part, values: Sequence[int]) -> int:
        """How many numbers a configuration takes."""
        shapes = self.model.linear.values.result_shapes
        width = 1 + sum(math.prod(self.model.sites[i].shape) for i in part.nodes)
        return width + sum(math.prod(shapes[k]) for k in values)

    def walked(self, walk: _Walk, operands: Sequence[jax.Array]) -> Found:
        """Values, and what is recorded about a component, at all configurations of some scopes."""
        part, target = walk.call.part, walk.target
        new = {i: k for k, i in enumerate(part.nodes)}
        at = None if target is None else new[target]
        visitor = Given(
            targets=frozenset() if at is None else frozenset({at}),
            listing=target in self._listed,
            averaging=target in self._averaged,
            logs=self.logs,
        )
        known: dict[int, jax.Array] = {}
        if at is not None and target is not None and self.model.sites[target].kind == EVIDENCE:
            known = {at: operands[-1]}
        arguments = operands[: len(part.arguments)]

        def one(states: Mapping[int, jax.Array]) -> Found:
            given = {new[i]: x for i, x in states.items()} | known
            out, records = run(part.program, visitor, arguments, given=given)
            return out, None if at is None else records[at]

        scopes, given = walk.scopes, walk.given
        count = sum(map(self.size, scopes))
        if not given:
            same = one({})
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), same)
        every = jax.vmap(one)
        width = self._width(part, walk.values)
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
