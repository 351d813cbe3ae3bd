"""Parts of a program: what some of its values and nodes need, and nothing else.

What no node changes is computed once for all parts. In a part the statistics of nodes are given, so
that of what lies behind them nothing is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.extend.core import Var

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


@dataclass(frozen=True)
class Part:
    """A part of a program, as a program.

    Attributes:
        program: its arguments are variables of the whole one; its result is a list of values.
        nodes: for each node inside, the number that it has in the whole program.
        arguments: these variables; those that are not needed, though an equation names them, are 0.
        unused: which of the arguments these are.
    """

    program: Program
    nodes: tuple[int, ...]
    arguments: tuple[Var, ...]
    unused: frozenset[Var]

    def at(self, fixed: dict[Var, Operand]) -> list[Operand]:
        """The arguments, given the values that no node changes."""
        return [
            jnp.zeros(aval(v).shape, dtype(v)) if v in self.unused else fixed[v]
            for v in self.arguments
        ]


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

    def part(self, values: Sequence[Atom], targets: Collection[int]) -> Part:
        """What some values need, and the natural parameters of some nodes.

        Args:
            values: the results.
            targets: these nodes; of all others only the statistics matter, which are given.
        """
        kept: set[int] = set()
        unused: set[Var] = set()
        pending: list[Atom] = list(values)
        for index in targets:
            self._keep(self.place[index], targets, kept, unused, pending)
        arguments: dict[Var, None] = {}
        while pending:
            v = pending.pop()
            if isinstance(v, Literal):
                continue
            if self.is_fixed(v):
                arguments[v] = None
            else:
                self._keep(self.maker[v], targets, kept, unused, pending)
        eqns = [self.eqns[k] for k in sorted(kept)]
        made = {v for eqn in eqns for v in eqn.outvars}
        unused -= made | set(arguments)
        every = (*arguments, *unused)
        nodes = tuple(i for k in sorted(kept) for i in self._nodes(k))
        inner = with_constants(open_jaxpr(self.program.jaxpr), (), ()).jaxpr
        jaxpr = inner.replace(invars=list(every), outvars=list(values), eqns=eqns)
        sites = (replace(self.program.sites[i], index=new) for new, i in enumerate(nodes))
        program = replace(
            self.program,
            jaxpr=Closed(jaxpr, ()),
            sites=tuple(sites),
            counts=self.program.counts,
            out_tree=jax.tree.structure([0] * len(values)),
        )
        return Part(program, nodes, every, frozenset(unused))

    def _keep(
        self,
        position: int,
        targets: Collection[int],
        kept: set[int],
        unused: set[Var],
        pending: list[Atom],
    ) -> None:
        """Keeps an equation, and asks for what it needs."""
        if position in kept:
            return
        kept.add(position)
        eqn, index = self.eqns[position], self.first[position]
        operands = list(eqn.invars)
        if eqn.primitive is node_p:
            size = eqn.params["family"].num_arrays
            needed = operands[2 : 2 + size]
            if index in targets:
                needed.append(operands[1])
            pending += needed
            unused.update(v for v in operands if not isinstance(v, Literal) and v not in needed)
        else:
            pending += operands
