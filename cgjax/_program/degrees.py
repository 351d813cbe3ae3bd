"""How a program's results depend on its operands: not at all, linearly, or otherwise."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal, Var

from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, dtype, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts


class Degree(enum.IntEnum):
    """What a value is as a function of the operands that are let vary.

    Linear here means affine, and jointly so: E[f(x)] = f(E[x]) whatever the distribution of x.
    """

    FIXED = 0
    LINEAR = 1
    OTHER = 2


Degrees = list[Degree]


def degrees_of(jaxpr: AnyJaxpr, operands: Sequence[Degree]) -> Degrees:
    """The degree of each result of a jaxpr, given those of its operands."""
    inner = open_jaxpr(jaxpr)
    env: dict[Var, Degree] = dict.fromkeys(inner.constvars, Degree.FIXED)
    env.update(zip(inner.invars, operands, strict=True))

    def read(v: Var | Literal) -> Degree:
        return Degree.FIXED if isinstance(v, Literal) else env[v]

    for eqn in inner.eqns:
        env.update(zip(eqn.outvars, degrees(eqn, list(map(read, eqn.invars))), strict=True))
    return list(map(read, inner.outvars))


def degrees(eqn: JaxprEqn, operands: Sequence[Degree]) -> Degrees:
    """The degree of each result of an equation, given those of its operands."""
    match control(eqn, operands):
        case Call() as call:
            outs = degrees_of(call.body, call.operands)
        case Scan() as scan:
            outs = _scan(scan)
        case While() as loop:
            outs = _while(loop)
        case Cond() as cond:
            outs = _cond(cond)
        case None:
            outs = _operation(eqn, operands)
    return list(map(_of_numbers, outs, eqn.outvars))


def wraps_linear(eqn: JaxprEqn, random: Sequence[bool]) -> bool:
    """Whether an equation wraps a function that is linear in its random operands.

    It then has the derivative of that function: none inside has one of its own.
    """
    known = facts(eqn)
    if not known.wraps or any(map(_holds_custom, sub_jaxprs(eqn))):
        return False
    of_results = degrees(eqn, [Degree.LINEAR if x else Degree.FIXED for x in random])
    return max(of_results, default=Degree.FIXED) <= Degree.LINEAR


def _holds_custom(jaxpr: AnyJaxpr) -> bool:
    return any(
        facts(eqn).call == "custom" or any(map(_holds_custom, sub_jaxprs(eqn)))
        for eqn in open_jaxpr(jaxpr).eqns
    )


def _of_numbers(degree: Degree, result: Var) -> Degree:
    # Rounding to integers is not linear.
    of = dtype(result)
    exact = of is None or not jnp.issubdtype(of, jnp.inexact)
    return Degree.OTHER if degree and exact else degree


def _operation(eqn: JaxprEqn, operands: Sequence[Degree]) -> Degrees:
    known, count = facts(eqn), len(eqn.outvars)
    if known.marks:  # whatever its parameter depends on, a node is random
        return [Degree.OTHER] * count
    bodies = sub_jaxprs(eqn)
    if known.wraps and len(bodies) == 1 and len(open_jaxpr(bodies[0]).invars) == len(operands):
        return degrees_of(bodies[0], operands)
    if known.paired and len(operands) == count:
        return [x if known.is_linear([x > 0]) else _other(x) for x in operands]
    worst = max(operands, default=Degree.FIXED)
    if worst == Degree.LINEAR and not known.is_linear([x > 0 for x in operands]):
        worst = Degree.OTHER
    return [worst] * count


def _other(degree: Degree) -> Degree:
    return Degree.OTHER if degree else degree


def _repeated(step: Callable[[Degrees], Degrees], carry: Degrees) -> tuple[Degrees, Degrees]:
    """What a loop carries in the end, and all results of a step from there."""
    while True:
        outs = step(carry)
        new = list(map(max, carry, outs))
        if new == carry:
            return carry, outs
        carry = new


def _scan(scan: Scan[Degree]) -> Degrees:
    carry, outs = _repeated(
        lambda carry: degrees_of(scan.body, [*scan.consts, *carry, *scan.xs]), scan.carry
    )
    return [*carry, *scan.split(outs)[1]]


def _while(loop: While[Degree]) -> Degrees:
    carry, _ = _repeated(
        lambda carry: degrees_of(loop.body, [*loop.body_consts, *carry]), loop.carry
    )
    stop = degrees_of(loop.cond, [*loop.cond_consts, *carry])[0]
    return [Degree.OTHER] * len(carry) if stop else carry


def _cond(cond: Cond[Degree]) -> Degrees:
    branches = [degrees_of(body, cond.operands) for body in cond.branches]
    outs = [max(of_result) for of_result in zip(*branches, strict=True)]
    return [Degree.OTHER] * len(outs) if cond.index else outs
