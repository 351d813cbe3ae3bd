"""Softmax and the logarithm of a sum of exponentials, recognised however they are written.

With s_i = exp(a x_i + b_i) / sum_j exp(a x_j + b'_j), whatever was subtracted so that nothing
overflows is a known factor: exp(b_i - b'_i) of softmax. Here x is a Gaussian, or a function of one,
such as capped scores; its values are then taken as Gaussian. Both sums may leave out what a mask
says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.curves.form import Line, number
from cgjax._beliefs.exponents import Exponent, exponent_in, exponent_of, exponent_summed, is_same
from cgjax._beliefs.finer import finer
from cgjax._beliefs.group_sums import Sum, Values
from cgjax._beliefs.grouped import (
    Form,
    Grouped,
    apart_from_common,
)
from cgjax._beliefs.laid import Laid, source
from cgjax._beliefs.of_one_sum import TheSum
from cgjax._beliefs.sums import array_in_shape
from cgjax._beliefs.values import Exact, Gaussian, Value, is_random, settle
from cgjax._gaussian import closed
from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import log_sum_exp_moments, softmax_moments
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts


def of_form(eqn: JaxprEqn, operands: Sequence[Value], out: Grouped) -> Value:
    """The result of an operation, with what is known of it if it is part of a softmax.

    Args:
        eqn: the operation.
        operands: arrays and values, at least one of them grouped.
        out: the result as a function of sums.
    """
    name, first = eqn.primitive.name, operands[0]
    if len(operands) == 1 and isinstance(first, Grouped):
        return _of_one(eqn, first, out)
    if len(operands) != 2:
        return out
    second = operands[1]
    if isinstance(second, Grouped) and not is_random(first):
        if name == "div" and _is_one(first) and exponent_in(second, "sum") is not None:
            return replace(out, form="inverse")
        if facts(eqn).signs == (1, 1):
            return _beside(second, first, out) or _shifted(second, first, 1, out)
    if isinstance(first, Grouped) and not is_random(second):
        if len(facts(eqn).signs) == 2:
            sign = facts(eqn).signs[1]
            with_more = _beside(first, second, out) if sign == 1 else None
            return with_more or _shifted(first, second, sign, out)
    if name == "div":
        return _scaled(first, second, eqn, out) or _ratio(first, second, "sum", out)
    if name == "mul":
        scaled = _scaled(first, second, eqn, out) or _scaled(second, first, eqn, out)
        if scaled is not None:
            return scaled
        found = _ratio(first, second, "inverse", out)
        return found if found is not out else _ratio(second, first, "inverse", out)
    return _log_ratio(first, second, out) if name == "sub" else out


def _of_one(eqn: JaxprEqn, value: Grouped, out: Grouped) -> Value:
    name = eqn.primitive.name
    if facts(eqn).converts:
        return replace(out, form=value.form, offset=value.offset)
    if exponent_in(value, "sum") is not None:
        if name == "abs":
            return value
        if name == "log":
            return _log_sum(out)
        if name == "integer_pow" and eqn.params["y"] == -1:
            return replace(out, form="inverse")
    if name == "exp" and value.form == "log share":
        return _share(out, value.offset, None)
    if name == "log" and value.form == "share":
        (log,) = out.sums
        offset = None if value.offset is None else jnp.log(value.offset)
        return _log_share(out, log, offset, None)
    return out


def _is_one(x: Value) -> bool:
    return not isinstance(x, Tracer) and jnp.ndim(x) == 0 and float(x) == 1


def _beside(value: Grouped, more: Value, out: Grouped) -> Grouped | None:
    """A sum of exponentials and a number above 0, as of one class more, whose score is known."""
    known = None if is_random(more) else number(more)
    if known is None or isinstance(known, complex) or not known > 0:
        return None
    if exponent_in(value, "sum") is None:
        return None
    (one,) = out.sums

    def of(x: jax.Array, values: Values) -> jax.Array:
        return one.of(x, values) + known

    summary = wide(one.summary[0]) + known, wide(one.summary[1])
    beside = one.beside + known
    new = replace(one, origin=("more", one.origin, known), of=of, summary=summary, beside=beside)
    return replace(
        out,
        sums=(new,),
        function=lambda x, values: values[new],
        form="sum",
        known=summary,
        of_one=TheSum(out.dtype),
    )


def _shifted(value: Grouped, by: Value, sign: int, out: Grouped) -> Grouped:
    """A logarithm and a known number."""
    if value.form not in ("log sum", "log share"):
        return out
    by = sign * array_in_shape(by, out.dtype, out.layout, out.fine)
    before = 0 if value.offset is None else finer(value.offset, value.fine, out.fine)
    return replace(out, form=value.form, offset=before + by)


def _line_in_shape(pair: Line, out: Grouped) -> tuple[jax.Array, jax.Array]:
    root = out.root
    slope, offset = (jnp.asarray(s, root.dtype) for s in pair)
    return slope, jnp.broadcast_to(offset, root.shape).reshape(out.fine)


def _scaled(value: Value, by: Value, eqn: JaxprEqn, out: Grouped) -> Grouped | None:
    """A softmax times, or divided by, known numbers."""
    if is_random(by) or not isinstance(value, Grouped) or value.form != "share":
        return None
    by = array_in_shape(by, out.dtype, out.layout, out.fine)
    before = jnp.ones_like(by) if value.offset is None else value.offset
    offset = bind(eqn, jnp.broadcast_arrays(before, by))[0]
    return replace(out, form="share", offset=offset)


def _ratio(above: Value, below: Value, form: Form, out: Grouped) -> Grouped:
    """An exponential times the inverse of a sum of such."""
    total = exponent_in(below, form)
    if total is None or not isinstance(above, Gaussian | Curve | Laid):
        return out
    own = exponent_of(as_curve(source(above)))
    if own is None or not total.has_slope_of(own.value, own.line):
        return out
    line, mask = own.line, own.mask
    if mask is not None and mask is not total.mask:
        line, mask = own.line_inside, None
        if line is None:
            return out
    share = _share(out, _difference(line, total.line, out), mask)
    return replace(share, undivided=above)


def _log_ratio(above: Value, below: Value, out: Grouped) -> Grouped:
    """An exponent minus the logarithm of a sum."""
    total = exponent_in(below, "log sum")
    if total is None or not isinstance(above, Gaussian | Curve | Laid):
        return out
    value, form, _ = as_curve(source(above)).inner
    if form.line is None or not total.has_slope_of(value, form.line):
        return out
    offset = _difference(form.line, total.line, out)
    if below.offset is not None:
        offset = -finer(below.offset, below.fine, out.fine) + (0 if offset is None else offset)
    (log,) = out.sums
    return _log_share(out, log, offset, None)


def _difference(one: Line, other: Line, out: Grouped) -> jax.Array | None:
    if is_same(one[1], other[1]):
        return None
    first, second = (_line_in_shape(line, out)[1] for line in (one, other))
    # A mask has filled both with -inf, and what was added to one of them makes no difference.
    both = (first == -jnp.inf) & (second == -jnp.inf)
    return jnp.where(both, 0, first) - jnp.where(both, 0, second)


def _logits(
    group: Grouped, exponent: Exponent, apart: bool = False
) -> tuple[jax.Array, jax.Array, list[int]]:
    """Mean and variance of the exponents, the classes last, and the axes in that order.

    The last class is that of what stands beside the sum, if there is anything.

    Args:
        group: what is computed from them.
        exponent: what they are.
        apart: whether what all classes have in common is left out, which a softmax is free of.
    """
    (one, *_), root = group.sums, group.root
    # What all classes have in common is nothing to a number beside them.
    apart = apart and exponent.value is root and not one.beside
    value = apart_from_common(group, one.over) if apart else settle(exponent.value, 2)
    slope, offset = (jnp.asarray(s, root.dtype) for s in exponent.line)
    mean = jnp.broadcast_to(slope * value.mean + offset, root.shape)
    variance = jnp.broadcast_to(slope**2 * value.variance, root.shape)
    if exponent.mask is not None:
        inside, beside = exponent.mask
        if apart:  # not where a mask has more than 0 instead, of which nothing is taken off
            whole = jnp.broadcast_to(slope**2 * root.variance, root.shape)
            variance = jnp.where(jnp.any(~inside & (beside != 0)), whole, variance)
        mean = jnp.where(inside, mean, jnp.log(jnp.asarray(beside, mean.dtype)))
        variance = jnp.where(inside, variance, 0)
    order = _classes_last(one)
    mean, variance = (_laid_out(wide(a), one) for a in (mean, variance))
    if one.beside:
        mean = jnp.append(mean, jnp.full_like(mean[..., :1], math.log(one.beside)), -1)
        variance = jnp.append(variance, jnp.zeros_like(variance[..., :1]), -1)
    return mean, variance, order


def _classes_last(one: Sum) -> list[int]:
    """The axes of what a sum sums, those that it is over last."""
    return [k for k in range(len(one.fine)) if k not in one.over] + sorted(one.over)


def _laid_out(x: jax.Array, one: Sum) -> jax.Array:
    """An array in the shape of the root, the classes along its last axis."""
    order = _classes_last(one)
    outer = [one.fine[k] for k in order[: len(order) - len(one.over)]]
    return jnp.transpose(x.reshape(one.fine), order).reshape(*outer, -1)


def _log_of(one: Sum, known: tuple[jax.Array, jax.Array]) -> Sum:
    """The logarithm of a sum of exponentials, as a sum of its own, with its moments."""

    def of(x: jax.Array, values: Values) -> jax.Array:
        return jnp.log(one.of(x, values))

    origin = ("log", one.origin)
    return Sum(origin, one.fine, one.over, of, (), known, False, one.summand, one.beside)


def _is_log(one: Sum) -> bool:
    return isinstance(one.origin, tuple) and one.origin[0] == "log"


def _log_sum(out: Grouped) -> Grouped:
    (one,) = out.sums
    mean, variance, _ = _logits(out, exponent_summed(one))
    found = log_sum_exp_moments(mean, variance, (mean.ndim - 1,))
    sizes = [1 if k in one.over else n for k, n in enumerate(out.fine)]
    new = _log_of(one, (found[0].reshape(sizes), found[1].reshape(sizes)))
    return replace(
        out,
        sums=(new,),
        function=lambda x, values: values[new],
        straight=True,
        form="log sum",
        known=new.summary,
        of_one=TheSum(out.dtype),
    )


def _log_share(
    out: Grouped,
    log: Sum,
    offset: jax.Array | None,
    mask: tuple[jax.Array, Exact] | None,
) -> Grouped:
    """An exponent, or what a mask has in its place, minus the logarithm of the sum."""
    value, (slope, start), _ = exponent_summed(log)
    shape = out.root.shape

    def function(x: jax.Array, values: Values) -> jax.Array:
        x = x.reshape(shape)
        line = slope * (value.function(x) if isinstance(value, Curve) else x) + start
        if mask is not None:
            line = jnp.where(mask[0], line, jnp.log(jnp.asarray(mask[1], x.dtype)))
        share = jnp.broadcast_to(line, shape).reshape(out.fine) - values[log]
        return jnp.asarray(share if offset is None else share + offset, x.dtype)

    return replace(
        out,
        sums=(log,),
        function=function,
        alone=False,
        straight=not isinstance(value, Curve),
        affine=False,
        form="log share",
        offset=offset,
        known=None,
    )


def _share(out: Grouped, offset: jax.Array | None, mask: tuple[jax.Array, Exact] | None) -> Grouped:
    """A softmax, times the exponential of an offset.

    Args:
        out: the quotient, as a function of the sum.
        offset: the offset.
        mask: that of the numerator; None for none.
    """
    (one,) = out.sums
    exponent = exponent_summed(one)
    mean, variance, order = _logits(out, exponent, apart=True)
    expectation, _, wobble = softmax_moments(mean, variance, mean.ndim - 1)
    if exponent.mask is not None and mask is None:
        # What the sum leaves out is independent of it.
        own = _logits(out, exponent._replace(mask=None), apart=True)
        inside = jnp.broadcast_to(exponent.mask[0], out.root.shape)
        outside = ~_laid_out(inside, one)
        if one.beside:
            outside = jnp.append(outside, jnp.zeros_like(outside[..., :1]), -1)
        total = log_sum_exp_moments(mean, variance, (mean.ndim - 1,))
        difference = own[0] - total[0], own[1] + total[1]
        beside = closed.exponential(*(jnp.where(outside, a, 0) for a in difference))
        expectation, wobble = (
            jnp.where(outside, a, b) for a, b in zip(beside, (expectation, wobble), strict=True)
        )
    if one.beside:
        expectation, wobble = expectation[..., :-1], wobble[..., :-1]
    inverse = [order.index(k) for k in range(len(order))]
    expectation, wobble = (
        jnp.transpose(a.reshape([out.fine[k] for k in order]), inverse)
        for a in (expectation, wobble)
    )
    log = one if _is_log(one) else _log_sum(out).sums[0]
    of_logarithm = _log_share(out, log, offset, mask).function
    factor = None if offset is None else jnp.exp(wide(offset))
    if factor is not None:
        expectation, wobble = factor * expectation, factor**2 * wobble
    return replace(
        out,
        sums=(log,),
        function=lambda x, values: jnp.exp(of_logarithm(x, values)),
        alone=False,
        straight=False,
        affine=False,
        form="share" if mask is None else None,
        offset=factor,
        known=(expectation, wobble),
    )
