"""A network of discrete nodes as a product of factors, of as few elements each as it allows.

Nodes of one array are variables of their own wherever something reads a part of them: an element,
a slice, a window. Those that the same things read, and that depend on the same nodes, are one
variable together, a *piece*. This file only counts: it decides before anything is computed.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cgjax._program import Linear, Site
from cgjax._program.parts import Parts
from cgjax._program.reads import Bits, marks, positions, reads, union
from cgjax.inference._states import WEIGHTED, Component, component

# Tables of conditionals with more entries are made in parts, each for some of the nodes.
_MOST_WHOLE = 1 << 16
_MOST_ENTRIES = 1 << 22

# Larger components are variables as a whole.
_MOST_ELEMENTS = 1 << 12

Scope = tuple[int, ...]


class Piece(NamedTuple):
    """Some nodes of a component, which are one variable.

    Attributes:
        component: the component's index.
        elements: the numbers of the nodes in it.
        states: how many states a node has.
    """

    component: int
    elements: tuple[int, ...]
    states: int

    @property
    def size(self) -> int:
        """How many joint states it has."""
        return self.states ** len(self.elements)


class Factor(NamedTuple):
    """P(piece | parents), or P(what is observed | parents).

    Attributes:
        node: the index of the node whose conditional it is.
        elements: the nodes of the component that it is the conditional of.
        parents: the pieces that they depend on.
        own: their piece; None where they are observed.
    """

    node: int
    elements: tuple[int, ...]
    parents: Scope
    own: int | None

    @property
    def scope(self) -> frozenset[int]:
        """All pieces of the factor."""
        return frozenset(self.parents if self.own is None else (*self.parents, self.own))


class Question(NamedTuple):
    """An expectation of some elements of a value.

    Attributes:
        value: the number of the value.
        mean: whether it is that of a node's statistic given the node's parents.
        places: which of the value's elements, by their numbers.
        scope: the pieces to average over.
    """

    value: int
    mean: bool
    places: np.ndarray
    scope: Scope


def owners(kind: Component, site: Site) -> np.ndarray:
    """Which node of a component each element of its statistic belongs to."""
    if kind.numbered:
        return np.zeros(site.shape, int)
    return np.broadcast_to(np.arange(kind.num_nodes).reshape(kind.shape), site.shape)


@dataclass
class Model:
    """A network as a product of factors, and what is asked about it.

    Attributes:
        linear: the values whose expectations are wanted.
        kinds: the components that are not observed, by node index.
        parts: takes the program apart.
        pieces, factors, questions: see above.
    """

    linear: Linear
    kinds: dict[int, Component]
    parts: Parts
    pieces: list[Piece] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    @property
    def sizes(self) -> dict[int, int]:
        """The number of states of each piece."""
        return {k: piece.size for k, piece in enumerate(self.pieces)}

    @property
    def sites(self) -> Sequence[Site]:
        """All nodes."""
        return self.linear.values.sites


class Builder:
    """Finds pieces, factors and questions; sets of elements are integers, one bit for each.

    Args:
        flat: the values that are asked for.
        masks: the shapes of the nodes that are observed, by component.
    """

    def __init__(self, flat: Linear, masks: Mapping[int, tuple[int, ...]]):
        program = flat.values
        self.flat, self.masks, self.sites = flat, masks, program.sites
        self.kinds = {s.index: component(s) for s in self.sites if s.index not in masks}
        apart = marks(program)
        self.split = {
            i
            for i, kind in self.kinds.items()
            if i in apart and not kind.numbered and kind.num_nodes <= _MOST_ELEMENTS
        }
        self.first: dict[int, int] = {}
        self.element: list[tuple[int, int]] = []  # of each bit: the component, and the node in it
        statistics: dict[int, Bits] = {}
        for i, kind in self.kinds.items():
            self.first[i] = len(self.element)
            count = kind.num_nodes if i in self.split else 1
            self.element += [(i, k) for k in range(count)]
            statistics[i] = 1 << self.first[i]
            if i in self.split:
                own = np.array([1 << (self.first[i] + k) for k in range(count)], object)
                statistics[i] = own[owners(kind, self.sites[i])]
        self.reads = reads(program, statistics)
        self._rows: dict[int, list[int]] = {}
        self.parents = [self.parents_of(i, k) for i, k in self.element]

    def whole(self, i: int) -> int:
        """All elements of a component."""
        count = self.kinds[i].num_nodes if i in self.split else 1
        return ((1 << count) - 1) << self.first[i]

    def parents_of(self, i: int, k: int) -> int:
        """What an element of a component depends on."""
        if i not in self.reads.of_parameter:
            return functools.reduce(operator.or_, map(self.whole, self.flat.of_node[i]), 0)
        rows = self.rows(i)
        own = rows[k] if i in self.split else functools.reduce(operator.or_, rows, 0)
        return own | self.reads.of_family[i]

    def rows(self, i: int) -> list[int]:
        """What the nodes of a component depend on by their natural parameters."""
        if i not in self._rows:
            mask = self.masks[i] if i in self.masks else self.kinds[i].shape
            self._rows[i] = _rows(self.sites[i].shape, self.reads.of_parameter[i], mask)
        return self._rows[i]

    def observed(self) -> dict[tuple[int, int], list[int]]:
        """The nodes that are observed, by their component and what they depend on."""
        found: dict[tuple[int, int], list[int]] = {}
        for i in self.masks:
            for k, bits in enumerate(self.rows(i)):
                found.setdefault((i, bits | self.reads.of_family[i]), []).append(k)
        return found

    def above(self, bits: int) -> int:
        """Elements and all that they descend from."""
        found, new = 0, bits
        while new:
            found |= new
            parents = [self.parents[k] for k in positions(new)]
            new = functools.reduce(operator.or_, parents, 0) & ~found
        return found

    def asked(self, results: Sequence[Bits], relevant: int) -> list[tuple[_Key, np.ndarray]]:
        """What is asked about, and which elements of the value it is."""
        found: list[tuple[_Key, np.ndarray]] = []
        for number, (node, bits) in enumerate(zip(self.flat.nodes, results, strict=True)):
            shape = self.flat.values.result_shapes[number]
            if node is None and isinstance(bits, int):
                found.append((_Key(number, False, bits), np.arange(int(np.prod(shape)))))
                continue
            owner = None if node is None else owners(self.kinds[node], self.sites[node]).reshape(-1)
            groups: dict[_Key, list[int]] = {}
            of_each = np.broadcast_to(np.asarray(bits, object), shape).reshape(-1)
            for place, own in enumerate(of_each):
                key = _Key(number, False, own)
                if node is not None and owner is not None:
                    bit = self.first[node] + (int(owner[place]) if node in self.split else 0)
                    # What is observed tells something of the node itself, not of its parents alone.
                    if not relevant >> bit & 1:
                        key = _Key(number, True, self.parents[bit])
                groups.setdefault(key, []).append(place)
            found += [(key, np.array(places)) for key, places in groups.items()]
        return found


class _Key(NamedTuple):
    """The number of a value, whether its mean given its parents is meant, and over which elements
    it is averaged."""

    value: int
    mean: bool
    scope: int


def _rows(shape: tuple[int, ...], bits: Bits, mask: tuple[int, ...]) -> list[int]:
    """What each node of a component is a function of, given that of the natural parameters."""
    if isinstance(bits, int):
        return [bits] * int(np.prod(mask))
    if mask == shape:
        return list(bits.reshape(-1))
    axes = [k for k, n in enumerate(shape) if len(mask) == len(shape) and mask[k] != n]
    if len(axes) != 1 or mask[axes[0]] != 1:
        return [union(bits)] * int(np.prod(mask))
    return list(np.asarray(np.bitwise_or.reduce(bits, axis=axes[0]), object).reshape(-1))


def model(flat: Linear, masks: Mapping[int, tuple[int, ...]]) -> Model:
    """Factors and questions for the values of a program.

    Args:
        flat: the values that are asked for.
        masks: the shapes of the nodes that are observed, by component.
    """
    builder = Builder(flat, masks)
    parts = Parts(flat.values, builder.reads)
    observed = builder.observed()
    evidence = [scope for _, scope in observed]
    weighted = [builder.whole(s.index) for s in builder.sites if s.kind == WEIGHTED]
    relevant = builder.above(functools.reduce(operator.or_, [*evidence, *weighted], 0))
    asked = builder.asked([builder.reads.of(v) for v in parts.results], relevant)
    scopes = [key.scope for key, _ in asked]
    needed = builder.above(functools.reduce(operator.or_, scopes, relevant))
    bits = list(positions(needed))
    groups = alike(bits, builder, {*scopes, *evidence, *(builder.parents[k] for k in bits)})
    found = Model(flat, builder.kinds, parts)
    piece_of: dict[int, list[int]] = {}
    for group in groups:
        add_variables(found, builder, group, piece_of)
    for (i, scope), nodes in observed.items():
        found.factors.append(Factor(i, tuple(nodes), pieces_of(scope, piece_of), None))
    for key, places in asked:
        scope = pieces_of(key.scope, piece_of)
        found.questions.append(Question(key.value, key.mean, places, scope))
    return found


def add_variables(
    found: Model, builder: Builder, group: Sequence[int], piece_of: dict[int, list[int]]
) -> None:
    """Makes elements of a component variables, as few as keep the tables small, with factors."""
    i = builder.element[group[0]][0]
    kind = builder.kinds[i]
    parents = pieces_of(builder.parents[group[0]], piece_of)
    states = math.prod(found.pieces[p].size for p in parents)
    elements = elements_of(builder, group)
    for some in _cut(elements, kind.states, states):
        number = len(found.pieces)
        found.pieces.append(Piece(i, some, kind.states))
        found.factors.append(Factor(i, some, parents, number))
        own = group if i not in builder.split else [builder.first[i] + k for k in some]
        for k in own:
            piece_of.setdefault(k, []).append(number)


def elements_of(builder: Builder, group: Sequence[int]) -> Scope:
    """The numbers of the nodes that bits of one component stand for."""
    i = builder.element[group[0]][0]
    if i not in builder.split:
        return tuple(range(builder.kinds[i].num_nodes))
    return tuple(builder.element[k][1] for k in group)


def pieces_of(bits: int, piece_of: Mapping[int, Sequence[int]]) -> Scope:
    """The variables that elements are in."""
    return tuple(sorted({p for k in positions(bits) for p in piece_of[k]}))


def alike(bits: Sequence[int], builder: Builder, scopes: Iterable[int]) -> list[list[int]]:
    """Elements of a component with the same parents that are read together wherever they are;
    those that nothing reads are apart."""
    readers: dict[int, list[int]] = {k: [] for k in bits}
    for number, scope in enumerate(sorted(scopes)):
        for k in positions(scope):
            readers[k].append(number)
    groups: dict[Hashable, list[int]] = {}
    for k in bits:
        key = (builder.element[k][0], builder.parents[k], tuple(readers[k]) or ~k)
        groups.setdefault(key, []).append(k)
    return list(groups.values())


def _cut(elements: Sequence[int], states: int, parents: int) -> list[Scope]:
    """Elements in as many parts as keep the tables of their conditionals small."""
    count = len(elements)
    parts = 1
    if parents > 1 and parents * states**count > _MOST_WHOLE:
        parts = 2
        while parts < count and parents * states ** -(-count // parts) > _MOST_ENTRIES:
            parts += 1
    parts = max(1, min(parts, count))
    ends = [count * k // parts for k in range(parts + 1)]
    return [tuple(elements[a:b]) for a, b in itertools.pairwise(ends)]
