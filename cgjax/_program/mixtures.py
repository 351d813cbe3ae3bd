"""Interpolations as the mixtures that they are: `x + s (y - x)` as `(1 - s) x + s y`.

As it is written first, x stands twice, in terms of which each is taken for a variable of its own.
"""

from __future__ import annotations

import jax
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from cgjax._program.jaxprs import Atom, aval

Made = dict[Atom, JaxprEqn]


def as_mixtures(jaxpr: Jaxpr) -> Jaxpr:
    """The jaxpr with mixtures in place of interpolations, whose own steps are not used then."""
    made: Made = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    found = [(eqn, _interpolation(eqn, made)) for eqn in jaxpr.eqns]
    if all(parts is None for _, parts in found):
        return jaxpr
    eqns = [e for eqn, parts in found for e in ([eqn] if parts is None else _mixed(eqn, parts))]
    return jaxpr.replace(eqns=eqns)


def _interpolation(eqn: JaxprEqn, made: Made) -> tuple[Atom, Atom, Atom] | None:
    """The start, the share and the end of `start + share * (end - start)`; None of all else."""
    if eqn.primitive not in (lax.add_p, lax.sub_p):
        return None
    adds, (a, b) = eqn.primitive is lax.add_p, eqn.invars
    for start, step in ((a, b), (b, a)) if adds else ((a, b),):
        product = None if isinstance(step, Literal) else made.get(step)
        if product is None or product.primitive is not lax.mul_p:
            continue
        for share, difference in (product.invars, product.invars[::-1]):
            apart = None if isinstance(difference, Literal) else made.get(difference)
            if apart is None or apart.primitive is not lax.sub_p:
                continue
            end, other = apart.invars if adds else apart.invars[::-1]
            if other is start:
                return start, share, end
    return None


def _mixed(eqn: JaxprEqn, parts: tuple[Atom, Atom, Atom]) -> list[JaxprEqn]:
    def mixture(start: jax.Array, share: jax.Array, end: jax.Array) -> jax.Array:
        return (1 - share) * start + share * end

    shapes = [jax.ShapeDtypeStruct(aval(v).shape, aval(v).dtype) for v in parts]
    inner = jax.make_jaxpr(mixture)(*shapes).jaxpr
    atoms: dict[Atom, Atom] = dict(zip(inner.invars, parts, strict=True))
    atoms |= dict(zip(inner.outvars, eqn.outvars, strict=True))

    def outer(v: Atom) -> Atom:
        return v if isinstance(v, Literal) else atoms.get(v, v)

    return [
        e.replace(
            invars=list(map(outer, e.invars)),
            outvars=list(map(outer, e.outvars)),
            source_info=eqn.source_info,
        )
        for e in inner.eqns
    ]
