"""The largest of several Gaussians: along axes, in windows, and of two arrays."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs.fading import Parts
from cgjax._beliefs.movement import carried, common_axes, correlation
from cgjax._beliefs.pairs import over_pairs
from cgjax._beliefs.spacing import grid_of_rest, in_parts
from cgjax._beliefs.totals import after
from cgjax._beliefs.values import Gaussian, Value, sharing
from cgjax._gaussian.larger import larger_moments
from cgjax._gaussian.largest import largest_along
from cgjax._gaussian.numerics import root, wide
from cgjax._gaussian.tails import LARGEST_RATIO
from cgjax._program.jaxprs import aval


def larger_of(x: Gaussian, y: Gaussian, sign: int, order: int, *, together: bool) -> Gaussian:
    """The larger (sign 1) or smaller (sign -1) of two Gaussians, element by element.

    Args:
        x: a Gaussian.
        y: another, of the same shape.
        sign: 1 or -1.
        order: 1 for the first-order rule, which takes the one whose mean is larger.
        together: whether x and y are positions of one array, so that they share the same noise.
    """
    if order == 1:
        first = sign * (x.mean - y.mean) >= 0
        return Gaussian(jnp.where(first, x.mean, y.mean), jnp.where(first, x.variance, y.variance))
    x, y = x.without_gain(), y.without_gain()
    axes = common_axes([x, y])
    correlations = [correlation(g, axes) for g in (x, y)]
    deviations = [root(g.variance) for g in (x, y)]
    common = root(jnp.maximum(correlations[0][1] * correlations[1][1], 0))
    covariance = common * deviations[0] * deviations[1] if together else jnp.zeros(())
    shape, numbers = x.shape, (sign * x.mean, x.variance, sign * y.mean, y.variance, covariance)
    found = larger_moments(*(jnp.broadcast_to(wide(a), shape) for a in numbers))
    mean, variance, first = (jnp.asarray(a, x.dtype) for a in found)
    if not axes:
        return Gaussian(sign * mean, variance)
    parts = [first * deviations[0], (1 - first) * deviations[1]]
    if together:
        shared = correlations[0] * over_pairs(parts[0] + parts[1], axes)
    else:
        terms = [c * over_pairs(p, axes) for c, p in zip(correlations, parts, strict=True)]
        shared = terms[0] + terms[1]
    return sharing(sign * mean, variance, shared, axes)


# -- along axes


def _largest(sign: int) -> Callable[..., Gaussian]:
    def rule(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
        (x,) = operands
        axes = tuple(map(int, eqn.params["axes"]))
        # Elements of independent noise, beside positions that share theirs: in pairs, which say
        # how much of the noise of each is in the largest.
        mixed = x.correlation is not None
        paired = [a for a in axes if order == 1 or (mixed and a not in x.axes)]
        for axis in paired:
            x = _tournament(x, axis, sign, order)
        x = _along(x, [a for a in axes if a not in paired], sign)
        left = [axis for axis in x.axes if axis not in axes]
        kept = tuple(after(axis, axes) for axis in left)
        return carried(x, lambda a: lax.squeeze(a, axes), kept).on(grid_of_rest(x, left))

    return rule


def _along(x: Gaussian, axes: Sequence[int], sign: int) -> Gaussian:
    """The largest along some axes, kept with size 1; their elements share one noise, or none."""
    if not axes:
        return x
    outer = [1 if k in axes else n for k, n in enumerate(x.shape)]

    def in_front(a: Array) -> Array:
        return jnp.moveaxis(a, axes, range(len(axes))).reshape(-1, *outer)

    parts = None if x.correlation is None else in_parts(x, axes)
    out = _of_some(in_front(x.mean), in_front(x.variance), x, sign, parts)
    return out.on(x.grid)


def _of_some(mean: Array, variance: Array, x: Gaussian, sign: int, parts: Parts | None) -> Gaussian:
    """The same as `_of`, where means may be infinite: padding, or what a mask has filled."""
    out = _of(_without_padding(mean, variance, sign), variance, x, sign, parts)
    empty = (mean == -sign * jnp.inf).all(0)
    return replace(out, mean=jnp.where(empty, mean[0], out.mean))


def _of(mean: Array, variance: Array, x: Gaussian, sign: int, parts: Parts | None) -> Gaussian:
    """The largest along the first of the axes.

    Args:
        mean, variance: of the variables.
        x: whose elements they are.
        sign: 1 for the largest, -1 for the smallest.
        parts: what they share, with other positions too; None for nothing.
    """
    common = None
    if parts is not None:
        common = jnp.broadcast_to(wide(parts.inside), mean.shape[1:])
        common = jnp.maximum(common, 0)
    found = largest_along(wide(sign * mean), wide(variance), common)
    mean, variance, deviation = (jnp.asarray(a, x.dtype) for a in found)
    if parts is None:
        return Gaussian(sign * mean, variance)
    shared = parts.between * over_pairs(deviation, x.axes)
    return sharing(sign * mean, variance, shared, x.axes)


def _tournament(x: Gaussian, axis: int, sign: int, order: int) -> Gaussian:
    """The largest along one axis, kept with size 1, pair by pair."""
    while (size := x.shape[axis]) > 1:
        half = size // 2
        pieces = [
            carried(x, lambda a, s=s, e=e: lax.slice_in_dim(a, s, e, axis=axis), x.axes)
            for s, e in ((0, half), (half, 2 * half))
        ]
        winners = larger_of(*pieces, sign, order, together=axis in x.axes)
        if size % 2:
            last = carried(x, lambda a, n=size: lax.slice_in_dim(a, n - 1, n, axis=axis), x.axes)
            parts = [winners, last]
            mean = lax.concatenate([p.mean for p in parts], axis)
            variance = lax.concatenate([p.variance for p in parts], axis)
            x = Gaussian(mean, variance, winners.axes, winners.correlation)
        else:
            x = winners
    return x


# -- in windows


class _Window(NamedTuple):
    """What `lax.reduce_window` does along one axis."""

    size: int
    stride: int
    padding: tuple[int, int]
    spacing: int
    dilation: int
    number: int

    @property
    def is_padded(self) -> bool:
        """Whether some places of windows are empty."""
        return any(self.padding) or self.spacing > 1

    def places(self, array: Array, axis: int, filling: float) -> list[Array]:
        """For each place in a window what stands there, in all windows."""
        if self.is_padded:
            config = [(0, 0, 0)] * array.ndim
            config[axis] = (*self.padding, self.spacing - 1)
            array = lax.pad(array, jnp.asarray(filling, array.dtype), config)
        length = (self.number - 1) * self.stride + 1
        starts = [k * self.dilation for k in range(self.size)]
        return [lax.slice_in_dim(array, k, k + length, self.stride, axis) for k in starts]


def _window_largest(sign: int) -> Callable[..., Gaussian]:
    def rule(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
        x = operands[0].without_gain()
        p, ones = eqn.params, (1,) * operands[0].mean.ndim
        parameters = zip(
            p["window_dimensions"],
            p["window_strides"],
            p["padding"],
            p.get("base_dilation") or ones,
            p.get("window_dilation") or ones,
            aval(eqn.outvars[0]).shape,
            strict=True,
        )
        windows = [_Window(*w) for w in parameters]
        # One axis after the other: the compiler for CPUs is slow with slices that skip along two.
        means, variances = [x.mean], [x.variance]
        for axis, window in enumerate(windows):
            means = [b for a in means for b in window.places(a, axis, -sign * jnp.inf)]
            variances = [b for a in variances for b in window.places(a, axis, 0)]
        if order == 1:
            pieces = map(Gaussian, means, variances)
            return reduce(lambda a, b: larger_of(a, b, sign, 1, together=True), pieces)
        mean, variance = jnp.stack(means), jnp.stack(variances)
        # Nearly all elements of a window are neighbours.
        both = x.correlation
        parts = None if both is None else Parts(both[1], _between_windows(both))
        largest = _of_some if any(w.is_padded for w in windows) else _of
        return largest(mean, variance, x, sign, parts)

    return rule


def _between_windows(correlation: Array) -> Array:
    """The correlations of elements in two windows: those of neighbours are further apart."""
    return jnp.stack([correlation[0], (correlation[0] + correlation[1]) / 2])


def _without_padding(mean: Array, variance: Array, sign: int) -> Array:
    """Means with so small ones for padding that it is never the largest."""
    outside = mean == -sign * jnp.inf
    deviation = root(variance.max(0))
    inside = jnp.where(outside, jnp.zeros_like(mean), mean)
    least = (sign * inside).min(0) - 2 * LARGEST_RATIO * deviation
    return jnp.where(outside, lax.stop_gradient(sign * least), mean)


EXTREMES: dict[str, Callable[..., Gaussian]] = {
    "reduce_max": _largest(1),
    "reduce_min": _largest(-1),
    "reduce_window_max": _window_largest(1),
    "reduce_window_min": _window_largest(-1),
}
