"""Where parameters of a program meet its data: the products that layers are made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.degrees import Degree, degrees
from cgjax._program.inline import inlined
from cgjax._program.jaxprs import AnyJaxpr, Atom, aval, open_jaxpr, sub_jaxprs
from cgjax._program.linear import returning
from cgjax._program.primitives import facts
from cgjax._program.program import Program

# For each parameter that a value depends on, how.
_Of = Mapping[int, Degree]


@dataclass(frozen=True)
class Meetings:
    """The products in which parameters first meet data.

    Attributes:
        values: the program that returns the products, in order, as a list.
        parameters: for each the flat argument that it is linear in.
        inside: parameters that meet data in a product only inside a loop or a branch.
    """

    values: Program
    parameters: tuple[int, ...]
    inside: tuple[int, ...]


def meetings(program: Program, parameters: Collection[int]) -> Meetings:
    """The products in which each parameter first meets data.

    A product is an operation that multiplies and sums over an axis, as a matrix product or a
    convolution does, or a function with a derivative of its own that holds one; with the constants
    that it is multiplied by, and the axes that are moved, before anything else uses it. Before it,
    a parameter may have been through any function that is linear in it, for other parameters that
    are fixed. Where a factor holds several such parameters, the largest one counts.

    Args:
        program: the traced function.
        parameters: the numbers of its flat arguments that are parameters; the others are data.
    """
    program = replace(program, jaxpr=inlined(program.jaxpr, program.counts))
    inner = open_jaxpr(program.jaxpr)
    # Of what depends on no data; what depends on no parameter either is constant.
    known: dict[Var, _Of] = {v: {} for v in inner.constvars}
    known.update((v, {k: Degree.LINEAR}) for k, v in enumerate(inner.invars) if k in parameters)
    found, inside = _products(inner, known, inner.invars)
    constant = {v for v, of in known.items() if not of}
    ends = [_followed(v, inner, constant) for v in found.values()]
    missed = tuple(sorted(inside - found.keys()))
    return Meetings(returning(program, ends), tuple(found), missed)


def _products(
    jaxpr: Jaxpr, known: dict[Var, _Of], arguments: Sequence[Var]
) -> tuple[dict[int, Var], set[int]]:
    """The first product of each parameter, and the parameters with one inside what is called.

    Args:
        jaxpr: what is looked into.
        known: how what is no data depends on parameters; it is added to.
        arguments: of the whole program, among which parameters are numbered.
    """
    found: dict[int, Var] = {}
    inside: set[int] = set()
    for eqn in jaxpr.eqns:
        of = [{} if isinstance(v, Literal) else known.get(v) for v in eqn.invars]
        fixed = [x for x in of if x is not None]
        if len(fixed) == len(of):
            known.update(zip(eqn.outvars, _degrees(eqn, fixed), strict=True))
        elif _contracts(eqn):
            for k in _met(eqn, [x or {} for x in of], arguments):
                found.setdefault(k, eqn.outvars[0])
        else:
            for body, operands in _bodies(eqn, of):
                called = open_jaxpr(body)
                outer = dict.fromkeys(called.constvars, {})
                outer |= {
                    v: x for v, x in zip(called.invars, operands, strict=True) if x is not None
                }
                inside.update(*_products(called, outer, arguments))
    return found, inside


def _bodies(eqn: JaxprEqn, of: list[_Of | None]) -> list[tuple[AnyJaxpr, list[_Of | None]]]:
    """What a loop, a branch or a call evaluates, and on what; what a loop carries is data."""
    match control(eqn, of):
        case Scan() as scan:
            return [(scan.body, [*scan.consts, *[None] * len(scan.carry), *scan.xs])]
        case While() as loop:
            return [(loop.body, [*loop.body_consts, *[None] * len(loop.carry)])]
        case Cond() as cond:
            return [(branch, list(cond.operands)) for branch in cond.branches]
        case Call() as call:
            return [(call.body, list(call.operands))]
    return []


def _contracts(eqn: JaxprEqn) -> bool:
    """Whether an equation is a product that sums, or a function of its own derivative with one."""
    if facts(eqn).contracts:
        return True
    if facts(eqn).call != "custom":
        return False
    return any(_contracts(e) for sub in sub_jaxprs(eqn) for e in open_jaxpr(sub).eqns)


def _degrees(eqn: JaxprEqn, of: Sequence[_Of]) -> list[dict[int, Degree]]:
    """How each result of an equation on parameters depends on them."""
    results: list[dict[int, Degree]] = [{} for _ in eqn.outvars]
    for k in {k for x in of for k in x}:
        found = degrees(eqn, [x.get(k, Degree.FIXED) for x in of])
        for result, degree in zip(results, found, strict=True):
            if degree != Degree.FIXED:
                result[k] = degree
    return results


def _met(eqn: JaxprEqn, of: Sequence[_Of], arguments: Sequence[Var]) -> list[int]:
    """Of each factor that is linear in parameters, the largest, where the product is, too."""
    met = []
    for factor in of:
        linear = [k for k, degree in factor.items() if degree == Degree.LINEAR]
        if not linear:
            continue
        k = max(linear, key=lambda k: (math.prod(aval(arguments[k]).shape), -k))
        if degrees(eqn, [x.get(k, Degree.FIXED) for x in of])[0] == Degree.LINEAR:
            met.append(k)
    return met


def _followed(v: Var, inner: Jaxpr, constant: Collection[Var]) -> Var:
    """What becomes of a product before it meets anything but constants that scale or move it.

    So that `x @ (w / 2)` and `(x @ w) / 2` have one product.
    """
    uses = Counter(u for eqn in inner.eqns for u in eqn.invars if not isinstance(u, Literal))
    uses.update(u for u in inner.outvars if not isinstance(u, Literal))
    for eqn in inner.eqns:
        if v not in eqn.invars or uses[v] != 1:
            continue
        about = facts(eqn)
        others: list[Atom] = [u for u in eqn.invars if u is not v]
        plain = all(isinstance(u, Literal) or u in constant for u in others)
        scales = about.multiplies or (about.divides and eqn.invars[0] is v)
        moves = (about.moves or about.converts) and not about.mixes
        signs = about.elementwise and about.signs == (-1,)
        if not (plain and (scales or moves or signs)) or len(eqn.outvars) != 1:
            break
        if math.prod(aval(eqn.outvars[0]).shape) != math.prod(aval(v).shape):
            break
        v = eqn.outvars[0]
    return v
