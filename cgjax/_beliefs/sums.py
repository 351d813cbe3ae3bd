"""Sums over groups: what a sum over some axes becomes, and values in a finer shape of the root."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.typing import ArrayLike, DTypeLike

from cgjax._beliefs import layouts, of_one_sum, small
from cgjax._beliefs.curves import Split, as_curve
from cgjax._beliefs.finer import coarser, finer, finer_axes
from cgjax._beliefs.group_sums import Function, Sum, Values
from cgjax._beliefs.grouped import (
    Grouped,
    at_root,
    is_integrated,
    mean_in,
    moments,
    slope_of,
    variance_in,
)
from cgjax._beliefs.laid import Laid, source
from cgjax._beliefs.layouts import Layout, Shape
from cgjax._beliefs.shares import undivided
from cgjax._beliefs.totals import summed
from cgjax._beliefs.values import Gaussian, Value, settle
from cgjax._program.jaxprs import bind

# -- sums


def reduced(eqn: JaxprEqn, value: Value, order: int) -> Grouped | None:
    """The sum of a value over some axes, kept as a function of its root.

    None where there is nothing to sum, or where what is summed and its own sums overlap in part.
    """
    axes = tuple(map(int, eqn.params["axes"]))
    if isinstance(value, Split):
        value = settle(value, order)  # of several variables: a function of a new one
    if not jnp.issubdtype(value.dtype, jnp.floating) or 0 in value.shape:
        return None
    group = as_group(value)
    digits = tuple(d for a in axes for d in group.layout.axes[a])
    fine = layouts.refined(group.fine, group.layout.digits)
    if not digits or fine is None:
        return None
    group = in_shape(group, fine)
    along = layouts.axes_of(digits, fine)
    flat = frozenset(k for k, n in enumerate(group.sizes) if n < fine[k])
    over = along | flat
    if not along or any(not s.over <= over for s in group.sums):
        return None
    copies = math.prod(n for n, stride in digits if not stride)
    layout = group.layout.without(axes)
    inner, sums = group.function, group.sums

    def of(x: jax.Array, values: Values) -> jax.Array:
        terms = jnp.broadcast_to(inner(x, values), group.sizes)
        return copies * jnp.sum(terms, tuple(along), keepdims=True)

    summand = as_curve(source(value)) if not isinstance(value, Grouped) else None
    plain, summary = _summary(eqn, group, value, order, along, copies)
    if group.affine and not group.root.axes:
        slope = slope_of(of, sums, mean_in(group))
        spread = slope**2 * variance_in(group)
        summary = summary[0], spread.sum(tuple(over), keepdims=True)
    new = Sum(object(), fine, over, of, sums, summary, group.affine, summand)
    sizes = tuple(1 if k in over else n for k, n in enumerate(group.sizes))
    if plain is not None and group.sums and group.affine and _before(value, copies) is None:
        plain = None
    out = Grouped(
        group.root,
        fine,
        (*sums, new),
        lambda x, values: values[new],
        sizes,
        layout,
        group.own,
        value.dtype,
        alone=True,
        straight=True,
        affine=group.affine,
        form="sum",
        known=summary,
        total=plain,
        of_one=of_one_sum.TheSum(value.dtype),
    )
    if not group.alone and group.undivided is not None:
        out = replace(out, undivided=reduced(eqn, undivided(group), order))
    if sums and order != 1 and not group.affine and is_integrated(out, over):
        return _integrated(out, new)
    return out


def _integrated(value: Grouped, new: Sum) -> Grouped:
    """A sum over a small group, with moments that know that its terms are not independent."""
    summary = small.moments(
        lambda x: at_root(value, x), mean_in(value), variance_in(value), new.over
    )
    better = replace(new, summary=summary)
    return replace(
        value,
        sums=(*value.sums[:-1], better),
        function=lambda x, values: values[better],
        known=summary,
        total=None,
    )


def _summary(
    eqn: JaxprEqn, group: Grouped, value: Value, order: int, along: frozenset[int], copies: int
) -> tuple[Gaussian | None, tuple[jax.Array, jax.Array]]:
    """The moments of a sum of what is taken as independent: as it stands, and in the fine shape."""
    before = _before(value, copies)
    if group.alone and before is None:
        mean, variance = (jnp.broadcast_to(a, group.sizes) for a in moments(group, order))
        axes = tuple(along)
        mean, variance = (a.sum(axes, keepdims=True) for a in (mean, variance))
        return None, (copies * mean, copies**2 * variance)
    plain = settle(value if before is None else before, order).without_gain()
    axes = tuple(map(int, eqn.params["axes"]))
    total = summed(plain, axes, bind(eqn, [plain.mean])[0], lambda a: bind(eqn, [a])[0])
    layout = group.layout.without(axes)
    mean, variance = (layouts.unlaid(a, layout, group.fine) for a in (total.mean, total.variance))
    return total, (mean, variance)


def _before(value: Value, copies: int) -> Value | None:
    """What a sum of positions is known to be with what the others share, if none stands twice."""
    return value.total if isinstance(value, Grouped) and copies == 1 else None


def as_group(value: Value) -> Grouped:
    """A function of one Gaussian as one of it and of no sums; grouped values as they are."""
    if isinstance(value, Grouped):
        return value
    curve = as_curve(source(value))
    root = curve.root
    fine = layouts.refined(root.shape, ()) or ()
    layout = value.layout if isinstance(value, Laid) else layouts.identity(root.shape)

    def function(x: jax.Array, values: Values) -> jax.Array:
        out = curve.function(x.reshape(root.shape))
        return jnp.broadcast_to(out, root.shape).reshape(fine)

    affine = curve.affine is not None
    own = tuple(dict.fromkeys((layouts.identity(root.shape), layout)))
    dtype = value.dtype
    return Grouped(root, fine, (), function, fine, layout, own, dtype, False, affine, affine)


# -- the same in a finer shape


def in_shape(group: Grouped, fine: Shape) -> Grouped:
    """A value with its axes cut finer."""
    if group.fine == fine:
        return group
    old = group.fine
    sums: dict[Sum, Sum] = {}
    for one in group.sums:
        needs = tuple(sums[s] for s in one.needs)
        summary = tuple(finer(a, old, fine) for a in one.summary)
        over = finer_axes(one.over, old, fine)
        of = _finer_function(one.of, dict(zip(one.needs, needs, strict=True)), old, fine)
        sums[one] = replace(one, fine=fine, over=over, of=of, needs=needs, summary=summary)
    flat = finer_axes([k for k, n in enumerate(group.sizes) if n < old[k]], old, fine)
    return replace(
        group,
        fine=fine,
        sums=tuple(sums.values()),
        function=_finer_function(group.function, sums, old, fine),
        sizes=tuple(1 if k in flat else n for k, n in enumerate(fine)),
        offset=None if group.offset is None else finer(group.offset, old, fine),
        known=None if group.known is None else tuple(finer(a, old, fine) for a in group.known),
        of_one=(
            None
            if group.of_one is None
            else of_one_sum.refined(group.of_one, lambda a: finer(a, old, fine))
        ),
        square_of=None if group.square_of is None else in_shape(group.square_of, fine),
        scaled=(
            None
            if group.scaled is None
            else group.scaled.in_shape(lambda g: in_shape(g, fine), lambda a: finer(a, old, fine))
        ),
    )


def _finer_function(
    function: Function, sums: Mapping[Sum, Sum], old: Shape, fine: Shape
) -> Function:
    def in_finer(x: jax.Array, values: Values) -> jax.Array:
        known = {one: coarser(values[new], old, fine) for one, new in sums.items()}
        return finer(function(coarser(x, old, fine), known), old, fine)

    return in_finer


def array_in_shape(x: ArrayLike, dtype: DTypeLike, layout: Layout, fine: Shape) -> jax.Array:
    """An array beside a value in a layout, in the refined shape."""
    array = jnp.asarray(x, dtype)
    if not array.ndim:
        return array.reshape((1,) * len(fine))
    return layouts.unlaid(jnp.broadcast_to(array, layout.shape), layout, fine)
