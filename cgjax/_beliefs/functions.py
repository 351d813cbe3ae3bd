"""Values that are kept as functions: element-wise operations on them, and where they are moved."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from cgjax._beliefs import layouts
from cgjax._beliefs.curves import Curve, Split
from cgjax._beliefs.curves.elementwise import elementwise
from cgjax._beliefs.grouped import Grouped
from cgjax._beliefs.groups import elementwise_of_groups
from cgjax._beliefs.laid import Laid, elementwise_laid, moved, source
from cgjax._beliefs.values import Gaussian, Value, is_random, settle
from cgjax._program.jaxprs import aval
from cgjax._program.primitives import facts


def of_functions(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value | None:
    """The value of an element-wise equation; None where there is no rule, as for some of two."""
    if any(isinstance(x, Grouped) for x in operands):
        operands = _summed_themselves(operands, order)
        out = elementwise_of_groups(eqn, operands)
        if out is not None:
            return out
    elif any(isinstance(x, Laid) for x in operands):
        out = elementwise_laid(eqn, operands, lambda e, inner: elementwise(e, inner, order))
        if out is not None:
            return out
    known = [settle(x, order) if isinstance(x, Laid | Grouped) else x for x in operands]
    return elementwise(eqn, known, order)


def _summed_themselves(operands: Sequence[Value], order: int) -> list[Value]:
    """Functions of several variables as the one variable whose sums stand beside them."""
    roots = [x.root for x in operands if isinstance(x, Grouped)]
    settled = [settle(x, order) if isinstance(x, Split) else x for x in operands]
    return [
        own if any(own is r for r in roots) else x for x, own in zip(operands, settled, strict=True)
    ]


def in_layout(eqn: JaxprEqn, operands: Sequence[Value]) -> Value | None:
    """A value after an operation that moves its elements, as the function that it is.

    None where it has to be settled first.
    """
    if not layouts.may_move(eqn):
        return None
    groups = [x for x in operands if isinstance(x, Grouped)]
    if not groups:
        return moved(eqn, operands)
    first, random = groups[0], [x for x in operands if is_random(x)]
    if any(x is not first for x in random):
        return None
    if len(random) > 1:
        numbers = [None if is_random(x) else x for x in operands]
        layout = layouts.looked_at(first.layout, eqn, numbers)
    elif operands[0] is first:
        layout = layouts.moved(first.layout, eqn, [None, *operands[1:]])
    else:
        return None
    return None if layout is None else first.moved(layout)


def over_copies(eqn: JaxprEqn, value: Value, order: int) -> Value | None:
    """The sum, or the largest, of nothing but copies of a function of sums; None for all else."""
    axes = tuple(map(int, eqn.params.get("axes", ())))
    if not isinstance(value, Grouped) or not jnp.issubdtype(value.dtype, jnp.floating):
        return None
    digits = [d for a in axes for d in value.layout.axes[a]]
    if not digits or any(stride for _, stride in digits):
        return None
    one = value.moved(value.layout.without(axes))
    if one is None or facts(eqn).reduces != "sum":
        return one
    number = jnp.asarray(math.prod(n for n, _ in digits), value.dtype)
    product = jax.make_jaxpr(jnp.multiply)(jax.ShapeDtypeStruct(one.shape, one.dtype), number)
    (times,) = (e for e in product.eqns if len(e.invars) == 2)
    return of_functions(times, [one, number], order)


def one_variable(x: Value, y: Value) -> tuple[int, ...] | None:
    """The axes of x that y's are, where both are one variable, transposed or not."""
    if not is_random(x) or not is_random(y) or _variable(x)[0] is not _variable(y)[0]:
        return None
    (_, one), (_, other) = _variable(x), _variable(y)
    left, found = list(enumerate(one.axes)), []
    for digits in other.axes:
        match = next((pair for pair in left if pair[1] == digits), None)
        if match is None:
            return None
        left.remove(match)
        found.append(match[0])
    return tuple(found) if not left else None


def _variable(x: Value) -> tuple[Value, layouts.Layout]:
    if isinstance(x, Laid):
        return source(x), x.layout
    return x, layouts.identity(x.shape)


# -- products that are sums

# A product with a vector is a sum that keeps its link to what it sums, up to this size.
_LARGEST_SUM = 1 << 16


def as_reduction(eqn: JaxprEqn, operands: Sequence[Value]) -> ClosedJaxpr | None:
    """A matrix product as an element-wise one and a sum, where it is no more than that.

    So is the product of a value with known numbers in a vector, as `x @ ones`, and that of two
    functions of one value which leaves no axis of either, as `x @ x`. None for others.
    """
    (contract, batch) = eqn.params["dimension_numbers"]
    shapes = [tuple(aval(v).shape) for v in eqn.invars]
    free = [
        [a for a in range(len(shape)) if a not in contract[k] and a not in batch[k]]
        for k, shape in enumerate(shapes)
    ]
    number = [math.prod(shapes[k][a] for a in free[k]) for k in (0, 1)]
    random = [k for k, x in enumerate(operands) if is_random(x)]
    if any(isinstance(operands[k], Gaussian) and operands[k].axes for k in random):
        return None
    # Numbers of either sign beside positions: the product's own rule knows what these share.
    if any(set(contract[k]) & set(_positions(operands[k])) for k in random):
        return None
    if max(math.prod(shape) for shape in shapes) > _LARGEST_SUM or 0 in (*shapes[0], *shapes[1]):
        return None
    if len(random) == 1 and number[1 - random[0]] > 1:
        return None
    if len(random) == 2 and (max(number) > 1 or not _of_one_root(*operands)):
        return None
    out, kept = aval(eqn.outvars[0]), [shapes[random[0]][a] for a in free[random[0]]]

    def steps(*arrays: jax.Array) -> jax.Array:
        parts = []
        for k, array in enumerate(arrays):
            order = [*batch[k], *free[k], *contract[k]]
            array = array if order == sorted(order) else jnp.transpose(array, order)
            outer = [shapes[k][a] for a in batch[k]]
            inner = kept if k == random[0] else [1] * len(kept)
            shape = (*outer, *inner, *(shapes[k][a] for a in contract[k]))
            parts.append(array if array.shape == shape else array.reshape(shape))
        lead = len(batch[0]) + len(kept)
        total = (parts[0] * parts[1]).sum(tuple(range(lead, parts[0].ndim)))
        total = total if total.shape == out.shape else total.reshape(out.shape)
        return total.astype(out.dtype)

    return jax.make_jaxpr(steps)(*(aval(v) for v in eqn.invars))


def _positions(x: Value) -> tuple[int, ...]:
    """The axes along which a value is known to share noise."""
    if isinstance(x, Grouped):
        return _positions(x.total)
    if not isinstance(x, Laid):
        root = x.root if isinstance(x, Curve) else x
        return root.axes if isinstance(root, Gaussian) else ()
    shape = source(x).shape
    fine = layouts.refined(shape, x.layout.digits) or ()
    digits = layouts.identity(shape).axes
    own = layouts.axes_of([d for a in _positions(source(x)) for d in digits[a]], fine)
    return tuple(k for k, d in enumerate(x.layout.axes) if d and layouts.axes_of(d, fine) <= own)


def _of_one_root(x: Value, y: Value) -> bool:
    roots = [getattr(source(v), "root", source(v)) for v in (x, y)]
    return roots[0] is roots[1]
