"""The flow of data between nodes: which are parents of which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jax.extend.core import JaxprEqn, Literal, Var

from cgjax._node import node_p
from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts
from cgjax._program.program import Program, Site

Tags = frozenset[tuple[int, bool]]  # (site index, whether it is the previous step's)
_NONE: Tags = frozenset()


@dataclass(frozen=True)
class _Flow:
    """Pushes tags through a program: the nodes that a value is a function of, through no other.

    Attributes:
        program: the traced function.
        found: for each node the tags of its parents, added to whenever the node is met.
        decisive: whether what decides that a node's branch is taken counts as its parent.
    """

    program: Program
    found: dict[int, Tags]
    decisive: bool

    def run(self, jaxpr: AnyJaxpr, tags: Sequence[Tags], start: int, deciding: Tags) -> list[Tags]:
        """Pushes tags through one jaxpr, whose nodes are numbered from `start`."""
        inner = open_jaxpr(jaxpr)
        env: dict[Var, Tags] = dict.fromkeys(inner.constvars, _NONE)
        env.update(zip(inner.invars, tags, strict=True))

        def read(v: Var | Literal) -> Tags:
            return _NONE if isinstance(v, Literal) else env[v]

        index = start
        for eqn in inner.eqns:
            operands = [read(v) for v in eqn.invars]
            if eqn.primitive is node_p:
                outs = [self.node(self.program.sites[index], operands, deciding)]
                index += 1
            elif facts(eqn).entered:
                outs = self.enter(eqn, operands, index, deciding)
                index += sum(map(self.count, sub_jaxprs(eqn)))
            else:
                outs = _after(eqn, operands)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in inner.outvars]

    def node(self, site: Site, operands: list[Tags], deciding: Tags) -> Tags:
        # The activation, operand 0, is a function of e and brings nothing of its own; what comes
        # after the parameters lends its mapped axes only.
        new = _NONE.union(*operands[1 : 2 + site.family.num_arrays])
        if self.decisive:
            new |= deciding
        self.found[site.index] |= new
        return frozenset({(site.index, False)})

    def count(self, jaxpr: AnyJaxpr) -> int:
        return self.program.counts[id(open_jaxpr(jaxpr))]

    def enter(self, eqn: JaxprEqn, operands: list[Tags], start: int, deciding: Tags) -> list[Tags]:
        match control(eqn, operands):
            case Scan() as scan:
                return self.scan(scan, start, deciding)
            case While() as loop:
                return self.loop(loop, start, deciding)
            case Cond() as cond:
                return self.branch(cond, len(eqn.outvars), start, deciding)
            case Call() as call:
                return self.run(call.body, call.operands, start, deciding)
        raise AssertionError(eqn.primitive)

    def scan(self, scan: Scan[Tags], start: int, deciding: Tags) -> list[Tags]:
        carry = scan.carry
        while True:
            operands = [*scan.consts, *carry, *scan.xs]
            outs = self.run(scan.body, operands, start, deciding)
            new = _united(carry, map(_earlier, scan.split(outs)[0]))
            if new == carry:
                last, rows = scan.split(outs)
                return list(map(_settled, [*(last if scan.length else scan.carry), *rows]))
            carry = new

    def loop(self, loop: While[Tags], start: int, deciding: Tags) -> list[Tags]:
        starts, index = {}, start
        for part in loop.parts:
            starts[id(part)] = index
            index += self.count(part)
        carry, at_cond, at_body = loop.carry, starts[id(loop.cond)], starts[id(loop.body)]
        while True:
            stop = self.run(loop.cond, [*loop.cond_consts, *carry], at_cond, deciding)[0]
            outs = self.run(loop.body, [*loop.body_consts, *carry], at_body, deciding | stop)
            new = [c | _earlier(o) | stop for c, o in zip(carry, outs, strict=True)]
            if new == carry:
                return list(map(_settled, new))
            carry = new

    def branch(self, cond: Cond[Tags], num_results: int, start: int, deciding: Tags) -> list[Tags]:
        outs = [cond.index] * num_results
        for body in cond.branches:
            outs = _united(outs, self.run(body, cond.operands, start, deciding | cond.index))
            start += self.count(body)
        return outs


def _after(eqn: JaxprEqn, operands: list[Tags]) -> list[Tags]:
    if facts(eqn).paired and len(operands) == len(eqn.outvars):
        return operands
    return [_NONE.union(*operands)] * len(eqn.outvars)


def _united(a: Iterable[Tags], b: Iterable[Tags]) -> list[Tags]:
    return [x | y for x, y in zip(a, b, strict=True)]


def _earlier(tags: Tags) -> Tags:
    return frozenset((i, True) for i, _ in tags)


def _settled(tags: Tags) -> Tags:
    return frozenset((i, False) for i, _ in tags)


def parents(
    program: Program, *, arguments: bool = False, deciding: bool = False
) -> tuple[dict[int, Tags], list[Tags]]:
    """The direct parents of each node, and of each flat result.

    Args:
        program: the traced function.
        arguments: whether its flat arguments count as parents too, argument k as -1 - k.
        deciding: whether what decides that a node's branch is taken counts as its parent.

    Returns:
        For each node index the set of (parent index, whether at the previous step), and the same
        for each result.
    """
    found: dict[int, Tags] = {site.index: _NONE for site in program.sites}
    count = len(open_jaxpr(program.jaxpr).invars)
    tags = [frozenset({(-1 - k, False)}) if arguments else _NONE for k in range(count)]
    results = _Flow(program, found, deciding).run(program.jaxpr, tags, 0, _NONE)
    return found, results
