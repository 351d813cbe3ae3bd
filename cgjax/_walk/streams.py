"""Streams of random numbers: which key each node draws from, and words that are made together.

Every node, and every loop that holds nodes, has a stream of its own: the key of its scope, folded
with the node's number. Which nodes are sampled never changes the numbers of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jaxtyping import ArrayLike

from cgjax._node import node_p
from cgjax._program.control import Call, Component, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.program import Program
from cgjax._static import Function
from cgjax._walk.rows import Rows
from cgjax._walk.visitor import Visitor
from cgjax.kernels.random_bits import grouped_words, random_words

Words = tuple[jax.Array, jax.Array]

# Words for nodes of equal shape are made together when the nodes are small: compiling one generator
# for all of them is much cheaper than one each. For large nodes fusing wins (benchmarks/).
# So many nodes are also compiled alike, see `Rows`.
GROUP_AT_LEAST = 3
GROUP_MAX_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class Stream:
    """The random streams of one scope.

    Attributes:
        keys: a key for each node, or loop that holds nodes, in order.
        row: which of the keys belongs to a node, by number; a loop has its first node's number.
        rows: picks keys in a way that compiles to the same kernel for all of them.
    """

    keys: jax.Array
    row: Mapping[int, int]
    rows: Rows | None = field(init=False)

    def __post_init__(self) -> None:
        # At once, in the trace that the keys belong to; the streams may be read in an inner one.
        rows = Rows(jax.random.key_data(self.keys)) if len(self.row) >= GROUP_AT_LEAST else None
        object.__setattr__(self, "rows", rows)

    def key(self, index: int) -> jax.Array:
        """The key of a node, or of the loop that it is the first node of."""
        if self.rows is None:
            return self.keys[self.row[index]]
        words = self.rows.of(jax.random.key_data(self.keys), self.row[index])
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(self.keys))

    def renamed(self, index: int, other: int) -> Stream:
        """The stream of a node alone, under another number."""
        return Stream(self.keys, {other: self.row[index]})


@dataclass(frozen=True)
class Streams:
    """Which streams the scopes of a program have.

    Attributes:
        program: the traced function.
        visitor: what is done at a node.
        spread: the nodes that are given an array of several numbers.
    """

    program: Program
    visitor: Visitor
    spread: frozenset[int] = frozenset()

    def nodes_in(self, eqn: JaxprEqn) -> int:
        """How many nodes lie inside an equation."""
        return sum(self.program.counts[id(open_jaxpr(sub))] for sub in sub_jaxprs(eqn))

    def implementation(self, eqn: JaxprEqn, start: int) -> Function | None:
        """The implementation that computes a component, if it is one and has it; its first node is
        `start`."""
        if self.visitor.implementation is None:
            return None
        part = control(eqn, eqn.invars)
        if not isinstance(part, Component):
            return None
        # The axes of these arrays are the reference's, in which a map has an axis of its own.
        inside = range(start, start + self.nodes_in(eqn))
        if part.mapped and not self.spread.isdisjoint(inside):
            return None
        return part.implementations.get(self.visitor.implementation)

    def is_one(self, eqn: JaxprEqn, start: int) -> bool:
        """Whether all nodes inside derive from one key: those of loops, and of fused components."""
        part = control(eqn, eqn.invars)
        return isinstance(part, Scan | While) or bool(self.implementation(eqn, start))

    def slots(self, jaxpr: AnyJaxpr, start: int) -> list[int]:
        """The numbers of a scope's streams: of nodes, and of the first node of loops."""
        found, index = [], start
        for eqn in open_jaxpr(jaxpr).eqns:
            if eqn.primitive is node_p:
                if self.visitor.draws(self.program.sites[index]):
                    found.append(index)
                index += 1
            elif count := self.nodes_in(eqn):
                inside = self.program.sites[index : index + count]
                if self.is_one(eqn, index):
                    if any(map(self.visitor.draws, inside)):
                        found.append(index)
                    index += count
                else:
                    for sub in sub_jaxprs(eqn):
                        found.extend(self.slots(sub, index))
                        index += self.program.counts[id(open_jaxpr(sub))]
        return found

    def of(self, key: jax.Array | None, jaxpr: AnyJaxpr, start: int) -> Stream | None:
        """The streams of a scope whose first node is `start`, if it draws at all."""
        if key is None or not (slots := self.slots(jaxpr, start)):
            return None
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.array(slots, np.uint32))
        return Stream(keys, _by_number(slots))

    def of_turns(
        self, stream: Stream | None, jaxpr: AnyJaxpr, start: int, counters: ArrayLike
    ) -> tuple[jax.Array | None, Mapping[int, int]]:
        """The streams inside a loop, for each of its turns.

        Args:
            stream: of the scope that the loop stands in.
            jaxpr: what is evaluated at each turn.
            start: the number of its first node.
            counters: the numbers of the turns.

        Returns:
            Keys of shape (*turns, streams), and which of the streams belongs to a node.
        """
        slots = self.slots(jaxpr, start)
        if stream is None or not slots:
            return None, {}
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        steps = jnp.asarray(counters)
        keys = fold(stream.key(start), steps.reshape(-1))
        keys = jax.vmap(fold, (0, None))(keys, np.array(slots, np.uint32))
        return keys.reshape(*steps.shape, len(slots)), _by_number(slots)

    def words(self, index: int, stream: Stream) -> Words:
        """The words of one node."""
        shape = self.program.sites[index].shape
        return random_words(stream.key(index), shape, rounds=self.visitor.rounds)

    def grouped(self, jaxpr: AnyJaxpr, start: int, stream: Stream | None) -> dict[int, Words]:
        """Words of small nodes of equal shape that lie directly in this scope, made together."""
        # Mapping other generators over keys gives other bits than calling them key by key.
        if stream is None or str(jax.random.key_impl(stream.keys)) != "threefry2x32":
            return {}
        groups: dict[tuple[int, ...], list[int]] = {}
        elsewhere = self._drawn_elsewhere(jaxpr, start)
        for index in stream.row:
            if index not in elsewhere:
                groups.setdefault(self.program.sites[index].shape, []).append(index)
        words = {}
        for shape, indices in groups.items():
            if len(indices) >= GROUP_AT_LEAST and math.prod(shape) <= GROUP_MAX_ELEMENTS:
                rows = np.array([stream.row[i] for i in indices])
                both = grouped_words(stream.keys[rows], shape, rounds=self.visitor.rounds)
                assert stream.rows is not None  # no group is larger than its stream
                of = stream.rows.of
                words.update({i: (of(both[0], k), of(both[1], k)) for k, i in enumerate(indices)})
        return words

    def _drawn_elsewhere(self, jaxpr: AnyJaxpr, start: int) -> set[int]:
        """The nodes of a scope that lie in loops or components, or are drawn again."""
        found, index = set(), start
        for eqn in open_jaxpr(jaxpr).eqns:
            count = 1 if eqn.primitive is node_p else self.nodes_in(eqn)
            part = control(eqn, eqn.invars)
            # A rematerialised part draws again, inside.
            again = isinstance(part, Call) and part.kind == "remat"
            if again or self.is_one(eqn, index):
                found.update(range(index, index + count))
            elif eqn.primitive is not node_p and count:
                inner = index
                for sub in sub_jaxprs(eqn):
                    found |= self._drawn_elsewhere(sub, inner)
                    inner += self.program.counts[id(open_jaxpr(sub))]
            index += count
        return found


def _by_number(slots: Sequence[int]) -> dict[int, int]:
    return {index: row for row, index in enumerate(slots)}
