"""Where the axes of an array go when its elements are spread or turned, and none is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from cgjax._program.jaxprs import Params

# An axis of the result, and the axis of the operand that it comes from; axes of size 1, and those
# along which the operand is repeated, come from none.
Axes = tuple[tuple[int, int], ...]
Shape = Sequence[int]


def own(shape: Shape) -> Axes:
    """The axes of an array that stays as it is."""
    return tuple((k, k) for k, size in enumerate(shape) if size != 1)


def after(first: Axes, then: Axes) -> Axes:
    """The axes of an array that is spread twice."""
    origin = dict(first)
    return tuple((axis, origin[middle]) for axis, middle in then if middle in origin)


def before(inner: Axes, whole: Axes) -> Axes | None:
    """The first of two spreads, given the second and both; None where there is none."""
    middle = dict(inner)
    if not {axis for axis, _ in whole} <= set(middle):
        return None
    return tuple(sorted((middle[axis], origin) for axis, origin in whole))


def spread(eqn: JaxprEqn, shape: Shape, result: Shape) -> Axes | None:
    """The axes of an equation's result in its first operand; None for all other operations."""
    rule = _SPREADS.get(eqn.primitive)
    pairs = None if rule is None else rule(eqn.params, shape, result)
    if pairs is None:
        return None
    return tuple((axis, origin) for axis, origin in pairs if shape[origin] != 1)


def _broadcast(params: Params, shape: Shape, result: Shape) -> Axes:
    return tuple((int(axis), k) for k, axis in enumerate(params["broadcast_dimensions"]))


def _transpose(params: Params, shape: Shape, result: Shape) -> Axes:
    return tuple((axis, int(k)) for axis, k in enumerate(params["permutation"]))


def _reshape(params: Params, shape: Shape, result: Shape) -> Axes | None:
    turned = params["dimensions"] is not None
    return None if turned else _squeeze(params, shape, result)


def _squeeze(params: Params, shape: Shape, result: Shape) -> Axes | None:
    """Of what changes axes of size 1 alone."""
    ours = [k for k, size in enumerate(shape) if size != 1]
    theirs = [k for k, size in enumerate(result) if size != 1]
    if [shape[k] for k in ours] != [result[k] for k in theirs]:
        return None
    return tuple(zip(theirs, ours, strict=True))


_SPREADS: dict[Primitive, Callable[[Params, Shape, Shape], Axes | None]] = {
    lax.broadcast_in_dim_p: _broadcast,
    lax.transpose_p: _transpose,
    lax.reshape_p: _reshape,
    lax.squeeze_p: _squeeze,
}
