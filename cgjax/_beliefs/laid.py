"""Element-wise functions of a Gaussian that were reshaped or transposed, kept as functions.

So `tanh(x).reshape(…)` and `tanh(x.reshape(…))` are the same function of x.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from cgjax._beliefs import layouts
from cgjax._beliefs.curves import Curve, as_curve
from cgjax._beliefs.layouts import Layout, Shape
from cgjax._beliefs.movement import carried, grid_after, reshaped_axes
from cgjax._beliefs.values import Gaussian, Lazy, Value, is_random, moved_from, settle
from cgjax._program.jaxprs import aval, bind

Atom = Var | Literal


@dataclass(frozen=True, eq=False)
class Laid(Lazy):
    """A function of a Gaussian in another layout, in which each of its elements is there once.

    Attributes:
        value: the function.
        layout: the layout.
    """

    value: Gaussian | Curve
    layout: Layout

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.value.dtype

    def settled(self, order: int) -> Gaussian | jax.Array:
        """The moments, in the layout; the same object for each use, so that it is one variable."""
        return self._matched if order != 1 else self._linear

    @functools.cached_property
    def _matched(self) -> Gaussian | jax.Array:
        return self._in_layout(settle(self.value, 2))

    @functools.cached_property
    def _linear(self) -> Gaussian | jax.Array:
        return self._in_layout(settle(self.value, 1))

    def _in_layout(self, found: Value) -> Gaussian | jax.Array:
        if isinstance(found, Gaussian):
            return moved_from(laid_gaussian(found.without_gain(), self.layout), found, self.layout)
        return self.array(found)

    def array(self, values: jax.Array) -> jax.Array:
        """Values of the function in the layout."""
        fine = layouts.refined(values.shape, self.layout.digits)
        assert fine is not None
        return layouts.laid(values.reshape(fine), self.layout, fine)


def source(value: Gaussian | Curve | Laid) -> Gaussian | Curve:
    """The function, without the layout."""
    return value.value if isinstance(value, Laid) else value


def laid_gaussian(x: Gaussian, layout: Layout) -> Gaussian:
    """A Gaussian in a layout, in which each of its elements is there once."""
    fine = layouts.refined(x.shape, layout.digits)
    assert fine is not None
    order = layouts.order(layout, fine)
    out = _reshaped(x, fine)
    axes = tuple(i for i, k in enumerate(order) if k in out.axes)
    out = carried(out, lambda a: jnp.transpose(a, order), axes)
    out = _reshaped(out, layout.shape)
    return out.on(grid_after(x, layout, out.axes))


def _reshaped(x: Gaussian, shape: Shape) -> Gaussian:
    if tuple(shape) == x.shape:
        return x
    axes = reshaped_axes(x.shape, shape, x.axes)
    return carried(x, lambda a: a.reshape(shape), axes)


def moved(eqn: JaxprEqn, operands: Sequence[Value]) -> Gaussian | Curve | Laid | None:
    """A function after an operation that moves its elements; None if some are lost or repeated."""
    first = operands[0]
    if not isinstance(first, Gaussian | Curve | Laid) or any(map(is_random, operands[1:])):
        return None
    value = source(first)
    before = first.layout if isinstance(first, Laid) else layouts.identity(value.shape)
    after = layouts.moved(before, eqn, [None, *operands[1:]])
    if after is None or not layouts.is_complete(after, math.prod(value.shape)):
        return None
    if after == layouts.identity(value.shape) and after.shape == tuple(value.shape):
        return value
    return Laid(value, after) if layouts.refined(value.shape, after.digits) is not None else None


def elementwise_laid(
    eqn: JaxprEqn, operands: Sequence[Value], rule: Callable[..., Value | None]
) -> Value | None:
    """An element-wise operation on functions of one Gaussian in one layout; None for all others.

    Args:
        eqn: the operation.
        operands: arrays and values, one of them laid.
        rule: `rule(eqn, operands)` of the operation where nothing is laid.
    """
    functions = [x for x in operands if is_random(x)]
    first = next(x for x in functions if isinstance(x, Laid))
    if not all(isinstance(x, Laid) and x.layout == first.layout for x in functions):
        return None
    if any(as_curve(source(x)).root is not as_curve(source(first)).root for x in functions):
        return None
    shape, layout = first.value.shape, first.layout
    if layout.shape != tuple(aval(eqn.outvars[0]).shape):
        return None
    fine = layouts.refined(shape, layout.digits)
    assert fine is not None

    def unlaid(x: Value) -> Value:
        if is_random(x):
            return source(x)
        if not jnp.ndim(x):
            return x
        return layouts.unlaid(jnp.broadcast_to(x, layout.shape), layout, fine).reshape(shape)

    inner = [unlaid(x) for x in operands]
    out = rule(retraced(eqn, inner), inner)
    if isinstance(out, Gaussian | Curve):
        return Laid(out, layout)
    return None if out is None else layouts.laid(out.reshape(fine), layout, fine)


def retraced(eqn: JaxprEqn, operands: Sequence[Value]) -> JaxprEqn:
    """The equation for operands of other shapes."""

    def arguments(x: Value, v: Atom) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(jnp.shape(x), aval(v).dtype, weak_type=aval(v).weak_type)

    avals = [arguments(x, v) for x, v in zip(operands, eqn.invars, strict=True)]
    return jax.make_jaxpr(lambda *values: bind(eqn, values))(*avals).eqns[0]
