"""What an operation does to beliefs: which rule it has, and what becomes of those without one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Var

from cgjax._beliefs import registry
from cgjax._beliefs.complex_functions import OfComplex
from cgjax._beliefs.complex_values import of_complex
from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.curve import warn_of_decision
from cgjax._beliefs.curves.elementwise import asks_for_infinity, is_elementwise
from cgjax._beliefs.exponents import not_negative
from cgjax._beliefs.factors import of_factors, whole
from cgjax._beliefs.functions import (
    as_reduction,
    in_layout,
    of_functions,
    one_variable,
    over_copies,
)
from cgjax._beliefs.laid import moved, retraced
from cgjax._beliefs.largest import EXTREMES
from cgjax._beliefs.linear import linear, linearised
from cgjax._beliefs.linked import distinct, linked, of_places, without_link
from cgjax._beliefs.made import made
from cgjax._beliefs.maps import as_linear, is_complex
from cgjax._beliefs.movement import STRUCTURE
from cgjax._beliefs.products import convolution, dot_general
from cgjax._beliefs.scattered import SCATTERED
from cgjax._beliefs.settings import Beliefs, Place, Unknown, no_rule
from cgjax._beliefs.simpler import chosen_everywhere, of_length_one, with_whole_power
from cgjax._beliefs.sums import reduced
from cgjax._beliefs.totals import TOTALS, total_of
from cgjax._beliefs.valleys import largest_of_curve
from cgjax._beliefs.values import Gaussian, Known, Value, at_mean, is_random, settle
from cgjax._program.jaxprs import Literal as Constant
from cgjax._program.jaxprs import Params, aval, bind
from cgjax._program.primitives import facts
from cgjax.nodes import Belief

# A result, or a list of them; None where there is no rule.
Results = Value | list[Value] | None


def results(eqn: JaxprEqn, operands: Sequence[Value], how: Beliefs, place: Place) -> list[Value]:
    """The results of an operation on values of which some are random."""
    custom = registry.rule_of_primitive(eqn.primitive)
    if custom is not None:
        return ruled(custom, eqn, operands, how.order, eqn.params)
    if not _is_complex(eqn, operands):
        operands = [settle(x, how.order) if isinstance(x, OfComplex) else x for x in operands]
    eqn, operands = with_whole_power(of_length_one(eqn), operands)
    chosen = chosen_everywhere(eqn, operands)
    if chosen is not None:
        return [chosen]
    links, order = operands, how.order
    if eqn.primitive.name in EXTREMES and "axes" in eqn.params:
        eqn, first = distinct(eqn, operands[0])
        operands = links = [first]
    product = of_factors(eqn, links, lambda e, x: _by_rule(e, x, how, place))
    if product is not None:
        return [product]
    links = list(map(whole, links))
    operands = list(map(without_link, links))
    out = _by_rule(eqn, operands, how, place)
    if out is None:
        return without_rule(eqn, operands, how, place)
    outs = out if isinstance(out, list) else [out]
    outs = outs if how.positions else [_alone(x) for x in outs]
    if len(outs) != 1:
        return outs
    (plain,) = outs
    found = linked(eqn, links, plain, order)
    if found is plain and is_elementwise(eqn):
        found = of_places(eqn, links, plain, order)
    return [found]


def _by_rule(eqn: JaxprEqn, operands: Sequence[Value], how: Beliefs, place: Place) -> Results:
    name, order = eqn.primitive.name, how.order
    if _is_complex(eqn, operands):
        return _of_complex(eqn, operands, order)
    if asks_for_infinity(eqn, operands):
        return bind(eqn, list(map(at_mean, operands)))
    if is_elementwise(eqn):
        return of_functions(*_with_axes(eqn, operands), order)
    if name == "dot_general":
        return _product(eqn, operands, how, place)
    if name == "conv_general_dilated":
        out = convolution(eqn, _settled(operands, order), order, how.positions)
        return made(out, eqn, operands) if order != 1 and how.positions else out
    hidden = facts(eqn).opaque  # such as a function that a scatter applies
    if not hidden and (_is_sum(eqn) or any(name in rules for rules in _RULES)):
        return _structure(eqn, operands, order, place)
    if facts(eqn).wraps and not _is_differentiable(
        eqn, [at_mean(settle(x, order)) for x in operands]
    ):
        return None
    return linear(eqn, operands, order)


_RULES: tuple[Collection[str], ...] = (STRUCTURE, TOTALS, EXTREMES, SCATTERED)


def _with_axes(eqn: JaxprEqn, operands: Sequence[Value]) -> tuple[JaxprEqn, Sequence[Value]]:
    """Numbers that meet arrays of one element as such arrays: they may be the same variable."""
    shape = tuple(aval(eqn.outvars[0]).shape)
    numbers = [is_random(x) and not x.shape for x in operands]
    if not shape or math.prod(shape) != 1 or not any(numbers) or all(numbers):
        return eqn, operands

    def with_axes(x: Value) -> Value:
        number = jax.ShapeDtypeStruct((), x.dtype)
        (spread,) = jax.make_jaxpr(lambda x: lax.broadcast_in_dim(x, shape, ()))(number).eqns
        array = moved(spread, [x])
        return x if array is None else array

    inner = [with_axes(x) if k else x for x, k in zip(operands, numbers, strict=True)]
    return retraced(eqn, inner), inner


def _settled(values: Sequence[Value], order: int) -> list[Value]:
    return [settle(v, order) for v in values]


def _alone(value: Value) -> Value:
    return value.alone() if isinstance(value, Gaussian) else value


def _is_complex(eqn: JaxprEqn, operands: Sequence[Value]) -> bool:
    """Whether random operands are complex, or results."""
    makes = any(jnp.issubdtype(aval(v).dtype, jnp.complexfloating) for v in eqn.outvars)
    return makes or any(is_random(x) and is_complex(x) for x in operands)


def _of_complex(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Results:
    """An operation on complex values: as a function of one Gaussian, or as a linear map."""
    plain = all(isinstance(x, Gaussian | Curve) for x in operands if is_random(x))
    if is_elementwise(eqn) and plain:
        roots = {id(x.root if isinstance(x, Curve) else x) for x in operands if is_random(x)}
        if len(roots) == 1:
            return of_functions(eqn, operands, order)
    return of_complex(eqn, operands, order)


def _product(eqn: JaxprEqn, operands: Sequence[Value], how: Beliefs, place: Place) -> Results:
    steps = as_reduction(eqn, operands)
    if steps is not None:
        return evaluated(steps, operands, how, place)
    same = one_variable(*operands)
    out = dot_general(eqn, _settled(operands, how.order), how.order, how.positions, same)
    followed = how.order != 1 and how.positions and same is None
    return made(out, eqn, operands) if followed else out


def evaluated(
    jaxpr: ClosedJaxpr, operands: Sequence[Value], how: Beliefs, place: Place
) -> list[Value]:
    """The results of several operations that stand for one."""
    known = dict(zip(jaxpr.jaxpr.invars, operands, strict=True))

    def read(v: Var | Constant) -> Value:
        return v.val if isinstance(v, Constant) else known[v]

    for eqn in jaxpr.eqns:
        values = [read(v) for v in eqn.invars]
        random = any(map(is_random, values))
        outs = results(eqn, values, how, place) if random else bind(eqn, values)
        outs = list(map(not_negative, outs)) if place.positive else outs
        known.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.jaxpr.outvars]


def _structure(eqn: JaxprEqn, operands: Sequence[Value], order: int, place: Place) -> Results:
    """Moves, sums, products and largest values."""
    name, known = eqn.primitive.name, facts(eqn)
    if (_is_sum(eqn) or name in EXTREMES) and (
        out := over_copies(eqn, operands[0], order)
    ) is not None:
        return out
    if _is_sum(eqn) and (out := reduced(eqn, operands[0], order)) is not None:
        return out
    if (out := in_layout(eqn, operands)) is not None:
        return out
    if place.is_offset:
        return bind(eqn, [at_mean(settle(x, order)) for x in operands])
    if name in EXTREMES and (out := largest_of_curve(eqn, operands[0], order)) is not None:
        return out
    settled = _settled(operands, order)
    if not any(map(is_random, settled)):
        return bind(eqn, settled)
    settled = [x.without_gain() if isinstance(x, Gaussian) else x for x in settled]
    if name in EXTREMES:
        return EXTREMES[name](eqn, settled, order)
    for k, x in enumerate(settled):
        if not known.is_data(k, len(settled)):
            if is_random(x):
                warn_of_decision(eqn, "an index")
            settled[k] = at_mean(x)
    if not any(map(is_random, settled)):
        return bind(eqn, settled)
    rule = STRUCTURE.get(name) or SCATTERED.get(name) or TOTALS.get(name, total_of)
    return rule(eqn, settled, order)


def _is_sum(eqn: JaxprEqn) -> bool:
    """Whether all is summed along axes, which a sum over a mapped axis becomes too."""
    axes, known = eqn.params.get("axes"), facts(eqn)
    if known.reduces != "sum" or axes is None or len(eqn.outvars) != 1:
        return False
    rank = len(aval(eqn.invars[0]).shape) - len(aval(eqn.outvars[0]).shape)
    return all(not isinstance(a, str) for a in axes) and rank == len(axes)


# -- without a rule


def without_rule(
    eqn: JaxprEqn, operands: Sequence[Value], how: Beliefs, place: Place
) -> list[Value]:
    """Linearised where that was asked for; else whole numbers at the means, all others unknown."""
    inexact = [jnp.issubdtype(aval(v).dtype, jnp.inexact) for v in eqn.outvars]
    if eqn.primitive.name in how.first_order and any(inexact):
        if any(
            is_random(x) and is_complex(x) and as_linear(x, how.order) is None for x in operands
        ):
            error = no_rule(eqn, place, False, " of complex values that are no linear map")
            return [Unknown(error)] * len(inexact)
        if facts(eqn).curvature == "stepped" and facts(eqn).rises and how.order != 1:
            warn_of_decision(eqn, "whole numbers, whose derivative is 0,")
        return linearised(eqn, operands, how.order)
    means = [at_mean(settle(x, how.order)) for x in operands]
    if all(inexact):
        outs: list[Value] = [None] * len(inexact)
    else:
        outs = list(bind(eqn, means))
    if any(inexact):
        unknown = Unknown(no_rule(eqn, place, _is_differentiable(eqn, means)))
        outs = [unknown if k else x for k, x in zip(inexact, outs, strict=True)]
    if not all(inexact) and not place.is_offset and how.order != 1:
        warn_of_decision(eqn, "an index or a decision")
    return outs


def _is_differentiable(eqn: JaxprEqn, means: Sequence[Known]) -> bool:
    """Whether JAX has the derivatives of an operation by its inexact operands."""
    at = [k for k, m in enumerate(means) if jnp.issubdtype(jnp.result_type(m), jnp.inexact)]

    def function(*values: jax.Array) -> list[jax.Array]:
        arguments = list(means)
        for k, value in zip(at, values, strict=True):
            arguments[k] = value
        return [x for x in bind(eqn, arguments) if jnp.issubdtype(x.dtype, jnp.inexact)]

    values = [jnp.asarray(means[k]) for k in at]
    try:
        jax.eval_shape(lambda *v: jax.linearize(function, *v)[0], *values)
    except (NotImplementedError, TypeError, ValueError):
        return False
    return True


# -- rules of users


def ruled(
    rule: registry.Rule, eqn: JaxprEqn, operands: Sequence[Value], order: int, params: Params
) -> list[Value]:
    """The results of a rule that a user has registered, checked."""
    settled = _settled(operands, order)
    given = [Belief(x.mean, x.variance) if isinstance(x, Gaussian) else x for x in settled]
    outs = rule(*given, **params)
    outs = [outs] if isinstance(outs, Belief) or not isinstance(outs, list | tuple) else list(outs)
    name = getattr(rule, "__name__", "of a component")
    if len(outs) != len(eqn.outvars):
        raise TypeError(
            f"The moment rule {name!r} returned {len(outs)} values for {eqn.primitive.name!r}, "
            f"which has {len(eqn.outvars)} results."
        )
    values = []
    for out, v in zip(outs, eqn.outvars, strict=True):
        parts = list(out) if isinstance(out, Belief) else [out]
        parts = [jnp.asarray(a, aval(v).dtype) for a in parts]
        if any(a.shape != aval(v).shape for a in parts):
            raise TypeError(
                f"The moment rule {name!r} returned shapes {[a.shape for a in parts]} where the "
                f"result has shape {aval(v).shape}."
            )
        values.append(Gaussian(parts[0], parts[1]) if isinstance(out, Belief) else parts[0])
    return values
