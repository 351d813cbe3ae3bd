"""Values that inference holds a belief about, as they flow through a program.

A value is an array (known exactly), a `Gaussian`, or lazy, such as a `Curve`: an element-wise
function of one Gaussian, which is kept as a function until an operation mixes elements, so that
`x * sigmoid(x)` or `x - x` are functions of the one x that they are written in.
"""

import abc
import functools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, Float

from cgjax._beliefs.grids import Grid
from cgjax._beliefs.pairs import Exact, constant_root, over_pairs
from cgjax._gaussian.numerics import root
from cgjax.nodes import Belief

# The same, or one of the numbers that stand in a program.
Known = Exact | int | float | complex
# An array, or the shape or placeholder that a transformation puts where one was.
_Leaf = object


class Averages(NamedTuple):
    """What is known of pairs of positions of one Gaussian: averages, as `over_pairs`.

    Attributes:
        covariance: of the elements, as a constant; in range only once it is a correlation.
        gain: of the gain; None without one.
        same: the mean and the variance, of size 1 along the positions, if these are all one number.
    """

    covariance: Float[Array, "..."]
    gain: Float[Array, "..."] | None = None
    same: tuple[Float[Array, "..."], Float[Array, "..."]] | None = None


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
        grid: how the positions lie; None where their axes are those of a grid.
        averages: of it over pairs of positions, where they have been computed.
    """

    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]
    axes: tuple[int, ...] = ()
    correlation: Float[Array, "..."] | None = None
    gain: Float[Array, "*shape"] | None = None
    grid: Grid | None = field(default=None, kw_only=True)
    averages: Averages | None = field(default=None, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.mean.dtype

    def alone(self) -> "Gaussian":
        """The same with all elements independent."""
        return Gaussian(self.mean, self.variance)

    def stored(self) -> "Gaussian":
        """The same for a factor of a product; see `stored`."""
        return replace(self, variance=stored(self.variance)).averaged(self.averages)

    def averaged(self, averages: Averages | None) -> "Gaussian":
        """The same, of which these averages are known; they are lost with a new variance."""
        out = replace(self)
        object.__setattr__(out, "averages", averages)
        return out

    def without_gain(self) -> "Gaussian":
        """The same without a gain, which the correlations then stand for too."""
        if self.gain is None:
            return self
        shared = self.constant_covariance()
        return sharing(self.mean, self.variance, shared, self.axes).on(self.grid)

    def on(self, grid: Grid | None) -> "Gaussian":
        """The same, whose positions lie so."""
        if grid == self.grid or not self.axes:
            return self
        return replace(self, grid=grid).averaged(self.averages)

    def covariance(self) -> Float[Array, "..."]:
        """The covariances of positions, as `over_pairs`; 0 without axes."""
        if self.correlation is None:
            return jnp.zeros((), self.dtype)
        rest = self.variance if self.gain is None else self.variance - self.gain**2
        covariance = self.correlation * over_pairs(root(rest), self.axes)
        return covariance if self.gain is None else covariance + over_pairs(self.gain, self.axes)

    def constant_covariance(self) -> Float[Array, "..."]:
        """The same as a constant, and as it was computed: for other such averages."""
        return self.covariance() if self.averages is None else self.averages.covariance

    def tree_flatten(self) -> tuple[tuple[_Leaf, ...], Hashable]:
        """For JAX."""
        return (self.mean, self.variance, self.correlation, self.gain), (self.axes, self.grid)

    @classmethod
    def tree_unflatten(cls, static: Any, leaves: Sequence[Any]) -> "Gaussian":
        """For JAX."""
        # Not through __init__: transformations put shapes and placeholders where arrays were.
        x = object.__new__(cls)
        for name, leaf in zip(("mean", "variance", "correlation", "gain"), leaves, strict=True):
            object.__setattr__(x, name, leaf)
        for name, value in zip(("axes", "grid"), static, strict=True):
            object.__setattr__(x, name, value)
        return x


class Origin:
    """Which uncertain array something is, wherever it was moved to; equal for the same elements.

    Attributes:
        value: the array or the Gaussian.
        moves: how its elements were moved; equal for the same moves.
    """

    def __init__(self, value: "Value", moves: tuple[Hashable, ...] = ()):
        self.value, self.moves = value, moves

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Origin):
            return NotImplemented
        return self.value is other.value and self.moves == other.moves

    def __hash__(self) -> int:
        return hash((id(self.value), self.moves))


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Moved(Gaussian):
    """A Gaussian whose elements are those of another, in other places.

    Attributes:
        origin: the other, and the moves.
    """

    origin: Origin | None = None

    @classmethod
    def tree_unflatten(cls, static: Any, leaves: Sequence[Any]) -> Gaussian:
        """For JAX: where its elements come from does not enter loops."""
        return Gaussian.tree_unflatten(static, leaves)


def moved_from(x: Gaussian, before: "Value", *moves: Hashable) -> Gaussian:
    """A Gaussian that knows which one it was moved from; without shared positions alone."""
    if x.axes:
        return x
    origin = origin_of(before)
    return Moved(x.mean, x.variance, origin=Origin(origin.value, (*origin.moves, *moves)))


def origin_of(value: "Value") -> Origin:
    """Which uncertain array a value is."""
    if isinstance(value, Moved) and value.origin is not None:
        return value.origin
    return Origin(value)


def sharing(
    mean: Float[Array, "*shape"],
    variance: Float[Array, "*shape"],
    shared: Float[Array, "..."],
    axes: Sequence[int],
    gain: Float[Array, "*shape"] | None = None,
    of_gain: Float[Array, "..."] | None = None,
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
        of_gain: `over_pairs` of it, where it has been computed.
    """
    # Averages of half precision may be kept in float32.
    rest = shared = lax.convert_element_type(lax.stop_gradient(shared), variance.dtype)
    beside = lax.stop_gradient(variance)
    if gain is not None:
        gain = lax.stop_gradient(gain)
        of_gain = over_pairs(gain, axes) if of_gain is None else of_gain
        beside, rest = beside - gain * gain, shared - of_gain
    product = over_pairs(constant_root(beside), axes)
    known = product > 0
    divisor = jnp.where(known, product, 1)
    number = math.prod(variance.shape[axis] for axis in axes)
    # So that the variance of the sum of all is not negative.
    opposed = beside.mean(axes, keepdims=True) / divisor[0]
    least = jnp.stack([opposed * (-1 / max(number - 1, 1)), jnp.full_like(opposed, -1)])
    correlation = lax.clamp(least, rest / divisor, jnp.ones_like(product))
    out = Gaussian(mean, variance, tuple(axes), jnp.where(known, correlation, 0), gain)
    return out.averaged(Averages(shared, of_gain))


class Lazy(abc.ABC):
    """A random value that is kept as a function until its moments are needed."""

    @abc.abstractmethod
    def settled(self, order: int) -> "Value":
        """The moments: matched, or to first order."""

    def at_mean(self) -> Known:
        """The value at the means."""
        return mean_of(self.settled(1))


def kept(settled: Callable[[Any, int], "Value"]) -> Callable[[Any, int], "Value"]:
    """A method of a lazy value, for its moments, that computes them once in each trace.

    What it returns is another object each time, as uses of a function are not one variable.
    """

    @functools.wraps(settled)
    def call(value: Any, order: int) -> "Value":
        now = get_opaque_trace_state()  # what was computed in an inner trace must not leave it
        known = value.__dict__.get("_kept", {})
        then, found = known.get(order, (None, None))
        if then != now:
            found = settled(value, order)
            if not isinstance(found, Gaussian):
                return found
            object.__setattr__(value, "_kept", known | {order: (now, found)})
        return found.averaged(found.averages)

    return call


def stored(array: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
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
Value: TypeAlias = Any  # a `Known`, or a `Random`


def is_random(value: Value) -> bool:
    """Whether a value is not known exactly."""
    return isinstance(value, Gaussian | Lazy)


def at_mean(value: Value) -> Known:
    """The value at its root's mean: for decisions and indices."""
    return value.at_mean() if isinstance(value, Lazy) else mean_of(value)


def mean_of(value: Value) -> Known:
    """An array as it is, and the mean of a Gaussian."""
    return value.mean if isinstance(value, Gaussian) else value


def settle(value: Value, order: int) -> Value:
    """An array or a Gaussian: the moments of a lazy value, matched exactly or to first order."""
    return value.settled(order) if isinstance(value, Lazy) else value


def belief(value: Value, order: int) -> Belief:
    """The belief about a value; of variance 0 where it is known."""
    value = settle(value, order)
    if isinstance(value, Gaussian):
        return Belief(value.mean, value.variance)
    return Belief(value, jnp.zeros_like(value))
