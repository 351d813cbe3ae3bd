"""Evaluates parts of a network at all configurations of some of its nodes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._program.parts import Part
from cgjax._program.tails import Tail
from cgjax._walk import walk as run
from cgjax.inference._alike import Call
from cgjax.inference._factors import Model, Scope
from cgjax.inference._states import EVIDENCE, GivenParameters, Parameter
from cgjax.nodes import Categorical

# Configurations are worked through in chunks of at most about this many array elements.
_CHUNK_ELEMENTS = 1 << 21
# Of parts that are evaluated together, each takes at most so many.
_MOST_ALIKE = 1 << 17
# The numbers of so many configurations are written into the program, more are computed.
_MOST_WRITTEN = 1 << 12

# What a walk finds at some configurations, which come first.
Found = tuple[list[jax.Array], Parameter | None]


class Walk(NamedTuple):
    """A part of the network, and the configurations that it is evaluated at.

    Attributes:
        call: the part, and what goes in.
        values: the values that are wanted.
        target: the component whose natural parameter is wanted, if one is.
        scopes: the sets of pieces whose configurations these are, in the order of their axes.
        given: the components whose states are given, in the part's order.
        tail: what is left to do to the natural parameter, an element at a time.
    """

    call: Call
    values: tuple[int, ...]
    target: int | None
    scopes: tuple[Scope, ...]
    given: tuple[int, ...]
    tail: Tail | None

    @property
    def alone(self) -> Hashable:
        """What tells a walk of many numbers from all others."""
        return self.call.form[-1] if isinstance(self.call.form, tuple) else None


class Configurations:
    """Walks of a model, as they are traced.

    Args:
        model: the factors and the questions.
        arrays: the flat arguments of the network.
    """

    def __init__(self, model: Model, arrays: Sequence[jax.Array]):
        self.model = model
        self.sizes = model.sizes
        self.fixed = model.parts.fixed(arrays)

    def size(self, scope: Scope) -> int:
        """The number of joint states."""
        return math.prod(self.sizes[p] for p in scope)

    def walk(self, values: tuple[int, ...], target: int | None, scopes: Sequence[Scope]) -> Walk:
        """The part of the network that values or a component need, for some sets of pieces."""
        parts, pieces = self.model.parts, self.model.pieces
        tail = None if target is None or values else parts.tail(target)
        part = parts.part(
            [parts.results[k] for k in values],
            () if target is None else (target,),
            {target: tail.source} if tail is not None and target is not None else None,
        )
        new = {i: k for k, i in enumerate(part.nodes)}

        # In the order in which the part reads them, so that parts are alike whatever was written
        # before.
        def place(p: int) -> tuple[int, int]:
            return new.get(pieces[p].component, len(new)), p

        arranged = tuple(tuple(sorted(s, key=place)) for s in scopes)
        inside = {pieces[p].component for s in scopes for p in s}
        given = tuple(
            i for i in part.nodes if i in self.model.kinds and (i != target or i in inside)
        )
        operands = part.at(self.fixed)
        if target is not None and self.model.sites[target].kind == EVIDENCE:
            operands = [*operands, parts.handed(target, self.fixed)]
        layout = tuple(
            tuple((place(p)[0], pieces[p].elements, pieces[p].states) for p in s) for s in arranged
        )
        large = sum(map(self.size, scopes)) * self._width(part, values) > _MOST_ALIKE
        alone = (values, target) if large else None
        kind = None if target is None else self.model.sites[target].kind
        ends = None if tail is None else tail.form
        form = layout, tuple(new[i] for i in given), len(values), kind, ends, alone
        return Walk(Call(part, operands, form), values, target, arranged, given, tail)

    def _width(self, part: Part, values: Sequence[int]) -> int:
        """How many numbers a configuration takes."""
        shapes = self.model.linear.values.result_shapes
        width = 1 + sum(math.prod(self.model.sites[i].shape) for i in part.nodes)
        return width + sum(math.prod(shapes[k]) for k in values)

    def walked(self, walk: Walk, operands: Sequence[jax.Array | np.ndarray]) -> Found:
        """Values, and what is recorded about a component, at all configurations of some scopes."""
        part, target = walk.call.part, walk.target
        new = {i: k for k, i in enumerate(part.nodes)}
        at = None if target is None else new[target]
        visitor = GivenParameters(targets=frozenset() if at is None else frozenset({at}))
        known: dict[int, jax.Array | np.ndarray] = {}
        if at is not None and target is not None and self.model.sites[target].kind == EVIDENCE:
            known = {at: operands[-1]}
        arguments = operands[: len(part.arguments)]

        def one(states: Mapping[int, jax.Array | np.ndarray]) -> Found:
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
            states = jax.tree.map(_concatenated, *each)
            return every({i: self._written(i, x) for i, x in states.items()})
        scope = next(iter(scopes))
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

    def _written(self, i: int, numbers: Any) -> Any:
        """States by number; of few classes as indicators, which stand in the program: to compare
        numbers there is an operation for each parent, which takes long to compile."""
        site, axis = self.model.sites[i], self.model.kinds[i].axis
        if axis is None or not issubclass(site.family_type, Categorical):
            return numbers
        small = len(numbers) * math.prod(site.shape) <= _MOST_WRITTEN
        if not small or not isinstance(numbers, np.ndarray):
            return numbers
        places = np.arange(site.shape[axis]).reshape(-1, *(1,) * (-1 - axis))
        return (numbers == places).astype(np.float32)


def _numbers(count: int) -> Any:
    xp = np if count <= _MOST_WRITTEN else jnp
    return xp.arange(count, dtype=np.int32)


def _concatenated(*arrays: Any) -> Any:
    written = all(isinstance(x, np.ndarray) for x in arrays)
    return (np if written else jnp).concatenate(arrays)
