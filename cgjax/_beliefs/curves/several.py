"""Element-wise operations on several Gaussians, which are independent but for known sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.curve import Curve, as_curve, composed, warn_of_decision
from cgjax._beliefs.curves.form import IDENTITY, is_inexact
from cgjax._beliefs.curves.joint import Split, given, parts_of, same_root, summed
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._beliefs.largest import larger_of
from cgjax._beliefs.movement import common_axes, shared_variance
from cgjax._beliefs.values import Gaussian, Value, at_mean, is_random, settle, sharing
from cgjax._gaussian import closed
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts


def mixed(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | None:
    """An operation on several variables; None where there is no rule."""
    primitive, dtype = eqn.primitive, eqn.outvars[0].aval.dtype
    if primitive is lax.select_n_p:
        return _selected(eqn, operands, order)
    if not is_inexact(dtype):
        if order == 1:
            return bind(eqn, [at_mean(x) for x in operands])[0]
        return _decided(eqn, operands)
    known, curves = facts(eqn), [x for x in operands if isinstance(x, Gaussian | Curve)]
    if order != 1 and known.signs and len(curves) == len(operands):
        total = summed(curves, known.signs, dtype)
        if total is not None:
            return total
    if order != 1 and (split := _split(eqn, operands)) is not None:
        return split
    rule = _RULES.get(primitive)
    if rule is None:
        return None
    settled = [settle(x, order) for x in operands]
    out = rule(*(x if is_random(x) else _certain(x, settled) for x in settled), order)
    sign = _EXTREMES.get(primitive)
    if order != 1 and sign is not None and len(curves) == 2:
        return _split_larger(curves, sign, out, eqn)
    return out


def _certain(array: jax.Array, settled: Sequence[Value]) -> Gaussian:
    x = next(s for s in settled if isinstance(s, Gaussian))
    mean = jnp.broadcast_to(jnp.asarray(array, x.dtype), x.shape)
    return Gaussian(mean, jnp.zeros_like(mean))


# -- decisions


def _decided(eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
    """A comparison of two variables, or something logical of two decisions."""
    curves = [x for x in operands if isinstance(x, Gaussian | Curve)]
    decisions = [isinstance(x, Curve) and x.is_decision for x in operands]
    if len(curves) == 2 == len(operands) and eqn.outvars[0].aval.dtype == jnp.bool_:
        if not any(decisions) and facts(eqn).decides:
            difference = _difference(*curves)
            # What is compared is of the dtype of the two, and of their shape.
            return composed(eqn, [difference, jnp.zeros(())], 2)
        rule = _LOGIC.get(eqn.primitive)
        if all(decisions) and rule is not None and all(x.dtype == jnp.bool_ for x in curves):
            root_ = [r for x in curves for r in _roots_of(as_curve(x))]
            return _chance(rule(*(probability(as_curve(x)) for x in curves)), root_, eqn)
    warn_of_decision(eqn, "a decision or a whole number")
    return bind(eqn, [at_mean(x) for x in operands])[0]


def _difference(x: Gaussian | Curve, y: Gaussian | Curve) -> Curve:
    found = summed([x, y], (1, -1), x.dtype)
    if found is None:
        plain = [settle(v, 2).alone() for v in (x, y)]
        found = summed(plain, (1, -1), x.dtype)
    assert found is not None
    return found


@dataclass(frozen=True, eq=False)
class Chance(Gaussian):
    """Whether something holds, as a number that is 0 or 1, of known moments.

    Attributes:
        of: what it depends on.
    """

    of: tuple[Gaussian, ...] = ()


def _chance(probability_: jax.Array, of: Sequence[Gaussian], eqn: JaxprEqn) -> Curve:
    chance = Chance(probability_, probability_ * (1 - probability_), of=tuple(of))
    form = Polynomial(IDENTITY, (0.0, 1.0))
    return Curve(chance, lambda x: x > 0.5, jnp.dtype(jnp.bool_), form, eqn=eqn)


def _roots_of(curve: Curve) -> list[Gaussian]:
    if isinstance(curve.root, Chance):
        return list(curve.root.of)
    return [part.root for part in parts_of(curve.root)]


def probability(decision: Curve) -> jax.Array:
    """Of a decision being true."""
    x = decision.root

    def function(points: jax.Array) -> jax.Array:
        return jnp.asarray(decision.function(points), points.dtype)

    return decision.form.moments(function, wide(x.mean), wide(x.variance))[0]


_LOGIC: dict[object, Callable[[jax.Array, jax.Array], jax.Array]] = {
    lax.and_p: lambda p, q: p * q,
    lax.or_p: lambda p, q: p + (1 - p) * q,
    lax.xor_p: lambda p, q: p * (1 - q) + (1 - p) * q,
    lax.ne_p: lambda p, q: p * (1 - q) + (1 - p) * q,
    lax.eq_p: lambda p, q: p * q + (1 - p) * (1 - q),
}


# -- choices


def _selected(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value:
    which, *cases = operands
    if is_random(which):
        is_simple = isinstance(which, Curve) and which.dtype == jnp.bool_ and len(cases) == 2
        if order != 1 and is_simple:
            cases = [settle(c, order) if not isinstance(c, Gaussian | Curve) else c for c in cases]
            return _by_decision(eqn, which, cases)
        if order != 1:
            warn_of_decision(eqn, "a choice")
        which = at_mean(which)
    if not any(map(is_random, cases)):
        return bind(eqn, [which, *cases])[0]
    settled = [settle(c, order) for c in cases]
    if not any(map(is_random, settled)):
        return bind(eqn, [which, *settled])[0]
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


def _by_decision(eqn: JaxprEqn, which: Curve, cases: Sequence[Value]) -> Value:
    """One of two by a decision: a function of what decides, and the rest of what is chosen."""
    if isinstance(which.root, Chance):
        return _mixture(eqn, which, cases)
    if any(isinstance(c, Curve) and c.is_decision for c in cases):
        warn_of_decision(eqn, "a choice between decisions")
        return bind(eqn, [at_mean(x) for x in (which, *cases)])[0]
    found = [given(as_curve(c), which.root) if is_random(c) else (c, jnp.zeros(())) for c in cases]
    choice = composed(eqn, [which, *(c for c, _ in found)], 2)
    second = probability(which)
    rest = (1 - second) * found[0][1] + second * found[1][1]
    if all(not is_random(c) or same_root(as_curve(c).root, which.root) for c in cases):
        return choice
    return Split(choice, jnp.broadcast_to(rest, choice.shape))


def _mixture(eqn: JaxprEqn, which: Curve, cases: Sequence[Value]) -> Value:
    """One of two by a decision that is independent of both."""
    assert isinstance(which.root, Chance)
    roots = [r for c in cases if is_random(c) for r in _roots_of(as_curve(c))]
    if any(r is own for r in roots for own in which.root.of):
        warn_of_decision(eqn, "a choice by several decisions, independent of what is chosen,")
    out, shape = eqn.outvars[0].aval, which.shape
    if not is_inexact(out.dtype):
        warn_of_decision(eqn, "a choice between decisions")
        return bind(eqn, [at_mean(x) for x in (which, *cases)])[0]
    settled = [settle(c, 2) for c in cases]
    means = [wide(c.mean) if is_random(c) else jnp.asarray(c, jnp.float32) for c in settled]
    spreads = [wide(c.variance) if is_random(c) else jnp.zeros(shape) for c in settled]
    p = wide(which.root.mean)
    mean = (1 - p) * means[0] + p * means[1]
    variance = (1 - p) * spreads[0] + p * spreads[1] + p * (1 - p) * (means[1] - means[0]) ** 2
    return Gaussian(jnp.asarray(mean, out.dtype), jnp.asarray(variance, out.dtype))


# -- functions of a sum, with a rest


def _split(eqn: JaxprEqn, operands: Sequence[Value]) -> Split | None:
    """A split value with functions of its own sum added, such as `logaddexp` of two."""
    splits = [x for x in operands if isinstance(x, Split)]
    if len(splits) != 1 or not facts(eqn).signs:
        return None
    (split,) = splits
    others = [x for x in operands if is_random(x) and x is not split]
    if not all(isinstance(x, Curve) and same_root(x.root, split.of.root) for x in others):
        return None
    root = split.of.root
    inner = [
        split.of if x is split else replace(x, root=root) if isinstance(x, Curve) else x
        for x in operands
    ]
    out = composed(eqn, inner, 2)
    return Split(out, split.rest) if isinstance(out, Curve) else None


def _split_larger(
    curves: Sequence[Gaussian | Curve], sign: int, whole: Gaussian, eqn: JaxprEqn
) -> Split | Gaussian:
    """The larger of two: y + max(x - y, 0), of which y is a line of the difference and a rest."""
    x, y = curves
    difference = summed([x, y], (1, -1), whole.dtype)
    if difference is None or whole.axes:
        return whole
    (first, rest), (second, _) = (given(as_curve(v), difference.root) for v in (x, y))
    # Given the difference, the two differ by it: they have the rest in common.
    out = composed(eqn, [first, second], 2)
    return Split(out, jnp.broadcast_to(rest, whole.shape), whole)


# -- rules


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
        mean, variance = closed.reciprocal(y.mean, y.variance)
        y, _ = y.shared()
        inverse = Gaussian(mean, variance, y.axes, y.correlation)
    return _multiplied(x, inverse, order)


def _larger(sign: int) -> Callable[..., Gaussian]:
    def rule(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
        return larger_of(x, y, sign, order, together=False)

    return rule


_EXTREMES = {lax.max_p: 1, lax.min_p: -1}
_RULES: dict[object, Callable[..., Gaussian]] = {
    lax.add_p: _added(1),
    jax.extend.core.primitives.add_jaxvals_p: _added(1),
    lax.sub_p: _added(-1),
    lax.mul_p: _multiplied,
    lax.div_p: _divided,
    lax.max_p: _larger(1),
    lax.min_p: _larger(-1),
}
