"""What results depend on: a program without what is computed and then dropped."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn, Literal

from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts


def live(jaxpr: AnyJaxpr, results: Sequence[bool]) -> tuple[list[bool], list[JaxprEqn]]:
    """Which arguments some results of a program depend on, and through which equations.

    Nodes and effects count as results.

    Args:
        jaxpr: the program.
        results: which of its results are wanted.
    """
    inner = open_jaxpr(jaxpr)
    returned = zip(inner.outvars, results, strict=True)
    wanted = {v for v, is_wanted in returned if is_wanted and not isinstance(v, Literal)}
    eqns = []
    for eqn in reversed(inner.eqns):
        outs = [v in wanted for v in eqn.outvars]
        if any(outs) or eqn.effects or _holds_nodes(eqn):
            eqns.append(eqn)
            operands = zip(eqn.invars, _operands(eqn, outs), strict=True)
            wanted.update(v for v, w in operands if w and not isinstance(v, Literal))
    return [v in wanted for v in inner.invars], eqns[::-1]


def live_inside(eqn: JaxprEqn, results: Sequence[bool]) -> list[bool]:
    """Which results of the functions that an equation holds its own results depend on.

    Those of the condition of a `while` loop aside, which are all wanted.
    """
    part = control(eqn, eqn.invars)
    if isinstance(part, While):
        return [True] * len(results)
    if not isinstance(part, Scan):
        return list(results)
    wanted, start = list(results), len(part.consts)
    while True:
        arguments, _ = live(part.body, wanted)
        carry = arguments[start : start + len(part.carry)]
        new = [w or (k < len(carry) and carry[k]) for k, w in enumerate(wanted)]
        if new == wanted:
            return wanted
        wanted = new


def _operands(eqn: JaxprEqn, results: Sequence[bool]) -> list[bool]:
    """Which operands of an equation some of its results depend on."""
    inside = live_inside(eqn, results)
    match control(eqn, eqn.invars):
        case Call() as call:
            return live(call.body, inside)[0]
        case Scan() as scan:
            return live(scan.body, inside)[0]
        case Cond() as cond:
            branches = [live(branch, inside)[0] for branch in cond.branches]
            return [True, *map(any, zip(*branches, strict=True))]
    return [True] * len(eqn.invars)


def _holds_nodes(eqn: JaxprEqn) -> bool:
    inside = (e for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns)
    return facts(eqn).marks or any(map(_holds_nodes, inside))
