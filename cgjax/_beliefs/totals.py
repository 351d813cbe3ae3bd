"""Sums and products along axes, with what positions share."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs import fading, grids
from cgjax._beliefs.movement import Move, carried, shared_variance
from cgjax._beliefs.pairs import over_pairs
from cgjax._beliefs.spacing import grid_of_rest, in_parts
from cgjax._beliefs.values import Gaussian, Value, sharing
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import aval, bind


def total_of(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    return summed(
        x,
        tuple(map(int, eqn.params["axes"])),
        bind(eqn, [x.mean])[0],
        lambda a: bind(eqn, [a])[0],
    )


def summed(x: Gaussian, axes: tuple[int, ...], mean: Array, total: Move) -> Gaussian:
    """The sum over some axes: positions add up with what they share, all others independently."""
    inside = tuple(axis for axis in axes if axis in x.axes)
    if not inside or x.correlation is None:
        kept = tuple(after(axis, axes) for axis in x.axes)
        if not kept:
            return Gaussian(mean, total(x.variance))
        shared = jnp.stack([total(c) for c in shared_variance(x, x.axes)])
        return sharing(mean, total(x.variance), shared, kept)
    rest = tuple(axis for axis in axes if axis not in inside)
    deviation = root(x.variance)
    left = tuple(axis for axis in x.axes if axis not in inside)
    correlation, apart = in_parts(x, inside)
    together = deviation.sum(inside, keepdims=True)
    own = (1 - correlation) * x.variance.sum(inside, keepdims=True)
    variance = jnp.maximum(correlation * together**2 + own, 0).sum(rest, keepdims=True)
    out = lax.squeeze(variance, sorted(axes))
    if not left:
        return Gaussian(mean, out)
    shared = [
        lax.squeeze(c.sum(rest, keepdims=True), sorted(axes))
        for c in apart * over_pairs(together, left)
    ]
    kept = tuple(after(axis, axes) for axis in left)
    return sharing(mean, out, jnp.stack(shared), kept).on(grid_of_rest(x, left))


def after(axis: int, gone: Sequence[int]) -> int:
    """The number of an axis once others are gone."""
    return axis - sum(g < axis for g in gone)


def _running_sum(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    mean = bind(eqn, [x.mean])[0]
    if eqn.params["axis"] not in x.axes or x.correlation is None:
        return Gaussian(mean, bind(eqn, [x.variance])[0])
    return Gaussian(mean, _added_up(x, x.correlation[0], lambda a: bind(eqn, [a])[0])[0])


def _window_sum(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    mean = bind(eqn, [x.mean])[0]
    window = eqn.params["window_dimensions"]
    inside = {axis for axis, n in enumerate(window) if n > 1}
    if x.correlation is None or not x.axes:
        return Gaussian(mean, bind(eqn, [x.variance])[0])
    if not inside <= set(x.axes):
        return Gaussian(mean, bind(eqn, [x.variance])[0])
    known = _in_windows(x, eqn)
    variance, together = _added_up(x, known.inside, lambda a: bind(eqn, [a])[0])
    return sharing(mean, variance, known.between * over_pairs(together, x.axes), x.axes)


def _in_windows(x: Gaussian, eqn: JaxprEqn) -> fading.Parts:
    """The correlations of positions of one window, and of those of two."""
    assert x.correlation is not None
    p = eqn.params
    sizes, numbers = p["window_dimensions"], aval(eqn.outvars[0]).shape
    dilations, strides = p.get("window_dilation") or (1,) * len(sizes), p["window_strides"]
    whole = [grids.Step(k, 1, x.shape[a]) for k, a in enumerate(x.axes)]
    part = [grids.Step(k, dilations[a], sizes[a]) for k, a in enumerate(x.axes)]
    parts = [grids.Step(k, strides[a], numbers[a]) for k, a in enumerate(x.axes)]
    return fading.of_parts(x.correlation, whole, part, parts)


def _added_up(x: Gaussian, correlation: Array, add: Move) -> tuple[Array, Array]:
    """The variance of sums of positions, and the sums of the deviations."""
    correlation = jnp.broadcast_to(correlation, x.shape)
    together = add(root(x.variance))
    # The correlation is the same at all positions, so the sum's is any of them.
    own = add((1 - correlation) * x.variance)
    number = add(jnp.ones_like(x.variance))
    return jnp.maximum(own + add(correlation) / number * together**2, 0), together


def _product(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
    (x,) = operands
    x = x.alone()
    for axis in eqn.params["axes"]:
        while (size := x.shape[axis]) > 1:
            half = size // 2
            m, v = x.mean, x.variance

            def part(a: Array, start: int, stop: int, axis: int = axis) -> Array:
                return lax.slice_in_dim(a, start, stop, axis=axis)

            (m1, m2), (v1, v2) = ((part(a, 0, half), part(a, half, 2 * half)) for a in (m, v))
            mean, variance = m1 * m2, m1**2 * v2 + m2**2 * v1
            if order != 1:
                variance = variance + v1 * v2
            if size % 2:
                mean = lax.concatenate([mean, part(m, size - 1, size)], axis)
                variance = lax.concatenate([variance, part(v, size - 1, size)], axis)
            x = Gaussian(mean, variance)
    return carried(x, lambda a: lax.squeeze(a, eqn.params["axes"]), ())


TOTALS: dict[str, Callable[..., Gaussian]] = {
    "reduce_sum": total_of,
    "cumsum": _running_sum,
    "reduce_window_sum": _window_sum,
    "reduce_prod": _product,
}
