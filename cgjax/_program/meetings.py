"""Where parameters of a program meet its data: the products that layers are made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from cgjax._program.degrees import Degree, degrees
from cgjax._program.inline import inlined
from cgjax._program.jaxprs import Atom, aval, open_jaxpr, sub_jaxprs
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
    """

    values: Program
    parameters: tuple[int, ...]


def meetings(program: Program, parameters: Collection[int]) -> Meetings:
    """The products in which each parameter first meets data.

    A product is an operation that multiplies and sums over an axis, as a matrix product or a
    convolution does, or a function with a derivative of its own that holds one; with the constants
    that it is multiplied by, and the axes that are moved, before anything else uses it. Before it,
    a parameter may have been through any function that is linear in it, for other parameters that
    are fixed. Where a factor holds several such parameters, the largest one counts. What lies
    inside loops and branches is not looked into.

    Args:
        program: the traced function.
        parameters: the numbers of its flat arguments that are parameters; the others are data.
    """
    program = replace(program, jaxpr=inlined(program.jaxpr, program.counts))
    inner = open_jaxpr(program.jaxpr)
    # Of what depends on no data; what depends on no parameter either is constant.
    known: dict[Var, _Of] = {v: {} for v in inner.constvars}
    known.update((v, {k: Degree.LINEAR}) for k, v in enumerate(inner.invars) if k in parameters)
    found: dict[int, Var] = {}
    for eqn in inner.eqns:
        of = [{} if isinstance(v, Literal) else known.get(v) for v in eqn.invars]
        fixed = [x for x in of if x is not None]
        if len(fixed) < len(of):
            if _contracts(eqn):
                for k in _met(eqn, [x or {} for x in of], inner.invars):
                    found.setdefault(k, eqn.outvars[0])
            continue
        known.update(zip(eqn.outvars, _degrees(eqn, fixed), strict=True))
    constant = {v for v, of in known.items() if not of}
    ends = [_followed(v, inner, constant) for v in found.values()]
    return Meetings(returning(program, ends), tuple(found))


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
