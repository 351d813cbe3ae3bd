"""Functions of sums over a group: normalisation, softmax, log-sum-exp, however they are written.

A sum over some axes of an element-wise function of a Gaussian x, and everything computed from x and
such sums element by element, is kept as one function of x until an operation needs its moments. So
`(x - x.mean()) / x.std()` knows that numerator and denominator are made of the same numbers.

For y_i = G(x_i, R_1, R_2, …) with sums R_r over the group, and w_ri = dR_r / dx_i,

    Var[y_i] = Var[G(x_i, R)] + 2 E[G'] sum_r G_r w_ri v_i + sum_rs G_r G_s Cov(R_r, R_s),

with G_r = dG / dR_r: exact in x_i, to first order in what the sums contribute, which is small when
the group is large. The mean is exact in x_i and of second order in the sums.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.movement import summed
from cgjax._beliefs.values import Gaussian, Lazy, Value, is_random, settle
from cgjax._gaussian.curve import curve_moments
from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import log_sum_exp_moments, softmax_moments
from cgjax._program.jaxprs import bind


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum over a group, of size 1 along its axes.

    Attributes:
        of: from (root, values of other sums) to the sum.
        needs: the sums that it is computed from.
        summary: its mean and variance.
        total: the same without the axes, with what its positions share.
        summand: what is summed, if that is a curve.
    """

    of: Callable[[Any, Mapping[Any, Any]], Any]
    needs: tuple["Sum", ...]
    summary: tuple[Any, Any]
    total: Gaussian | None = None
    summand: Curve | None = None


@dataclass(frozen=True, eq=False)
class Grouped(Lazy):
    """A function of a Gaussian and of sums of it over a group.

    Attributes:
        root: the Gaussian.
        axes: the axes of a group.
        sums: the sums, each after those it needs.
        function: from (root, values of the sums) to the value, with all of the root's axes.
        shape: the value's shape, with all of the root's axes or without the group's.
        dtype: the value's dtype.
        alone: whether the value is a function of the sums only.
        straight: whether it is affine in the root for given sums.
        bare: whether it is just the last of the sums.
    """

    root: Gaussian
    axes: tuple[int, ...]
    sums: tuple[Sum, ...]
    function: Callable[[Any, Mapping[Sum, Any]], Any]
    shape: tuple[int, ...]
    dtype: Any
    alone: bool
    straight: bool
    bare: bool = False

    def settled(self, order: int) -> Any:
        """The moments: matched, or to first order."""
        return _settled(self, order)

    @property
    def dropped(self) -> bool:
        """Whether the value lacks the axes of the group."""
        return len(self.shape) < len(self.root.shape)


def reduced(eqn: Any, value: Curve | Gaussian | Grouped, order: int) -> Grouped | None:
    """The sum of a value over some axes, kept as a function of its root."""
    axes = tuple(eqn.params["axes"])
    if isinstance(value, Grouped):
        if value.axes != axes or value.shape != value.root.shape:
            return None
        needs, of_root, summand, root = value.sums, value.function, None, value.root
    else:
        curve = summand = as_curve(value)
        needs, of_root, root = (), lambda x, sums: curve.function(x), curve.root
    shape = value.shape
    if any(shape[a] == 1 for a in axes) or not jnp.issubdtype(value.dtype, jnp.floating):
        return None
    plain = settle(value, order).shared()[0]
    total = summed(
        plain,
        axes,
        bind(eqn, [plain.mean])[0],
        lambda a: bind(eqn, [a])[0],
    )
    summary = (lax.expand_dims(total.mean, axes), lax.expand_dims(total.variance, axes))

    def of(x: Any, sums: Mapping[Any, Any]) -> Any:
        return jnp.sum(jnp.broadcast_to(of_root(x, sums), x.shape), axes, keepdims=True)

    new = Sum(of, needs, summary, total, summand)
    out = tuple(n for a, n in enumerate(shape) if a not in axes)
    return Grouped(
        root, axes, (*needs, new), lambda x, sums: sums[new], out, value.dtype, True, True, True
    )


def elementwise_of_groups(eqn: Any, operands: Sequence[Value]) -> Value | None:
    """An element-wise operation where a grouped value takes part; None if they do not fit."""
    groups = [x for x in operands if isinstance(x, Grouped)]
    first = groups[0]
    root, axes = first.root, first.axes
    out = eqn.outvars[0].aval
    if not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    if any(g.root is not root or g.axes != axes for g in groups):
        return None
    curves = [x for x in operands if isinstance(x, Curve | Gaussian)]
    if any(as_curve(c).root is not root for c in curves):
        return None
    dropped = len(out.shape) < len(root.shape)
    if dropped and (curves or not all(g.dropped for g in groups)):
        return None
    if not dropped and any(g.dropped for g in groups):
        return None
    special = _recognised(eqn, operands, root, axes)
    if special is not None:
        return special

    def function(x: Any, sums: Mapping[Sum, Any]) -> Any:
        values = []
        for operand in operands:
            if isinstance(operand, Grouped):
                values.append(operand.function(x, sums))
            elif is_random(operand):
                values.append(as_curve(operand).function(x))
            elif dropped and jnp.ndim(operand):
                values.append(lax.expand_dims(operand, axes))
            else:
                values.append(operand)
        return _apply(eqn, values)

    sums = tuple(dict.fromkeys(s for g in groups for s in g.sums))
    alone = all(g.alone for g in groups) and not curves
    straight = alone or _straight(eqn.primitive.name, operands)
    return Grouped(root, axes, sums, function, tuple(out.shape), out.dtype, alone, straight)


def _apply(eqn: Any, values: Sequence[Any]) -> Any:
    """The operation on arrays of equal rank, some of size 1 along an axis."""
    shape = jnp.broadcast_shapes(*(jnp.shape(v) for v in values))
    values = [v if jnp.ndim(v) == 0 else jnp.broadcast_to(v, shape) for v in values]
    return bind(eqn, values)[0]


def _straight(name: str, operands: Sequence[Value]) -> bool:
    """Whether the result is affine in the root, when the sums are given."""

    def varies(x: Value) -> bool:
        return (isinstance(x, Grouped) and not x.alone) or isinstance(x, Curve | Gaussian)

    def is_straight(x: Value) -> bool:
        if isinstance(x, Grouped):
            return x.straight
        return not is_random(x) or as_curve(x).affine is not None

    if not all(map(is_straight, operands)):
        return False
    if name in ("add", "add_any", "sub", "neg", "convert_element_type", "copy"):
        return True
    if name == "mul":
        return sum(map(varies, operands)) <= 1
    return name == "div" and not varies(operands[1])


def _recognised(
    eqn: Any, operands: Sequence[Value], root: Gaussian, axes: tuple[int, ...]
) -> Value | None:
    """Softmax, which is a ratio of an exponential and its sum, and the logarithm of such a sum."""
    name = eqn.primitive.name
    out = eqn.outvars[0].aval
    if name == "div":
        above, below = operands
        summand = _only_summand(below)
        if summand is None or not isinstance(above, Curve) or above.exponent is None:
            return None
        if summand.exponent is None or not _same(above, summand):
            return None
        mean, variance = _logits(summand, root)
        if len(axes) != 1:
            return None
        expectation, _, wobble = softmax_moments(mean, variance, axes[0])
        return Gaussian(jnp.asarray(expectation, out.dtype), jnp.asarray(wobble, out.dtype))
    if name == "abs":
        (value,) = operands
        summand = _only_summand(value)
        return value if summand is not None and summand.exponent is not None else None
    if name == "log":
        (below,) = operands
        summand = _only_summand(below)
        if summand is None or summand.exponent is None:
            return None
        mean, variance = _logits(summand, root)
        centre, spread = log_sum_exp_moments(mean, variance, axes)
        summary = jnp.asarray(centre, out.dtype), jnp.asarray(spread, out.dtype)
        (total,) = below.sums

        def of(x: Any, sums: Mapping[Any, Any]) -> Any:
            return jnp.log(total.of(x, sums))

        new = Sum(of, (), summary)
        return Grouped(
            root, axes, (new,), lambda x, sums: sums[new], tuple(out.shape), out.dtype, True, True
        )
    return None


def _only_summand(value: Value) -> Curve | None:
    """What is summed, if a value is just a sum."""
    if not isinstance(value, Grouped) or len(value.sums) != 1 or not value.bare:
        return None
    return value.sums[0].summand


def _same(a: Curve, b: Curve) -> bool:
    """Whether two exponentials have the same exponent, as far as can be told."""
    pairs = zip(a.exponent or (), b.exponent or (), strict=True)
    return a is b or all(
        x is y or (isinstance(x, int | float) and isinstance(y, int | float) and x == y)
        for x, y in pairs
    )


def _logits(curve: Curve, root: Gaussian) -> tuple[Any, Any]:
    slope, offset = (jnp.asarray(s, root.dtype) for s in curve.exponent or (1.0, 0.0))
    mean = jnp.broadcast_to(slope * root.mean + offset, root.shape)
    return wide(mean), wide(jnp.broadcast_to(slope**2 * root.variance, root.shape))


def laid_out(eqn: Any, value: Grouped) -> Grouped | None:
    """The value in another layout: with the axes of its group, of size 1 or repeated, or without.

    None for any other movement.
    """
    name, shape = eqn.primitive.name, tuple(eqn.outvars[0].aval.shape)
    full = value.root.shape
    kept = tuple(1 if a in value.axes else n for a, n in enumerate(full))
    short = tuple(n for a, n in enumerate(full) if a not in value.axes)
    if not value.alone or value.shape not in (kept, short):
        return None
    if shape in (kept, short) and name in ("reshape", "squeeze", "expand_dims"):
        return replace(value, shape=shape)
    if name == "broadcast_in_dim" and shape in (kept, full):
        rank = range(len(full))
        where = tuple(a for a in rank if a not in value.axes) if value.dropped else tuple(rank)
        if tuple(eqn.params["broadcast_dimensions"]) == where:
            return replace(value, shape=shape)
    return None


def _settled(value: Grouped, order: int) -> Gaussian:
    total = value.sums[-1].total
    if value.bare and value.dropped and total is not None:
        return total
    x = value.root
    mean, variance = wide(x.mean), wide(x.variance)
    at: dict[Sum, Any] = {}
    for one in value.sums:
        at[one] = wide(one.summary[0]) if order != 1 else one.of(mean, at)
    slopes = [_slope(one, mean) for one in value.sums]

    def covariance(r: int, s: int) -> Any:
        if r == s and order != 1:
            return wide(value.sums[r].summary[1])
        return (slopes[r] * slopes[s] * variance).sum(value.axes, keepdims=True)

    def of_sums(x: Any, *values: Any) -> Any:
        return value.function(x, dict(zip(value.sums, values, strict=True)))

    values = tuple(at[s] for s in value.sums)
    ones = jnp.ones_like(mean)

    def partial_of(r: int) -> Callable[..., Any]:
        """dG / dR_r as a function of the root and the sums."""

        def derivative(x: Any, *values: Any) -> Any:
            tangents = [jnp.zeros_like(v) for v in values]
            tangents[r] = jnp.ones_like(values[r])
            return jax.jvp(lambda *v: of_sums(x, *v), values, tuple(tangents))[1]

        return derivative

    numbers = range(len(value.sums))
    by_sum = [partial_of(r)(mean, *values) for r in numbers]
    out_variance = sum(by_sum[r] * by_sum[s] * covariance(r, s) for r in numbers for s in numbers)
    if value.alone:
        out_mean = of_sums(mean, *values)
    else:

        def given(x: Any) -> Any:
            return jnp.broadcast_to(of_sums(x, *values), mean.shape)

        out_mean, steepness = jax.jvp(given, (mean,), (ones,))
        spread = steepness**2 * variance
        if order != 1 and not value.straight:
            out_mean, spread = curve_moments(given, mean, variance)
        mixed = sum(by_sum[r] * slopes[r] for r in numbers)
        out_variance = out_variance + spread + 2 * steepness * mixed * variance
    if order != 1:
        for r in numbers:
            bends = [
                jax.jvp(lambda v, r=r, s=s: partial_of(r)(mean, *_put(values, s, v)),
                        (values[s],), (jnp.ones_like(values[s]),))[1]
                for s in numbers
            ]  # fmt: skip
            out_mean = out_mean + sum(b * covariance(r, s) for s, b in enumerate(bends)) / 2
            if not value.alone:
                bend = jax.jvp(lambda x, r=r: partial_of(r)(x, *values), (mean,), (ones,))[1]
                out_mean = out_mean + bend * slopes[r] * variance
    shape = value.shape
    out_mean, out_variance = (
        jnp.asarray(jnp.broadcast_to(a, _with_axes(value)).reshape(shape), value.dtype)
        for a in (out_mean, jnp.maximum(out_variance, 0))
    )
    follows = value.shape == x.shape and not set(x.axes) & set(value.axes)
    if x.axes and follows and not value.alone:
        x, _ = x.shared()
        return Gaussian(out_mean, out_variance, x.axes, x.correlation)
    return Gaussian(out_mean, out_variance)


def _with_axes(value: Grouped) -> tuple[int, ...]:
    if not value.dropped:
        return value.shape
    return tuple(1 if a in value.axes else n for a, n in enumerate(value.root.shape))


def _put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _slope(one: Sum, mean: Any) -> Any:
    """How a sum changes with each element of the root, at the mean."""

    def total(x: Any) -> Any:
        known: dict[Any, Any] = {}
        for need in one.needs:
            known[need] = need.of(x, known)
        return one.of(x, known)

    value, pull = jax.vjp(total, mean)
    return pull(jnp.ones_like(value))[0]
