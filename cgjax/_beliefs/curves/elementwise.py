"""Element-wise operations on values with beliefs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.curve import Curve, as_curve, composed, warn_of_decision
from cgjax._beliefs.curves.form import dtype_of, is_inexact, number, shape_of
from cgjax._beliefs.curves.joint import Split, same_root
from cgjax._beliefs.curves.several import is_chance, mixed
from cgjax._beliefs.curves.splits import on_splits
from cgjax._beliefs.movement import spread
from cgjax._beliefs.values import Gaussian, Value, at_mean, is_random, settle
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts


def is_elementwise(eqn: JaxprEqn) -> bool:
    """Whether an equation has one result, made of the elements at its place."""
    return facts(eqn).elementwise and len(eqn.outvars) == 1


def elementwise(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | None:
    """The value of an element-wise equation; None where there is no rule, as for some of two."""
    known = facts(eqn)
    if known.curvature == "stepped" and order != 1:
        return None
    shape, dtype = tuple(shape_of(eqn.outvars[0])), dtype_of(eqn.outvars[0])
    if known.converts and is_inexact(dtype_of(eqn.invars[0])) and not is_inexact(dtype):
        if order != 1:
            warn_of_decision(eqn, "whole numbers")
        return bind(eqn, [at_mean(x) for x in operands])[0]
    chosen = _known_choice(eqn, operands)
    if chosen is not None:
        return chosen
    operands = [
        _spread(x if isinstance(x, Curve | Split) else settle(x, order), shape, order)
        for x in operands
    ]
    splits = [x for x in operands if isinstance(x, Split)]
    if splits and is_inexact(dtype) and eqn.primitive is not lax.select_n_p:
        out = on_splits(eqn, operands, splits[0].of.root)
        if out is not None:
            return out
    if eqn.primitive is not lax.select_n_p:
        operands = [settle(x, order) if isinstance(x, Split) else x for x in operands]
    random = [x for x in operands if is_random(x)]
    curves = [as_curve(x) for x in random if isinstance(x, Gaussian | Curve)]
    # Of what only a probability is known, no function is known either.
    alone = len(curves) == len(random) and (known.converts or not any(map(is_chance, random)))
    if alone and all(same_root(c.root, curves[0].root) for c in curves):
        return composed(eqn, operands, order)
    return mixed(eqn, operands, order)


def _known_choice(eqn: JaxprEqn, operands: Sequence[Value]) -> Value | None:
    """What a choice chooses, if what decides is known while tracing, such as whether x is NaN."""
    which = operands[0]
    if eqn.primitive is not lax.select_n_p or not isinstance(which, Curve):
        return None
    line = which.affine
    at = None if line is None or not line.is_level else number(line.offset)
    return None if at is None else operands[1 + int(at.real)]


def _spread(x: Value, shape: tuple[int, ...], order: int) -> Value:
    """A Gaussian that an operation broadcasts: a single number, or one of size 1 along axes."""
    if not is_random(x) or x.shape == shape:
        return x
    x = settle(x, order)
    return spread(x, shape, range(len(x.shape))) if isinstance(x, Gaussian) else x


_COMPARISONS = (lax.eq_p, lax.ne_p, lax.lt_p, lax.le_p, lax.gt_p, lax.ge_p)


def asks_for_infinity(eqn: JaxprEqn, operands: Sequence[Value]) -> bool:
    """Whether an operation decides which values are infinite: those whose means are, surely."""
    if eqn.primitive is lax.is_finite_p:
        return True
    if eqn.primitive not in _COMPARISONS:
        return False
    known = [x for x in operands if not is_random(x) and not isinstance(x, Tracer)]
    return len(known) == 1 and bool(np.isinf(np.asarray(known[0])).all())
