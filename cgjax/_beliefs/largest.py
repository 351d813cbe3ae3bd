"""The largest of several Gaussians: pairwise, by Clark's moments of the larger of two."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs.movement import carried, common_axes, correlation
from cgjax._beliefs.totals import after, between_windows
from cgjax._beliefs.values import Gaussian, Value, over_pairs, sharing
from cgjax._gaussian.larger import larger_moments
from cgjax._gaussian.numerics import root, wide
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
    x, y = x.shared()[0], y.shared()[0]
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


def _largest(sign: int) -> Callable[..., Gaussian]:
    def rule(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
        (x,) = operands
        axes = tuple(map(int, eqn.params["axes"]))
        for axis in axes:
            independent = x.correlation is None and order != 1
            x = (_in_turn if independent else _tournament)(x, axis, sign, order)
        kept = tuple(after(axis, axes) for axis in x.axes if axis not in axes)
        return carried(x, lambda a: lax.squeeze(a, axes), kept)

    return rule


# Beyond this many, neighbours in order are compared in pairs first: fewer steps, one after another.
_MOST_IN_TURN = 32


def _in_turn(x: Gaussian, axis: int, sign: int, order: int) -> Gaussian:
    """The largest of independent ones along one axis, kept with size 1, smallest variance first.

    The larger of two is not Gaussian, the less so the more their variances differ: those that are
    alike come first.
    """
    x = _by_variance(x, axis)

    mean, variance = (jnp.moveaxis(a, axis, 0) for a in (x.mean, x.variance))
    while (size := len(mean)) > _MOST_IN_TURN:
        even, odd = slice(0, size // 2 * 2, 2), slice(1, None, 2)
        pair = [Gaussian(mean[one], variance[one]) for one in (even, odd)]
        won = larger_of(*pair, sign, order, together=False)
        mean = jnp.concatenate([mean[size // 2 * 2 :], won.mean])
        variance = jnp.concatenate([variance[size // 2 * 2 :], won.variance])

    def step(best: Gaussian, here: Gaussian) -> tuple[Gaussian, None]:
        return larger_of(best, here, sign, order, together=False), None

    rest = Gaussian(mean[1:], variance[1:])
    best, _ = lax.scan(step, Gaussian(mean[0], variance[0]), rest)
    return Gaussian(jnp.expand_dims(best.mean, axis), jnp.expand_dims(best.variance, axis))


def _by_variance(x: Gaussian, axis: int) -> Gaussian:
    """The same elements along an axis, smallest variance first."""
    order = jnp.argsort(lax.stop_gradient(x.variance), axis)
    mean, variance = (jnp.take_along_axis(a, order, axis) for a in (x.mean, x.variance))
    return Gaussian(mean, variance)


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


def _window_largest(sign: int) -> Callable[..., Gaussian]:
    def rule(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Gaussian:
        x = operands[0].shared()[0]
        p, ones = eqn.params, (1,) * operands[0].mean.ndim
        windows = zip(
            p["window_dimensions"],
            p["window_strides"],
            p["padding"],
            p.get("base_dilation") or ones,
            p.get("window_dilation") or ones,
            aval(eqn.outvars[0]).shape,
            strict=True,
        )
        for axis, window in enumerate(windows):
            x = _along(x, axis, sign, order, *window)
        if x.correlation is not None:
            x = replace(x, correlation=between_windows(x.correlation))
        return x

    return rule


def _along(
    x: Gaussian,
    axis: int,
    sign: int,
    order: int,
    window: int,
    stride: int,
    padding: tuple[int, int],
    spacing: int,
    dilation: int,
    number: int,
) -> Gaussian:
    """The largest in each window along one axis; see `lax.reduce_window`.

    One axis after the other: the compiler for CPUs is slow with slices that skip along two.
    """
    padded = any(padding) or spacing > 1
    if padded:
        config = [(0, 0, 0)] * x.mean.ndim
        config[axis] = (*padding, spacing - 1)
        filling = jnp.asarray(-sign * jnp.inf, x.dtype)
        mean = lax.pad(x.mean, filling, config)
        x = replace(x, mean=mean, variance=lax.pad(x.variance, jnp.zeros_like(filling), config))
    stop = (number - 1) * stride + 1

    def taken(a: Array, start: int) -> Array:
        return lax.slice_in_dim(a, start, start + stop, stride, axis)

    pieces = [
        replace(x, mean=taken(x.mean, k * dilation), variance=taken(x.variance, k * dilation))
        for k in range(window)
    ]
    if x.correlation is None and order != 1 and window > 2:
        ordered = _by_variance(_stacked(pieces), 0)
        best = Gaussian(ordered.mean[0], ordered.variance[0])
        for k in range(1, window):
            best = _better(best, Gaussian(ordered.mean[k], ordered.variance[k]), sign, order)
        return best
    while len(pieces) > 1:
        pairs = zip(pieces[::2], pieces[1::2], strict=False)
        winners = [
            _better(a, b, sign, order) if padded else larger_of(a, b, sign, order, together=True)
            for a, b in pairs
        ]
        pieces = winners + pieces[len(winners) * 2 :]
    return pieces[0]


def _stacked(pieces: Sequence[Gaussian]) -> Gaussian:
    return Gaussian(jnp.stack([p.mean for p in pieces]), jnp.stack([p.variance for p in pieces]))


def _better(best: Gaussian, here: Gaussian, sign: int, order: int) -> Gaussian:
    """The larger of two, where padding (infinite means) never wins."""
    outside = [jnp.isinf(g.mean) for g in (best, here)]
    finite = [
        replace(g, mean=jnp.where(out, other.mean, g.mean))
        for g, other, out in zip((best, here), (here, best), outside, strict=True)
    ]
    finite = [replace(g, mean=jnp.where(jnp.isinf(g.mean), 0, g.mean)) for g in finite]
    won = larger_of(*finite, sign, order, together=True)
    both = outside[0] & outside[1]
    mean = jnp.where(outside[0], here.mean, jnp.where(outside[1], best.mean, won.mean))
    variance = jnp.where(
        outside[0], here.variance, jnp.where(outside[1], best.variance, won.variance)
    )
    return replace(won, mean=jnp.where(both, best.mean, mean), variance=variance)


EXTREMES: dict[str, Callable[..., Gaussian]] = {
    "reduce_max": _largest(1),
    "reduce_min": _largest(-1),
    "reduce_window_max": _window_largest(1),
    "reduce_window_min": _window_largest(-1),
}
