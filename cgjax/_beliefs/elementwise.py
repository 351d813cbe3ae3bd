"""Element-wise operations on values with beliefs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from cgjax._beliefs.largest import larger_of
from cgjax._beliefs.movement import common_axes, shared_variance, spread
from cgjax._beliefs.groups import elementwise_of_groups
from cgjax._beliefs.sums import Grouped
from cgjax._beliefs.values import (
    Curve,
    Gaussian,
    Value,
    as_curve,
    at_mean,
    is_random,
    settle,
    sharing,
)
from cgjax._gaussian import closed as _closed
from cgjax._program.jaxprs import bind

_SMOOTH = frozenset(
    "add add_any sub mul div neg exp exp2 log log1p expm1 tanh logistic sin cos tan asin acos atan "
    "atan2 sinh cosh asinh acosh atanh erf erfc erf_inv lgamma digamma sqrt rsqrt cbrt integer_pow "
    "pow square convert_element_type reduce_precision copy copy_p name sharding_constraint "
    "optimization_barrier real nextafter".split()
)
_KINKED = frozenset(
    "abs max min sign floor ceil round clamp select_n eq ne lt le gt ge rem is_finite and or xor "
    "not".split()
)
ELEMENTWISE = _SMOOTH | _KINKED
# Functions with a jump at each whole number, between which points of quadrature would fall.
_STEPS = frozenset(("floor", "ceil", "round", "rem"))

_SAME = frozenset(
    "convert_element_type reduce_precision copy copy_p name sharding_constraint "
    "optimization_barrier real".split()
)
_COMPARISONS = frozenset("eq ne lt le gt ge".split())


def elementwise(eqn: Any, operands: Sequence[Value], order: int) -> Value | None:
    """The value of an element-wise equation; None where there is no rule, as for some of two."""
    if eqn.primitive.name in _STEPS and order != 1:
        return None
    shape = tuple(eqn.outvars[0].aval.shape)
    operands = [
        _spread(settle(x, order), shape) if is_random(x) and x.shape != shape else x
        for x in operands
    ]
    roots = {id(as_curve(x).root) for x in operands if is_random(x)}
    if len(roots) == 1:
        return _composed(eqn, operands, order)
    return _mixed(eqn, operands, order)


def _spread(x: Value, shape: tuple[int, ...]) -> Value:
    """A Gaussian that an operation broadcasts: a single number, or one of size 1 along axes."""
    return spread(x, shape, range(len(x.shape))) if is_random(x) else x


# -- functions of one Gaussian


def _composed(eqn: Any, operands: Sequence[Value], order: int) -> Value:
    name = eqn.primitive.name
    curves = [as_curve(x) if is_random(x) else None for x in operands]
    random = [c for c in curves if c is not None]
    x, dtype = random[0].root, eqn.outvars[0].aval.dtype

    def function(points: Any) -> Any:
        values = [
            operand if c is None else jnp.asarray(c.function(points), c.dtype)
            for c, operand in zip(curves, operands, strict=True)
        ]
        return bind(eqn, values)[0]

    affine = _affine(name, operands, curves, dtype)
    if affine is not None:
        closed = None
    elif len(random) == 1 and random[0].affine is not None:
        closed = _closed_form(eqn, operands, curves)
    else:
        closed = _transformed(name, operands, curves)
    limits = _limits(name, operands, curves)
    if limits is not None and None not in limits.bounds:
        closed = limits.moments
    exponent = random[0].affine if name == "exp" else None
    pieces = None if affine is not None else _pieces(name, operands, curves, x.dtype)
    if pieces is not None and closed is None and jnp.issubdtype(dtype, jnp.floating):
        closed = partial(_of_pieces, pieces)
    kink = _kink(name, operands, curves)
    rises = _rises(name, operands, curves)
    positive = [c.positive for c in random if c.positive is not None]
    own = random[0].affine
    if closed is not None and own is not None and _has_domain(eqn, curves):
        positive.append(own)
    first = positive[0] if positive else None
    out = Curve(x, function, dtype, affine, closed, kink, limits, exponent, rises, pieces, first)
    if order != 1 and any(not _same_line(p, positive[0]) for p in positive):
        return settle(out, order)  # positive for two reasons: no points do justice to both
    return out


def _same_line(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    return all(_equal(p, q) for p, q in zip(a, b, strict=True))


def _affine(
    name: str, operands: Sequence[Value], curves: Sequence[Curve | None], dtype: Any
) -> tuple[Any, Any] | None:
    """(slope, offset) of a result that is an affine function of the root."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return None
    decides = name == "select_n" and curves[0] is None
    pairs: list[tuple[Any, Any]] = []
    for c, operand in zip(curves, operands, strict=True):
        pair = (0.0, operand) if c is None else c.affine
        if pair is None:
            return None
        pairs.append(pair)
    if decides:
        cases = [
            [jnp.broadcast_to(jnp.asarray(p[k], dtype), _shape(curves)) for p in pairs[1:]]
            for k in (0, 1)
        ]
        which = jnp.broadcast_to(operands[0], _shape(curves))
        slope, offset = (jax.lax.select_n(which, *c) for c in cases)
        return slope, offset
    return _straight_line(name, pairs)


def _straight_line(name: str, pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any] | None:
    """(slope, offset) of an operation on straight lines, if it is one."""
    (slope, offset), second = pairs[0], pairs[-1]
    if name in _SAME:
        return slope, offset
    if name == "neg":
        return -slope, -offset
    if name == "not":
        return 0.0, 1 - offset
    if name in ("add", "add_any"):
        return slope + second[0], offset + second[1]
    if name == "sub":
        return slope - second[0], offset - second[1]
    if name == "mul" and _number(second[0]) == 0:
        return slope * second[1], offset * second[1]
    if name == "mul" and _number(slope) == 0:
        return second[0] * offset, second[1] * offset
    if name == "div" and _number(second[0]) == 0:
        return slope / second[1], offset / second[1]
    return None


def _number(x: Any) -> float | None:
    """A single number that is known while tracing."""
    if isinstance(x, Tracer) or np.ndim(x):
        return None
    return float(x)


def _pieces(
    name: str, operands: Sequence[Value], curves: Sequence[Curve | None], dtype: Any
) -> Any:
    """A line that is broken once, such as leaky relu; or a comparison of a line with numbers."""
    if name in ("gt", "ge", "lt", "le"):
        return _decision(name, operands, curves, dtype)
    broken = [c.pieces for c in curves if c is not None and c.pieces is not None]
    if not broken or any(not _equal(p[0], broken[0][0]) for p in broken):
        return None
    sides = []
    for side in (1, 2):
        pairs = [
            (0.0, operand) if c is None else c.affine if c.pieces is None else c.pieces[side]
            for c, operand in zip(curves, operands, strict=True)
        ]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(pairs):
            return None
        if name == "select_n" and len(known) == 3:
            line = _chosen(known[0][1], known[1], known[2])
        else:
            line = _straight_line(name, known)
        if line is None:
            return None
        sides.append(line)
    return broken[0][0], sides[0], sides[1]


def _decision(
    name: str, operands: Sequence[Value], curves: Sequence[Curve | None], dtype: Any
) -> Any:
    first, second = (
        (0.0, operand) if c is None else c.affine
        for c, operand in zip(curves, operands, strict=True)
    )
    if first is None or second is None:
        return None
    larger, smaller = (first, second) if name in ("gt", "ge") else (second, first)
    slope, offset = larger[0] - smaller[0], larger[1] - smaller[1]  # whether slope x + offset > 0
    number = _number(slope)
    if number is not None and number != 0:
        above = float(number > 0)
        at = _number(offset)
        return -offset / slope if at is None else -at / number, (0.0, 1 - above), (0.0, above)
    level = jnp.asarray(slope == 0) & (offset > 0)
    above, below = ((sign * slope > 0) | level for sign in (1, -1))
    at = -offset / jnp.where(slope == 0, 1, slope)
    return at, (0.0, jnp.asarray(below, dtype)), (0.0, jnp.asarray(above, dtype))


def _equal(a: Any, b: Any) -> bool:
    number = _number(a)
    return a is b or (number is not None and number == _number(b))


def _chosen(which: Any, first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    number = _number(which)
    if number is not None:
        return second if number else first
    slope, offset = (jnp.where(which > 0, b, a) for a, b in zip(first, second, strict=True))
    return slope, offset


def _of_pieces(pieces: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    def wide(x: Any) -> Any:
        return x if _number(x) is None else _number(x)

    at, left, right = jax.tree.map(wide, pieces, is_leaf=lambda x: not isinstance(x, tuple))
    return _closed.bent(mean, variance, at, left, right)


_RISING = frozenset(
    "max min clamp tanh logistic exp exp2 erf log log1p expm1 sqrt cbrt atan".split()
)


def _rises(name: str, operands: Sequence[Value], curves: Sequence[Curve | None]) -> bool:
    """Whether the result is one non-decreasing function of each element of the root."""
    if name not in _RISING or sum(c is not None for c in curves) != 1:
        return False
    for c, operand in zip(curves, operands, strict=True):
        if c is None and jnp.ndim(operand):
            return False
        if c is not None and not (c.rises or _is_identity(c.affine)):
            return False
    return True


def _is_identity(affine: tuple[Any, Any] | None) -> bool:
    """Whether an affine function is known to be the identity."""
    return affine is not None and all(
        isinstance(a, int | float) and a == b for a, b in zip(affine, (1, 0), strict=True)
    )


@dataclass(frozen=True, eq=False)
class _Limits:
    """A curve that is an affine function of its root, cut off below or above, or both."""

    affine: tuple[Any, Any]
    bounds: tuple[Any, Any]

    def moments(self, mean: Any, variance: Any) -> tuple[Any, Any]:
        """The closed form, where both ends are cut."""
        a, b, low, high = (jnp.asarray(x, mean.dtype) for x in (*self.affine, *self.bounds))
        return _closed.clipped(a * mean + b, a**2 * variance, low, high)


def _limits(name: str, operands: Sequence[Value], curves: Sequence[Curve | None]) -> _Limits | None:
    random = [c for c in curves if c is not None]
    if name not in ("max", "min") or len(random) != 1:
        return None
    (bound,) = (o for o, c in zip(operands, curves, strict=True) if c is None)
    known = random[0].limits
    if random[0].affine is not None:
        known = _Limits(random[0].affine, (None, None))
    if known is None:
        return None
    low, high = known.bounds
    if name == "max" and low is None:
        # Cut above first: what is cut below is never above the lower of the two.
        return _Limits(known.affine, (bound, None if high is None else jnp.maximum(high, bound)))
    if name == "min" and high is None:
        return _Limits(known.affine, (None if low is None else jnp.minimum(low, bound), bound))
    return None


def _shape(curves: Sequence[Curve | None]) -> tuple[int, ...]:
    return next(c.shape for c in curves if c is not None)


def _transformed(name: str, operands: Sequence[Value], curves: Sequence[Curve | None]) -> Any:
    """The closed form of a straight-line function of a curve that has one."""
    random = [c for c in curves if c is not None]
    if len(random) != 1 or random[0].closed is None:
        return None
    inner = random[0].closed
    of_identity = [None if c is None else _identity(c) for c in curves]
    straight = _affine(name, operands, of_identity, random[0].dtype)
    if straight is None:
        return None
    slope, offset = straight

    def closed(mean: Any, variance: Any) -> tuple[Any, Any]:
        centre, spread_ = inner(mean, variance)
        a, b = (jnp.asarray(s, centre.dtype) for s in (slope, offset))
        return a * centre + b, a**2 * spread_

    return closed


def _identity(curve: Curve) -> Curve:
    return Curve(curve.root, curve.function, curve.dtype, (1.0, 0.0))


def _has_domain(eqn: Any, curves: Sequence[Curve | None]) -> bool:
    """Whether only positive numbers, or none near 0, have a result."""
    name = eqn.primitive.name
    if name == "integer_pow":
        return eqn.params["y"] < 0
    return name in ("log", "log1p", "sqrt", "rsqrt", "pow") or (
        name == "div" and curves[1] is not None
    )


def _closed_form(eqn: Any, operands: Sequence[Value], curves: Sequence[Curve | None]) -> Any:
    """The closed form of an operation on one affine function of the root."""
    name = eqn.primitive.name
    at = next(i for i, c in enumerate(curves) if c is not None)
    curve = curves[at]
    assert curve is not None and curve.affine is not None
    rule = _rule(name, at, operands, eqn.params)
    if rule is None:
        return None
    slope, offset = curve.affine

    def closed(mean: Any, variance: Any) -> tuple[Any, Any]:
        a, b = (jnp.asarray(s, mean.dtype) for s in (slope, offset))
        return rule(a * mean + b, a**2 * variance)

    return closed


def _rule(name: str, at: int, operands: Sequence[Value], params: Any) -> _closed.Rule | None:
    if name in ("max", "min"):
        bound, sign = operands[1 - at], 1 if name == "max" else -1

        def bounded(mean: Any, variance: Any) -> tuple[Any, Any]:
            limit = jnp.asarray(bound, mean.dtype)
            excess, spread_ = _closed.rectified(sign * (mean - limit), variance)
            # A limit of -inf (or inf, for min) is none.
            none = jnp.isinf(limit) & (sign * limit < 0)
            return jnp.where(none, mean, limit + sign * excess), jnp.where(none, variance, spread_)

        return bounded
    if name == "clamp" and at == 1:
        low, high = operands[0], operands[2]
        return lambda mean, variance: _closed.clipped(
            mean, variance, jnp.asarray(low, mean.dtype), jnp.asarray(high, mean.dtype)
        )
    if name == "div" and at == 1:

        def divided(mean: Any, variance: Any) -> tuple[Any, Any]:
            over = jnp.asarray(operands[0], mean.dtype)
            centre, spread_ = _closed.reciprocal(mean, variance)
            return over * centre, over**2 * spread_

        return divided
    if name == "integer_pow":
        exponent = params["y"]
        if exponent == 2:
            return _closed.squared
        if exponent < 0:
            return _negative_power(exponent)
        return None
    if name == "pow" and at == 0 and np.ndim(operands[1]) == 0:
        exponent = operands[1]
        return lambda mean, variance: _closed.power(
            mean, variance, jnp.asarray(exponent, mean.dtype)
        )
    return _UNARY.get(name)


def _negative_power(exponent: int) -> _closed.Rule:
    def rule(mean: Any, variance: Any) -> tuple[Any, Any]:
        centre, spread_ = _closed.power(mean, variance, float(exponent))
        return (jnp.abs(centre) if exponent % 2 == 0 else centre), spread_

    return rule


def _shifted_logarithm(mean: Any, variance: Any) -> tuple[Any, Any]:
    return _closed.logarithm(1 + mean, variance)


_UNARY: dict[str, _closed.Rule] = {
    "abs": _closed.absolute,
    "square": _closed.squared,
    "exp": _closed.exponential,
    "log": _closed.logarithm,
    "log1p": _shifted_logarithm,
    "sqrt": _closed.square_root,
    "rsqrt": _closed.reciprocal_square_root,
}


def _kink(name: str, operands: Sequence[Value], curves: Sequence[Curve | None]) -> Any:
    """Where the result has a kink, as a value of the root."""
    known = next((c.kink for c in curves if c is not None and c.kink is not None), None)
    if known is not None or name not in _KINKED or (name == "select_n" and curves[0] is None):
        return known
    random = [c for c in curves if c is not None]
    x = random[0].root
    others = [o for o, c in zip(operands, curves, strict=True) if c is None]
    pairs = [c.affine for c in random if c.affine is not None]
    if len(pairs) < len(random):
        return jnp.zeros_like(x.mean)  # somewhere: at least no smoothness is relied on
    slope = pairs[0][0] - (pairs[1][0] if len(pairs) > 1 else 0)
    offset = pairs[0][1] - (pairs[1][1] if len(pairs) > 1 else 0)
    if others and name not in ("abs", "sign", "not", "is_finite"):
        offset = offset - jnp.asarray(others[0], x.dtype)
    slope, offset = jnp.asarray(slope, x.dtype), jnp.asarray(offset, x.dtype)
    at = -offset / jnp.where(slope == 0, 1, slope)
    return jnp.broadcast_to(at, x.shape)


# -- operations on several Gaussians, which are independent


def _mixed(eqn: Any, operands: Sequence[Value], order: int) -> Value | None:
    name = eqn.primitive.name
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        return bind(eqn, [at_mean(x) for x in operands])[0]  # a decision: taken at the means
    if name == "select_n":
        return _selected(eqn, operands, order)
    settled = [settle(x, order) for x in operands]
    rule = _MIXED.get(name)
    if rule is None:
        return None
    return rule(*(x if is_random(x) else _certain(x, settled) for x in settled), order)


def _certain(array: Any, settled: Sequence[Value]) -> Gaussian:
    x = next(s for s in settled if isinstance(s, Gaussian))
    mean = jnp.broadcast_to(jnp.asarray(array, x.dtype), x.shape)
    return Gaussian(mean, jnp.zeros_like(mean))


def _selected(eqn: Any, operands: Sequence[Value], order: int) -> Value:
    which, *cases = operands
    which = at_mean(which)
    if not any(map(is_random, cases)):
        return bind(eqn, [which, *cases])[0]
    settled = [settle(c, order) for c in cases]
    settled = [c if is_random(c) else _certain(c, settled) for c in settled]
    axes = common_axes(settled)
    mean = bind(eqn, [which, *(c.mean for c in settled)])[0]
    variance = bind(eqn, [which, *(c.variance for c in settled)])[0]
    if not axes:
        return Gaussian(mean, variance)
    # Each case contributes where it is chosen.
    shared = sum(
        shared_variance(c, axes, jnp.where(which == k, 1, 0)) for k, c in enumerate(settled)
    )
    return sharing(mean, variance, shared, axes)


def _added(sign: int) -> Callable[..., Gaussian]:
    def rule(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
        axes = common_axes([x, y])
        mean, variance = x.mean + sign * y.mean, x.variance + y.variance
        if not axes:
            return Gaussian(mean, variance)
        shared = shared_variance(x, axes) + shared_variance(y, axes)
        # A gain is kept where there is but one: that of a layer to which a bias is added.
        gains = [g for g in (x.gain, None if y.gain is None else sign * y.gain) if g is not None]
        return sharing(mean, variance, shared, axes, gains[0] if len(gains) == 1 else None)

    return rule


def _multiplied(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
    variance = x.mean**2 * y.variance + y.mean**2 * x.variance
    if order != 1:
        variance = variance + x.variance * y.variance
    mean, axes = x.mean * y.mean, common_axes([x, y])
    if not axes:
        return Gaussian(mean, variance)
    shared = shared_variance(x, axes, y.mean) + shared_variance(y, axes, x.mean)
    shared = shared + shared_variance(x, axes) * shared_variance(y, axes)
    return sharing(mean, variance, shared, axes)


def _divided(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
    if order == 1:
        inverse = Gaussian(1 / y.mean, y.variance / y.mean**4)
    else:
        mean, variance = _closed.reciprocal(y.mean, y.variance)
        y, _ = y.shared()
        inverse = Gaussian(mean, variance, y.axes, y.correlation)
    return _multiplied(x, inverse, order)


def _larger(sign: int) -> Callable[..., Gaussian]:
    def rule(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
        return larger_of(x, y, sign, order, together=False)

    return rule


_MIXED: dict[str, Callable[..., Gaussian]] = {
    "add": _added(1),
    "add_any": _added(1),
    "sub": _added(-1),
    "mul": _multiplied,
    "div": _divided,
    "max": _larger(1),
    "min": _larger(-1),
}
