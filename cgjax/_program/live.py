"""What results depend on: a program without what is computed and then dropped."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn, Literal

from cgjax._node import node_p
from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts


def live(
    jaxpr: AnyJaxpr, results: Sequence[bool], own: bool = False
) -> tuple[list[bool], list[JaxprEqn]]:
    """Which arguments some results of a program depend on, and through which equations.

    Nodes and effects count as results.

    Args:
        jaxpr: the program.
        results: which of its results are wanted.
        own: whether nodes whose elements touch find their activation themselves, so that what
            computes it in the program counts for nothing.
    """
    inner = open_jaxpr(jaxpr)
    returned = zip(inner.outvars, results, strict=True)
    wanted = {v for v, is_wanted in returned if is_wanted and not isinstance(v, Literal)}
    eqns = []
    for eqn in reversed(inner.eqns):
        outs = [v in wanted for v in eqn.outvars]
        if any(outs) or eqn.effects or _holds_nodes(eqn):
            eqns.append(eqn)
            operands = zip(eqn.invars, _operands(eqn, outs, own), strict=True)
            wanted.update(v for v, w in operands if w and not isinstance(v, Literal))
    return [v in wanted for v in inner.invars], eqns[::-1]


def live_inside(eqn: JaxprEqn, results: Sequence[bool], own: bool = False) -> list[bool]:
    """Which results of the functions that an equation holds its own results depend on.

    Those of the condition of a `while` loop aside, which are all wanted.

    Args:
        eqn: the equation.
        results: which of its results are wanted.
        own: as in `live`.
    """
    part = control(eqn, eqn.invars)
    if isinstance(part, While):
        return [True] * len(results)
    if not isinstance(part, Scan):
        return list(results)
    wanted, start = list(results), len(part.consts)
    while True:
        arguments, _ = live(part.body, wanted, own)
        carry = arguments[start : start + len(part.carry)]
        new = [w or (k < len(carry) and carry[k]) for k, w in enumerate(wanted)]
        if new == wanted:
            return wanted
        wanted = new


def touches(eqn: JaxprEqn) -> bool:
    """Whether an equation marks a node whose elements touch each other."""
    if eqn.primitive is not node_p:
        return False
    family, _ = eqn.params["family"].treedef.node_data()
    return family.touching is not None


def unneeded(jaxpr: AnyJaxpr) -> frozenset[int]:
    """The equations, by id, that lead at most to activations of nodes whose elements touch.

    What any other equation takes is needed, whatever that does with it.
    """
    inner = open_jaxpr(jaxpr)
    wanted = {v for v in inner.outvars if not isinstance(v, Literal)}
    found = []
    for eqn in reversed(inner.eqns):
        if wanted.isdisjoint(eqn.outvars) and not eqn.effects and not _holds_nodes(eqn):
            found.append(id(eqn))
        else:
            operands = eqn.invars[1:] if touches(eqn) else eqn.invars
            wanted.update(v for v in operands if not isinstance(v, Literal))
    return frozenset(found)


def _operands(eqn: JaxprEqn, results: Sequence[bool], own: bool) -> list[bool]:
    """Which operands of an equation some of its results depend on."""
    if own and touches(eqn):
        return [False] + [True] * (len(eqn.invars) - 1)
    inside = live_inside(eqn, results, own)
    match control(eqn, eqn.invars):
        case Call() as call:
            return live(call.body, inside, own)[0]
        case Scan() as scan:
            return live(scan.body, inside, own)[0]
        case Cond() as cond:
            branches = [live(branch, inside, own)[0] for branch in cond.branches]
            return [True, *map(any, zip(*branches, strict=True))]
    return [True] * len(eqn.invars)


def _holds_nodes(eqn: JaxprEqn) -> bool:
    inside = (e for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns)
    return facts(eqn).marks or any(map(_holds_nodes, inside))
