"""Operations on functions of a sum with independent rests: f(d) + sum_k g_k(d) e_k.

What is linear in the values is linear in f and in every g_k; and a function of d alone multiplies
them all. So `logaddexp(x, y)`, `where(x > y, x, y)` and `y + relu(x - y)` know what they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.curve import Curve, as_curve, composed
from cgjax._beliefs.curves.joint import Loading, Split, given, same_root
from cgjax._beliefs.values import Gaussian, Value, is_random
from cgjax._program.primitives import facts


def on_splits(eqn: JaxprEqn, operands: Sequence[Value], root: Gaussian) -> Value | None:
    """An operation on values as functions of one Gaussian; None if they do not stay such."""
    if root.axes:
        return None
    parts = [_as_split(x, root) for x in operands]
    if not all(p is None or isinstance(p, Split) for p in parts):
        return None
    loaded = [p is not None and bool(p.loadings) for p in parts]
    known = facts(eqn)
    # A choice by a function of the Gaussian is linear in what is chosen.
    if not known.is_linear(loaded):
        return None
    of = _composed(eqn, [x if p is None else p.of for x, p in zip(operands, parts, strict=True)])
    if of is None:
        return None
    sources = {id(one.source): one.source for p in parts if p is not None for one in p.loadings}
    inside = (known.data if known.bilinear else known.linear).of(len(operands))
    loadings = []
    for source in sources.values():
        # What is added has no part in what the source contributes; what multiplies or decides has.
        adds = [k in inside and not (known.bilinear and not loaded[k]) for k in range(len(parts))]
        values = [
            _factor(p, source) if is_added else x if p is None else p.of
            for x, p, is_added in zip(operands, parts, adds, strict=True)
        ]
        factor = _composed(eqn, values)
        if factor is None:
            return None
        loadings.append(Loading(source, factor))
    return Split(of, tuple(loadings)) if loadings else of


def _as_split(value: Value, root: Gaussian) -> Split | None:
    if not is_random(value):
        return None
    if isinstance(value, Curve) and value.is_decision and not same_root(value.root, root):
        return None
    return given(value, root)


def _factor(part: Split | None, source: object) -> Value:
    """What a value multiplies a source by."""
    for loading in part.loadings if part is not None else ():
        if loading.source is source:
            return loading.factor
    return jnp.zeros(())


def _composed(eqn: JaxprEqn, values: Sequence[Value]) -> Curve | None:
    if eqn.primitive is lax.select_n_p:
        shape = next(as_curve(v).shape for v in values if is_random(v))
        values = [
            values[0],
            *(v if is_random(v) else jnp.broadcast_to(v, shape) for v in values[1:]),
        ]
    out = composed(eqn, values, 2)
    return out if isinstance(out, Curve) else None
