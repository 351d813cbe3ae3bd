"""A program in which nothing is computed twice: equal operations on equal values are one.

Written twice, `x @ w` is still one value, so what is believed about both has to be one belief.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from cgjax._program.jaxprs import Atom, aval, dtype, same_parameters


def without_repeats(jaxpr: Jaxpr, kept: Callable[[JaxprEqn], bool]) -> Jaxpr:
    """A jaxpr without the operations that repeat an earlier one.

    Args:
        jaxpr: the jaxpr.
        kept: operations that stay, such as those that hold nodes: each is a variable of its own.
    """
    same: dict[Var, Var] = {}
    known: dict[Hashable, list[JaxprEqn]] = {}
    eqns: list[JaxprEqn] = []
    for eqn in jaxpr.eqns:
        invars = [v if isinstance(v, Literal) else same.get(v, v) for v in eqn.invars]
        if any(new is not old for new, old in zip(invars, eqn.invars, strict=True)):
            eqn = eqn.replace(invars=invars)
        if not eqn.effects and not kept(eqn):
            alike = known.setdefault((eqn.primitive, *map(_identity, eqn.invars)), [])
            first = next((one for one in alike if same_parameters(one, eqn)), None)
            if first is not None:
                same.update(zip(eqn.outvars, first.outvars, strict=True))
                continue
            alike.append(eqn)
        eqns.append(eqn)
    if not same:
        return jaxpr
    outvars = [v if isinstance(v, Literal) else same.get(v, v) for v in jaxpr.outvars]
    return jaxpr.replace(eqns=eqns, outvars=outvars)


def _identity(v: Atom) -> Hashable:
    """What tells a variable or a number from others."""
    if not isinstance(v, Literal):
        return v
    return dtype(v), aval(v).shape, np.asarray(v.val).tobytes()
