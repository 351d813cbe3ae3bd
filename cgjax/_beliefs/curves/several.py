"""Element-wise operations on several Gaussians, which are independent but for known sums."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jax.extend.core.primitives import add_jaxvals_p

from cgjax._beliefs.curves.curve import Curve, as_curve, composed, warn_of_decision
from cgjax._beliefs.curves.form import IDENTITY, dtype_of, is_inexact
from cgjax._beliefs.curves.joint import Split, given, parts_of, same_root, summed, variables
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._beliefs.curves.skips import with_common
from cgjax._beliefs.curves.splits import on_splits
from cgjax._beliefs.curves.tied import with_tied
from cgjax._beliefs.largest import larger_of
from cgjax._beliefs.movement import common_axes, shared_variance
from cgjax._beliefs.pairs import over_pairs
from cgjax._beliefs.spacing import common_grid
from cgjax._beliefs.values import Gaussian, Value, at_mean, is_random, settle, sharing
from cgjax._gaussian import closed
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import bind, source
from cgjax._program.primitives import facts


def mixed(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | None:
    """An operation on several variables; None where there is no rule."""
    primitive, dtype = eqn.primitive, dtype_of(eqn.outvars[0])
    if primitive is lax.select_n_p:
        return _selected(eqn, operands, order)
    if not is_inexact(dtype):
        if order == 1:
            return bind(eqn, [at_mean(x) for x in operands])[0]
        return _decided(eqn, operands)
    known, curves = facts(eqn), [x for x in operands if isinstance(x, Gaussian | Curve)]
    if order != 1:
        if known.signs and len(curves) == len(operands):
            total = summed(curves, known.signs, dtype)
            if total is not None:
                return with_tied(total, curves, known.signs)
        root = _common(operands)
        if root is not None and (split := on_splits(eqn, operands, root)) is not None:
            return split
    rule = _RULES.get(primitive)
    if rule is None:
        return None
    settled = [settle(x, order) for x in operands]
    out = rule(*(x if is_random(x) else _certain(x, settled) for x in settled), order)
    if order != 1 and primitive in _EXTREMES and len(curves) == 2:
        return _split_larger(eqn, curves, out)
    of_two = order != 1 and known.signs and len(curves) == len(operands)
    if not of_two:
        return out
    return with_tied(with_common(out, curves, known.signs), curves, known.signs)


def _common(operands: Sequence[Value]) -> Gaussian | None:
    """A sum that other operands are parts of."""
    curves = [as_curve(x) for x in operands if isinstance(x, Gaussian | Curve)]
    # The one that is no straight line first: that has to be a function of it.
    for curve in sorted(curves, key=lambda c: c.affine is not None):
        mine = {id(p.root) for p in parts_of(curve.root)}
        others = [c for c in curves if not same_root(c.root, curve.root)]
        parts = [{id(p.root) for p in parts_of(c.root)} for c in others]
        if not curve.root.axes and any(not mine.isdisjoint(p) for p in parts):
            return curve.root
    return None


def _certain(array: jax.Array, settled: Sequence[Value]) -> Gaussian:
    x = next(s for s in settled if isinstance(s, Gaussian))
    mean = jnp.broadcast_to(jnp.asarray(array, x.dtype), x.shape)
    return Gaussian(mean, jnp.zeros_like(mean))


# -- decisions


def _decided(eqn: JaxprEqn, operands: Sequence[Value]) -> Value:
    """A comparison of two variables, or something logical of decisions."""
    random = [x for x in operands if is_random(x)]
    decisions = [x for x in random if isinstance(x, Curve) and x.is_decision]
    logical = all(dtype_of(v) == jnp.bool_ for v in (*eqn.invars, *eqn.outvars))
    if not decisions and len(random) == 2 == len(operands) and facts(eqn).decides:
        # What is compared is of the dtype of the two, and of their shape.
        return composed(eqn, [_difference(*random), jnp.zeros(())], 2)
    rule = _LOGIC.get(eqn.primitive)
    if logical and rule is not None and len(decisions) == len(random):
        roots = [r for x in decisions for r in _roots_of(x)]
        numbers = [
            probability(x) if isinstance(x, Curve) else jnp.asarray(x, jnp.float32)
            for x in operands
        ]
        if len({id(r) for r in roots}) < len(roots):
            warn_of_decision(eqn, "a decision by several, as if they were independent,")
        return _chance(jnp.broadcast_to(rule(*numbers), random[0].shape), roots, eqn)
    return _at_means(eqn, operands, "a decision or a whole number")


def _at_means(eqn: JaxprEqn, operands: Sequence[Value], what: str) -> Value:
    warn_of_decision(eqn, what)
    return bind(eqn, [at_mean(x) for x in operands])[0]


def _difference(x: Value, y: Value) -> Curve:
    x, y = (v if isinstance(v, Gaussian | Curve) else settle(v, 2) for v in (x, y))
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


def is_chance(value: Value) -> bool:
    """Whether a value is a decision that only its probability is known of."""
    return isinstance(value, Curve) and value.is_decision and isinstance(value.root, Chance)


def _roots_of(curve: Curve) -> list[Gaussian]:
    if isinstance(curve.root, Chance):
        return list(curve.root.of)
    return [part.root for part in parts_of(curve.root)]


def _variables(value: Value) -> set[int]:
    """What a value is a function of; of a chance, what was decided by."""
    if isinstance(value, Curve) and isinstance(value.root, Chance):
        return set(map(id, value.root.of))
    return variables(value)


def probability(decision: Curve) -> jax.Array:
    """Of a decision being true."""
    x = decision.root

    def function(points: jax.Array) -> jax.Array:
        return jnp.asarray(decision.function(points), points.dtype)

    return decision.form.moments(function, wide(x.mean), wide(x.variance))[0]


_LOGIC: dict[object, Callable[..., jax.Array]] = {
    lax.not_p: lambda p: 1 - p,
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
            cases = [c if isinstance(c, Gaussian | Curve | Split) else settle(c, 2) for c in cases]
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
    parts = (shared_variance(c, axes, jnp.where(which == k, 1, 0)) for k, c in enumerate(settled))
    shared = reduce(operator.add, parts)
    return sharing(mean, variance, shared, axes).on(common_grid(axes, *settled))


def _by_decision(eqn: JaxprEqn, which: Curve, cases: Sequence[Value]) -> Value:
    """One of two by a decision: a function of what decides, and the rest of what is chosen."""
    if isinstance(which.root, Chance):
        return _mixture(eqn, which, cases)
    if any(isinstance(c, Curve) and c.is_decision for c in cases):
        return _at_means(eqn, [which, *cases], "a choice between decisions")
    if any(_bends_beside(c, which.root) for c in cases):
        _warn_of_choice(eqn, which)
    split = on_splits(eqn, [which, *cases], which.root)
    if split is not None:
        return split
    cases = [settle(c, 2) for c in cases]
    return _at_means(eqn, [which, *cases], "a choice")


def _bends_beside(value: Value, root: Gaussian) -> bool:
    """Whether it is no line in a variable that another Gaussian is made of, among others."""
    function = value.of if isinstance(value, Split) else value
    if not isinstance(function, Curve) or function.affine is not None:
        return False
    if same_root(function.root, root):
        return False
    return not variables(function).isdisjoint(id(part.root) for part in parts_of(root))


def _warn_of_choice(eqn: JaxprEqn, which: Curve) -> None:
    where = source(eqn) or (source(which.eqn) if which.eqn is not None else "")
    warnings.warn(
        f"At {where or 'an unknown line'} a decision that depends on several variables chooses a "
        "nonlinear function of one of them, and `moments` takes what decides and what is chosen as "
        "Gaussian together; variances were up to a fifth off in examples. Choose first and apply "
        "the function afterwards where it is the same in both cases, or sample with "
        "`cgjax.monte_carlo`.",
        UserWarning,
        stacklevel=2,
    )


def _mixture(eqn: JaxprEqn, which: Curve, cases: Sequence[Value]) -> Value:
    """One of two by a decision that is independent of both."""
    assert isinstance(which.root, Chance)
    roots = {r for c in cases for r in _variables(c)}
    if any(id(own) in roots for own in which.root.of):
        warn_of_decision(eqn, "a choice by several decisions, independent of what is chosen,")
    out, shape = dtype_of(eqn.outvars[0]), which.shape
    if not is_inexact(out):
        return _at_means(eqn, [which, *cases], "a choice between decisions")
    settled = [settle(c, 2) for c in cases]
    means = [wide(c.mean) if is_random(c) else jnp.asarray(c, jnp.float32) for c in settled]
    spreads = [wide(c.variance) if is_random(c) else jnp.zeros(shape) for c in settled]
    p = wide(which.root.mean)
    mean = (1 - p) * means[0] + p * means[1]
    variance = (1 - p) * spreads[0] + p * spreads[1] + p * (1 - p) * (means[1] - means[0]) ** 2
    return Gaussian(jnp.asarray(mean, out), jnp.asarray(variance, out))


# -- the larger of two


def _split_larger(
    eqn: JaxprEqn, curves: Sequence[Gaussian | Curve], whole: Gaussian
) -> Split | Gaussian:
    """A function of the difference, and a rest, which the two have in common."""
    difference = summed(curves, (1, -1), whole.dtype)
    if difference is None or whole.axes:
        return whole
    first, second = (given(x, difference.root) for x in curves)
    out = composed(eqn, [first.of, second.of], 2)
    return Split(out, first.loadings, whole) if isinstance(out, Curve) else whole


# -- rules


def _added(sign: int) -> Callable[..., Gaussian]:
    def rule(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
        axes = common_axes([x, y])
        mean, variance = x.mean + sign * y.mean, x.variance + y.variance
        if not axes:
            return Gaussian(mean, variance)
        shared, grid = shared_variance(x, axes) + shared_variance(y, axes), common_grid(axes, x, y)
        # A gain is kept where there is but one: that of a layer to which a bias is added.
        found = [(g.gain, s, g) for g, s in ((x, 1), (y, sign)) if g.gain is not None]
        if len(found) != 1:
            return sharing(mean, variance, shared, axes).on(grid)
        ((gain, s, own),) = found
        of_gain = own.averages.gain if own.averages and own.axes == axes else None
        return sharing(mean, variance, shared, axes, gain if s == 1 else -gain, of_gain).on(grid)

    return rule


def _multiplied(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
    variance = x.mean**2 * y.variance + y.mean**2 * x.variance
    if order != 1:
        variance = variance + x.variance * y.variance
    mean, axes = x.mean * y.mean, common_axes([x, y])
    if not axes:
        return Gaussian(mean, variance)
    shared, grid = _shared_by_products(x, y, axes), common_grid(axes, x, y)
    return sharing(mean, variance, shared, axes).on(grid)


def _shared_by_products(x: Gaussian, y: Gaussian, axes: tuple[int, ...]) -> jax.Array:
    """What the products of two Gaussians' elements at each position have in common."""
    for one, other in ((x, y), (y, x)):
        same = one.averages.same if one.averages and one.axes == axes else None
        if same is not None:  # such as the scale of a normalisation
            (mean, variance), covariance = same, shared_variance(other, axes)
            squares = (mean**2 + variance)[None]
            return squares * covariance + variance[None] * over_pairs(other.mean, axes)
    shared = shared_variance(x, axes, y.mean) + shared_variance(y, axes, x.mean)
    return shared + shared_variance(x, axes) * shared_variance(y, axes)


def _divided(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
    if order == 1:
        inverse = Gaussian(1 / y.mean, y.variance / y.mean**4)
    else:
        mean, variance = closed.reciprocal(y.mean, y.variance)
        y = y.without_gain()
        inverse = Gaussian(mean, variance, y.axes, y.correlation, grid=y.grid)
    return _multiplied(x, inverse, order)


def _larger(sign: int) -> Callable[..., Gaussian]:
    def rule(x: Gaussian, y: Gaussian, order: int) -> Gaussian:
        return larger_of(x, y, sign, order, together=False)

    return rule


_EXTREMES = (lax.max_p, lax.min_p)
_RULES: dict[object, Callable[..., Gaussian]] = {
    lax.add_p: _added(1),
    add_jaxvals_p: _added(1),
    lax.sub_p: _added(-1),
    lax.mul_p: _multiplied,
    lax.div_p: _divided,
    lax.max_p: _larger(1),
    lax.min_p: _larger(-1),
}
