"""Values that inference holds a belief about, as they flow through a program.

A value is an array (known exactly), a `Gaussian`, or a `Curve`: an element-wise function of one
Gaussian, which is kept as a function until an operation mixes elements, so that `x * sigmoid(x)` or
`x - x` are functions of the one x that they are written in.
"""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from cgjax._gaussian.blocks import in_blocks, is_closed, whole
from cgjax._gaussian.curve import curve_moments
from cgjax._gaussian.numerics import root, wide
from cgjax.nodes import Belief


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian array, its elements independent but for what positions share.

    Elements that differ in `axes` alone are the positions of an image, or the steps of a sequence.
    Two of them, p and q, have the covariance `gain_p gain_q + correlation r_p r_q`, where r is the
    deviation beside the gain, r^2 = variance - gain^2, and there is one correlation for any two
    positions and one for neighbours. All other elements are independent.

    Attributes:
        mean: the means.
        variance: the variances, of the same shape and dtype.
        axes: the axes of the positions.
        correlation: of any two positions and of neighbours, along a new leading axis; the others
            are of size 1 along `axes` and broadcast to the shape. None without axes.
        gain: what a common factor of the positions contributes to each, of either sign and of the
            mean's shape; None for nothing.
    """

    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]
    axes: tuple[int, ...] = ()
    correlation: Float[Array, "..."] | None = None
    gain: Float[Array, "*shape"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the value."""
        return self.mean.dtype

    def alone(self) -> "Gaussian":
        """The same with all elements independent."""
        return Gaussian(self.mean, self.variance)

    def stored(self) -> "Gaussian":
        """The same for a factor of a product; see `stored`."""
        return replace(self, variance=stored(self.variance))

    def shared(self) -> tuple["Gaussian", Any]:
        """The same without a gain, and the covariances of positions, as `over_pairs`."""
        if self.correlation is None:
            return self, jnp.zeros((), self.dtype)
        beside = self.variance if self.gain is None else self.variance - self.gain**2
        covariance = self.correlation * over_even_pairs(root(beside), self.axes)
        if self.gain is None:
            return self, covariance
        covariance = covariance + over_pairs(self.gain, self.axes)
        return sharing(self.mean, self.variance, covariance, self.axes), covariance

    def tree_flatten(self) -> tuple[Any, Any]:
        """For JAX."""
        return (self.mean, self.variance, self.correlation, self.gain), self.axes

    @classmethod
    def tree_unflatten(cls, axes: Any, leaves: Any) -> "Gaussian":
        """For JAX."""
        # Not through __init__: transformations put shapes and placeholders where arrays were.
        x = object.__new__(cls)
        for name, leaf in zip(("mean", "variance", "correlation", "gain"), leaves, strict=True):
            object.__setattr__(x, name, leaf)
        object.__setattr__(x, "axes", axes)
        return x


def sharing(
    mean: Any, variance: Any, shared: Any, axes: Sequence[int], gain: Any = None
) -> Gaussian:
    """A Gaussian with known average covariances of two positions.

    Derivatives take the correlations and the gain as constants: exact ones cost several times as
    much and point in nearly the same direction (cosine 0.995 and more on a small network).

    Args:
        mean: the means.
        variance: the variances.
        shared: the average covariance of two positions and of two neighbours, as `over_pairs`.
        axes: the axes of the positions.
        gain: what a common factor contributes to each position, part of both.
    """
    beside = variance
    if gain is not None:
        gain = lax.stop_gradient(gain)
        beside = variance - gain**2
        shared = shared - over_pairs(gain, axes)
    product = over_even_pairs(root(beside), axes)
    known = product > 0
    correlation = shared / jnp.where(known, product, 1)
    number = math.prod(variance.shape[axis] for axis in axes)
    # So that the variance of the sum of all is not negative.
    opposed = beside.mean(axes, keepdims=True) / jnp.where(known[0], product[0], 1)
    least = jnp.stack([-opposed / max(number - 1, 1), -jnp.ones_like(opposed)])
    correlation = jnp.where(known, jnp.clip(correlation, least, 1), 0)
    correlation = lax.stop_gradient(correlation)
    return Gaussian(mean, variance, tuple(axes), correlation, gain)


def over_pairs(loading: Any, axes: Sequence[int], steps: tuple[int, ...] | None = None) -> Any:
    """The average of `loading_p loading_q` over pairs of positions.

    Args:
        loading: an array with positions along the axes.
        axes: the axes.
        steps: how far apart neighbours are along each axis; by default 1.

    Returns:
        The average over all pairs of different positions, and that over neighbours, along a new
        leading axis; of size 1 along the axes.
    """
    number = math.prod(loading.shape[axis] for axis in axes)
    if number < 2:
        return jnp.zeros((2, *loading.shape), loading.dtype)
    near = [
        neighbour_products(loading, axis, step).mean(axes, keepdims=True) * (size / (size - step))
        for axis, step in zip(axes, steps or (1,) * len(axes), strict=True)
        if (size := loading.shape[axis]) > step
    ]
    anywhere = _anywhere(loading, axes)
    return jnp.stack([anywhere, sum(near) / len(near) if near else anywhere])


def neighbour_products(loading: Any, axis: int, step: int) -> Any:
    """Products of what lies `step` apart along an axis; 0 for the last, which have no neighbour."""
    config = [(0, 0, 0)] * loading.ndim
    config[axis] = (-step, step, 0)
    return loading * lax.pad(loading, jnp.zeros((), loading.dtype), config)


def _anywhere(loading: Any, axes: Sequence[int]) -> Any:
    number = math.prod(loading.shape[axis] for axis in axes)
    average = loading.mean(axes, keepdims=True)
    square = (loading**2).mean(axes, keepdims=True)
    return (number * average**2 - square) / (number - 1)


def over_even_pairs(loading: Any, axes: Sequence[int]) -> Any:
    """The same for what varies little from one position to the next, such as a deviation."""
    if math.prod(loading.shape[axis] for axis in axes) < 2:
        return jnp.zeros((2, *loading.shape), loading.dtype)
    anywhere = _anywhere(loading, axes)
    return jnp.stack([anywhere, anywhere])


class Lazy(abc.ABC):
    """A random value that is kept as a function until its moments are needed."""

    @abc.abstractmethod
    def settled(self, order: int) -> Any:
        """The moments: matched, or to first order."""


@dataclass(frozen=True, eq=False)
class Curve(Lazy):
    """An element-wise function of one Gaussian.

    Attributes:
        root: the Gaussian.
        function: from values of the root (of its shape) to values of the curve.
        dtype: the dtype of the values.
        affine: (slope, offset) if the curve is `slope * root + offset`.
        closed: the moments in closed form, where they are known.
        kink: where the function of the root is not smooth, if anywhere.
        pieces: (at, (slope, offset) below, (slope, offset) above) of a line that is broken once;
            for a decision the lines are 0 or 1.
        limits: for an affine function that is cut off below or above, where; see `elementwise`.
        rises: whether the function is the same everywhere and never falls, so that the largest
            value is the function of the largest root.
        exponent: (slope, offset) if the curve is `exp(slope * root + offset)`.
        positive: (slope, offset) if `slope * root + offset` has to keep its sign for the function
            to be defined, as in a logarithm: it is taken as log-normal.
        open: (function, arrays) if the function is this closed one of the root and of arrays of its
            shape.
    """

    root: Gaussian
    function: Callable[[Any], Any]
    dtype: Any
    affine: tuple[Any, Any] | None = None
    closed: Callable[[Any, Any], tuple[Any, Any]] | None = None
    kink: Any = None
    limits: Any = None
    exponent: tuple[Any, Any] | None = None
    rises: bool = False
    pieces: tuple[Any, tuple[Any, Any], tuple[Any, Any]] | None = None
    positive: tuple[Any, Any] | None = None
    open: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.root.shape

    def settled(self, order: int) -> Any:
        """The moments: matched, or to first order."""
        return _settled(self, order)


def stored(array: Any) -> Any:
    """An array that the compiler does not know to be one number repeated.

    XLA's compiler for CPUs (jaxlib 0.10.2 to 0.12.0, at least) fuses a product with sums that
    follow it, and in these reads beyond the end of a right operand that is broadcast along an axis
    of the result. Variances often are. A term that differs along all axes prevents it, if only to
    look at; a barrier does not.
    """
    size = math.prod(array.shape)
    if not isinstance(array, Tracer) or size < 2:
        return array
    nothing = 0 * lax.iota(jnp.float32, size).reshape(array.shape)
    return array + jnp.asarray(nothing, array.dtype)


Random = Gaussian | Lazy
Value = Any  # an array, or a Random


def is_random(value: Value) -> bool:
    """Whether a value is not known exactly."""
    return isinstance(value, Gaussian | Lazy)


def as_curve(value: Gaussian | Curve) -> Curve:
    """A random value as a function of its root."""
    if isinstance(value, Curve):
        return value
    return Curve(value, lambda x: x, value.dtype, (1.0, 0.0))


def at_mean(value: Value) -> Any:
    """The value at its root's mean: for decisions and indices."""
    if isinstance(value, Curve):
        return value.function(value.root.mean)
    return mean_of(value.settled(1) if isinstance(value, Lazy) else value)


def mean_of(value: Value) -> Any:
    """An array as it is, and the mean of a Gaussian."""
    return value.mean if isinstance(value, Gaussian) else value


def settle(value: Value, order: int) -> Value:
    """An array or a Gaussian: the moments of a lazy value, matched exactly or to first order."""
    return value.settled(order) if isinstance(value, Lazy) else value


def _settled(value: Curve, order: int) -> Value:
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return at_mean(value)  # a decision, or a number of one
    x = value.root
    if value.affine is not None:
        slope, offset = (jnp.asarray(a, x.dtype) for a in value.affine)
        return Gaussian(
            jnp.asarray(slope * x.mean + offset, value.dtype),
            jnp.asarray(slope**2 * x.variance, value.dtype),
            x.axes,
            x.correlation,
            None if x.gain is None else jnp.asarray(slope * x.gain, value.dtype),
        )
    if order == 1:
        mean, slope = jax.jvp(value.function, (x.mean,), (jnp.ones_like(x.mean),))
        return Gaussian(mean, jnp.asarray(slope**2 * x.variance, mean.dtype))
    m, v, slopes = wide(x.mean), wide(x.variance), bool(x.axes)
    if value.closed is not None:
        found = whole(value.closed, m, v, slopes)
    elif value.open is not None and value.dtype == m.dtype:
        function, arrays = value.open
        found = in_blocks(partial(_of_open, function), m, v, slopes, *arrays)
    else:
        if value.positive is not None:
            rule = partial(_of_log_normal, value)
        else:
            rule = partial(curve_moments, _precise(value), kink=value.kink)
        closed = value.kink is None and is_closed(value.function, x.mean)
        closed = closed and value.positive is None
        found = (in_blocks if closed else whole)(rule, m, v, slopes)
    mean, variance, slope, bend = found
    out = Gaussian(jnp.asarray(mean, value.dtype), jnp.asarray(variance, value.dtype))
    return _correlated(x, out, slope, bend) if x.axes else out


def _of_open(function: Callable[..., Any], mean: Any, variance: Any, *arrays: Any) -> Any:
    return curve_moments(lambda x: function(x, *arrays), mean, variance)


def _of_log_normal(curve: Curve, mean: Any, variance: Any) -> tuple[Any, Any]:
    """The moments of a function of a variable that keeps its sign, from points of its logarithm."""
    assert curve.positive is not None
    slope, offset = (jnp.asarray(a, mean.dtype) for a in curve.positive)
    slope = jnp.where(slope == 0, 1, slope)
    center, function = slope * mean + offset, _precise(curve)
    sign = jnp.where(center < 0, -1, 1).astype(mean.dtype)
    width = jnp.log1p(slope**2 * variance / center**2)

    def of_logarithm(points: Any) -> Any:
        return function((sign * jnp.exp(points) - offset) / slope)

    kink = curve.kink
    if kink is not None:
        beyond = jnp.maximum(sign * (slope * kink + offset), jnp.finfo(mean.dtype).tiny)
        kink = jnp.broadcast_to(jnp.log(beyond), mean.shape)
    return curve_moments(of_logarithm, jnp.log(jnp.abs(center)) - width / 2, width, kink)


def _precise(curve: Curve) -> Callable[[Any], Any]:
    """The function, evaluated at numbers of at least float32 where its operations allow it."""
    dtype = curve.root.dtype
    if jnp.finfo(dtype).bits >= 32:
        return curve.function
    return lambda x: jnp.asarray(curve.function(jnp.asarray(x, dtype)), x.dtype)


def _correlated(x: Gaussian, out: Gaussian, slope: Any, bend: Any) -> Gaussian:
    """What the positions of a function of x share, when those of x do.

    By the expansion of a covariance in that of two Gaussians (Price's theorem),

        Cov(f(x_p), f(x_q)) = E[f'_p] E[f'_q] C_pq + E[f''_p] E[f''_q] C_pq^2 / 2 + ...,

    averaged over the pairs of positions, with the derivatives of E[f] by the mean (the slope) and,
    twice, by the variance (the bend) for those of f.
    """
    assert x.correlation is not None
    v, gain = wide(x.variance), None if x.gain is None else wide(x.gain)
    beside = v if gain is None else v - gain**2
    deviation, weight = root(beside), wide(x.correlation)
    shared = weight * over_even_pairs(slope * deviation, x.axes)
    shared = shared + 2 * weight**2 * over_even_pairs(bend * beside, x.axes)
    if gain is not None:
        shared = shared + over_pairs(slope * gain, x.axes)
        shared = shared + 2 * over_even_pairs(bend * gain**2, x.axes)
    return sharing(out.mean, out.variance, jnp.asarray(shared, out.dtype), x.axes)


def belief(value: Value, order: int) -> Belief:
    """The belief about a value; of variance 0 where it is known."""
    value = settle(value, order)
    if isinstance(value, Gaussian):
        return Belief(value.mean, value.variance)
    return Belief(value, jnp.zeros_like(value))
