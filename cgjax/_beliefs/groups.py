"""Element-wise operations in which sums over groups take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs import layouts
from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.curves.compose import applied
from cgjax._beliefs.curves.curve import composed as composed_of_one
from cgjax._beliefs.group_sums import Values
from cgjax._beliefs.grouped import Grouped
from cgjax._beliefs.laid import Laid
from cgjax._beliefs.layouts import Layout
from cgjax._beliefs.of_one_sum import Step, joined
from cgjax._beliefs.scaled import scaled
from cgjax._beliefs.shares import before_division, with_undivided
from cgjax._beliefs.softmax import of_form
from cgjax._beliefs.sums import array_in_shape, as_group, in_shape
from cgjax._beliefs.values import Gaussian, Value, is_random
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts


def elementwise_of_groups(eqn: JaxprEqn, operands: Sequence[Value]) -> Value | None:
    """An element-wise operation where a grouped value takes part; None if they do not fit."""
    whole = before_division(eqn, operands)
    if whole is not None:
        operands = whole
    out = aval(eqn.outvars[0])
    random = [x for x in operands if is_random(x)]
    if not all(isinstance(x, Grouped | Gaussian | Curve | Laid) for x in random):
        return None
    groups = _common([as_group(x) for x in random], tuple(out.shape))
    if groups is None or not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    varied = any(not is_random(x) and jnp.ndim(x) for x in operands)
    layout = _layout(groups, varied)
    if layout is None:
        return None
    total = _total(eqn, operands, layout)
    remaining = iter(groups)
    found = [next(remaining) if is_random(x) else x for x in operands]
    composed = _composed(eqn, found, layout)
    if composed is None:
        return None
    composed = with_undivided(eqn, operands, of_form(eqn, operands, composed))
    keeps = total is not None and isinstance(composed, Grouped)
    return replace(composed, total=total) if keeps else composed


def _total(eqn: JaxprEqn, operands: Sequence[Value], layout: Layout) -> Value | None:
    """A sum of positions, with what the remaining ones share, times a number or beside one."""
    random = [k for k, x in enumerate(operands) if is_random(x)]
    if len(random) != 1 or not facts(eqn).is_linear([k in random for k in range(len(operands))]):
        return None
    one = operands[random[0]]
    if not isinstance(one, Grouped) or one.total is None or one.layout != layout:
        return None
    if not as_curve(one.total).root.axes or any(jnp.ndim(x) for x in operands if x is not one):
        return None
    return composed_of_one(eqn, [one.total if x is one else x for x in operands], 2)


def _common(groups: Sequence[Grouped], shape: tuple[int, ...]) -> list[Grouped] | None:
    """Values of one root in one refined shape, a single number repeated to the result's shape."""
    first = groups[0]
    if any(g.root is not first.root for g in groups):
        return None
    digits = [d for g in groups for d in g.layout.digits]
    digits += [d for g in groups for d in layouts.identity(g.fine).digits]
    fine = layouts.refined(first.fine, digits)
    if fine is None:
        return None
    groups = [in_shape(g, fine) for g in groups]
    spread = [_spread(g, shape) for g in groups]
    return None if any(g is None for g in spread) else [g for g in spread if g is not None]


def _spread(group: Grouped, shape: tuple[int, ...]) -> Grouped | None:
    """A value that an operation broadcasts, repeated; None for one that is more than sums."""
    if group.shape == shape:
        return group
    if not group.alone:
        return None
    axes = list(layouts.repeated(shape).axes)
    for k, n in enumerate(group.shape):
        if n == shape[k]:
            axes[k] = group.layout.axes[k]
    return replace(group, layout=Layout(tuple(axes)), total=None)


def _layout(groups: Sequence[Grouped], varied: bool) -> Layout | None:
    """The layout of the result, of which all others are, but for copies of what is alone."""
    own = [g.layout for g in groups if not g.alone]
    layout = own[0] if own else groups[0].layout
    if any(one != layout for one in own):
        return None
    for g in groups:
        if g.alone:
            both = layouts.united(layout, g.layout)
            if both is None or (own and both != layout):
                return None
            layout = both
    if own or not varied or all(stride for _, stride in layout.digits):
        return layout
    # Beside an array that varies where the value does not, copies stand for elements of the root.
    for one in (one for g in groups for one in g.own if one.shape == layout.shape):
        if layouts.united(layout, one) == one:
            return one
    return None


def _composed(eqn: JaxprEqn, operands: Sequence[Value], layout: Layout) -> Grouped | None:
    groups = [x for x in operands if isinstance(x, Grouped)]
    fine = layouts.refined(groups[0].fine, layout.digits)
    if fine is None:
        return None
    operands = [in_shape(x, fine) if isinstance(x, Grouped) else x for x in operands]
    groups = [x for x in operands if isinstance(x, Grouped)]
    out = aval(eqn.outvars[0])
    arrays = [
        x if is_random(x) else array_in_shape(x, aval(v).dtype, layout, fine)
        for x, v in zip(operands, eqn.invars, strict=True)
    ]
    shapes = [x.sizes if isinstance(x, Grouped) else x.shape for x in arrays]
    sizes = jnp.broadcast_shapes(*shapes)

    def function(x: jax.Array, sums: Values) -> jax.Array:
        values = [a.function(x, sums) if isinstance(a, Grouped) else a for a in arrays]
        shape = jnp.broadcast_shapes(*(v.shape for v in values))
        return applied(eqn, [jnp.broadcast_to(v, shape) for v in values])

    alone = all(g.alone for g in groups)
    known = facts(eqn)
    # An operation that is linear in its random operands keeps what is affine so.
    flat = [isinstance(x, Grouped) for x in operands]
    varies = [isinstance(x, Grouped) and not x.alone for x in operands]
    affine = known.is_linear(flat) and all(g.affine for g in groups)
    straight = alone or (known.is_linear(varies) and all(g.straight for g in groups))
    return Grouped(
        groups[0].root,
        fine,
        tuple(dict.fromkeys(s for g in groups for s in g.sums)),
        function,
        sizes,
        layout,
        tuple(dict.fromkeys(one for g in groups for one in g.own)),
        out.dtype,
        alone,
        straight,
        affine,
        known=_known(eqn, arrays, sizes) if sum(flat) == 1 and known.is_linear(flat) else None,
        of_one=_of_one(eqn, arrays),
        scaled=scaled(eqn, arrays),
        square_of=_square_of(eqn, arrays),
    )


def _square_of(eqn: JaxprEqn, operands: Sequence[Grouped | jax.Array]) -> Grouped | None:
    """The affine value that an operation squares."""
    value = operands[0]
    by_itself = eqn.primitive is lax.mul_p and operands[1] is value
    power = eqn.primitive is lax.integer_pow_p and eqn.params["y"] == 2
    if not (by_itself or power or eqn.primitive is lax.square_p):
        return None
    if not isinstance(value, Grouped) or not value.affine:
        return None
    return value if jnp.issubdtype(value.dtype, jnp.floating) else None


def _of_one(eqn: JaxprEqn, operands: Sequence[Grouped | jax.Array]) -> Step | None:
    """The value as a function of one sum alone, if it is one."""
    groups = [x for x in operands if isinstance(x, Grouped)]
    if any(g.of_one is None or g.sums[-1] != groups[0].sums[-1] for g in groups):
        return None
    return joined(eqn, [x.of_one if isinstance(x, Grouped) else x for x in operands])


def _known(
    eqn: JaxprEqn, operands: Sequence[Grouped | jax.Array], sizes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array] | None:
    """The moments of a linear function of a value whose moments are known."""
    (value,) = (x for x in operands if isinstance(x, Grouped))
    if value.known is None:
        return None
    mean, variance = (jnp.broadcast_to(a, sizes) for a in value.known)

    def function(x: jax.Array) -> jax.Array:
        values = [x if isinstance(a, Grouped) else jnp.broadcast_to(a, sizes) for a in operands]
        values = [jnp.asarray(a, aval(v).dtype) for a, v in zip(values, eqn.invars, strict=True)]
        return bind(eqn, values)[0]

    out, slope = jax.jvp(function, (mean,), (jnp.ones_like(mean),))
    # Of what is not finite a choice takes nothing.
    return wide(out), jnp.where(slope == 0, 0, wide(slope) ** 2 * variance)
