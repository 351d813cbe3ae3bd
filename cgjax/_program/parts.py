"""Parts of a program: what some of its values and nodes need, and nothing else.

What no node changes is computed once for all parts. In a part the statistics of nodes are given, so
that of what lies behind them nothing is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Var

from cgjax._node import node_p
from cgjax._program.jaxprs import (
    Atom,
    Closed,
    Literal,
    Operand,
    aval,
    bind,
    consts,
    dtype,
    open_jaxpr,
    with_constants,
)
from cgjax._program.program import Program
from cgjax._program.reads import Reads, marks, nodes_of, union
from cgjax._program.tails import Tail, tail

# Nodes that end alike, from which on their last steps are taken together.
_FEWEST_TAILS = 3


@dataclass(frozen=True)
class Part:
    """A part of a program, as a program.

    Equations stand in the order in which they are asked for, nodes have no names, and numbers are
    arguments: parts that are the same function of other numbers are the same program.

    Attributes:
        program: its arguments are variables of the whole one; its result is a list of values.
        nodes: for each node inside, the number that it has in the whole program.
        arguments: these variables, and numbers of the whole program.
        unused: which of the arguments are not needed, though an equation names them; they are 0.
    """

    program: Program
    nodes: tuple[int, ...]
    arguments: tuple[Atom, ...]
    unused: frozenset[Var]

    def at(self, fixed: Mapping[Var, Operand]) -> list[Operand]:
        """The arguments, given the values that no node changes."""

        def value(v: Atom) -> Operand:
            if isinstance(v, Literal):
                return np.asarray(v.val, dtype(v))
            return np.zeros(aval(v).shape, dtype(v)) if v in self.unused else fixed[v]

        return list(map(value, self.arguments))


class Parts:
    """Takes a program apart.

    Args:
        program: a program without calls.
        found: what its values are functions of.
    """

    def __init__(self, program: Program, found: Reads):
        self.program, self.found = program, found
        self.eqns = open_jaxpr(program.jaxpr).eqns
        self.results = open_jaxpr(program.jaxpr).outvars
        self.maker = {v: k for k, eqn in enumerate(self.eqns) for v in eqn.outvars}
        self.mark = marks(program)
        self.counts = [nodes_of(program, eqn) for eqn in self.eqns]
        # The number of the first node of each equation.
        self.first = list(itertools.accumulate(self.counts, initial=0))[:-1]
        self.place = {i: k for k in range(len(self.eqns)) for i in self._nodes(k)}

    def _nodes(self, position: int) -> range:
        return range(self.first[position], self.first[position] + self.counts[position])

    def handed(self, index: int, fixed: Mapping[Var, Operand]) -> Operand:
        """What the mark of a node carries beside the parameters of its family, which is fixed."""
        eqn = self.mark[index]
        v = eqn.invars[2 + eqn.params["family"].num_arrays]
        return v.val if isinstance(v, Literal) else fixed[v]

    def is_fixed(self, v: Atom) -> bool:
        """Whether no node changes a value."""
        return isinstance(v, Literal) or not union(self.found.of(v))

    def fixed(self, arrays: Sequence[Operand]) -> dict[Var, Operand]:
        """The values that no node changes, given the arguments of the program."""
        inner = open_jaxpr(self.program.jaxpr)
        env: dict[Var, Operand] = dict(
            zip(inner.constvars, consts(self.program.jaxpr), strict=True)
        )
        env.update(zip(inner.invars, arrays, strict=True))
        for eqn, count in zip(self.eqns, self.counts, strict=True):
            if not count and all(map(self.is_fixed, eqn.invars)):
                operands = [v.val if isinstance(v, Literal) else env[v] for v in eqn.invars]
                with eqn.ctx.manager:
                    env.update(zip(eqn.outvars, bind(eqn, operands), strict=True))
        return env

    def tail(self, index: int) -> Tail | None:
        """The last steps to a node's natural parameter that are functions of one element each, if
        several nodes end so: numbers stand in them, of which those of one node are arguments."""
        return self._tails.get(index)

    @cached_property
    def _tails(self) -> dict[int, Tail]:
        found: dict[Hashable, dict[int, Tail]] = {}
        for index, eqn in self.mark.items():
            if (end := tail(eqn.invars[1], self.maker, self.eqns)) is not None:
                found.setdefault(end.form, {})[index] = end
        alike = [some for some in found.values() if len(some) >= _FEWEST_TAILS]
        return {index: end for some in alike for index, end in some.items()}

    def part(
        self,
        values: Sequence[Atom],
        targets: Collection[int],
        sources: Mapping[int, Var] | None = None,
    ) -> Part:
        """What some values need, and the natural parameters of some nodes.

        Args:
            values: the results.
            targets: these nodes; of all others only the statistics matter, which are given.
            sources: values to put in the place of their natural parameters.
        """
        others = {self.place[i]: v for i, v in (sources or {}).items()}
        kept: dict[int, None] = {}
        arguments: dict[Var, None] = {}
        for index in targets:
            self._keep(self.place[index], targets, kept, arguments, others)
        for v in values:
            self._ask(v, targets, kept, arguments, others)
        every: list[Atom] = list(arguments)
        variables: list[Var] = list(arguments)
        unused: list[Var] = []

        def operands(position: int) -> Iterator[Atom]:
            needed = self._needed(position, targets)
            for k, v in enumerate(self._invars(position, others)):
                if k in needed and not isinstance(v, Literal):
                    yield v
                    continue
                variables.append(new := Var(v.aval))
                every.append(v if k in needed else new)
                if k not in needed:
                    unused.append(new)
                yield new

        eqns = [_plain(self.eqns[k], list(operands(k))) for k in kept]
        nodes = tuple(i for k in kept for i in self._nodes(k))
        inner = with_constants(open_jaxpr(self.program.jaxpr), (), ()).jaxpr
        jaxpr = inner.replace(invars=variables, outvars=list(values), eqns=eqns)
        sites = (replace(self.program.sites[i], index=new) for new, i in enumerate(nodes))
        program = replace(
            self.program,
            jaxpr=Closed(jaxpr, ()),
            sites=tuple(sites),
            counts=self.program.counts,
            out_tree=jax.tree.structure([0] * len(values)),
        )
        return Part(program, nodes, tuple(every), frozenset(unused))

    def _ask(
        self,
        v: Atom,
        targets: Collection[int],
        kept: dict[int, None],
        arguments: dict[Var, None],
        others: Mapping[int, Var],
    ) -> None:
        """Asks for what a value needs."""
        if isinstance(v, Literal):
            return
        if self.is_fixed(v):
            arguments[v] = None
        else:
            self._keep(self.maker[v], targets, kept, arguments, others)

    def _keep(
        self,
        position: int,
        targets: Collection[int],
        kept: dict[int, None],
        arguments: dict[Var, None],
        others: Mapping[int, Var],
    ) -> None:
        """Keeps an equation after all that it needs."""
        if position in kept:
            return

        def needed(position: int) -> Iterator[Atom]:
            places = self._needed(position, targets)
            return iter([self._invars(position, others)[k] for k in places])

        pending = [(position, needed(position))]
        while pending:
            position, rest = pending[-1]
            for v in rest:
                if isinstance(v, Literal):
                    continue
                if self.is_fixed(v):
                    arguments[v] = None
                elif (below := self.maker[v]) not in kept:
                    pending.append((below, needed(below)))
                    break
            else:
                kept[position] = None
                pending.pop()

    def _invars(self, position: int, others: Mapping[int, Var]) -> Sequence[Atom]:
        """The operands of an equation; of some marks with another natural parameter."""
        invars = self.eqns[position].invars
        return [invars[0], others[position], *invars[2:]] if position in others else invars

    def _needed(self, position: int, targets: Collection[int]) -> range | list[int]:
        """The operands of an equation that matter, by their places."""
        eqn, index = self.eqns[position], self.first[position]
        if eqn.primitive is not node_p:
            return range(len(eqn.invars))
        parameters = list(range(2, 2 + eqn.params["family"].num_arrays))
        return [1, *parameters] if index in targets else parameters


def _plain(eqn: JaxprEqn, operands: list[Atom]) -> JaxprEqn:
    """An equation with other operands; a node without its name."""
    if eqn.primitive is not node_p:
        return eqn.replace(invars=operands)
    return eqn.replace(invars=operands, params={**eqn.params, "name": None, "scopes_in_name": 0})
