"""Expectations of functions of a Gaussian variable that bend (or break) at 0 and nowhere else.

Gauss-Hermite points miss what happens at 0 once the Gaussian is much wider than the bend. Here the
Gaussian is cut at 0, and on either side Gauss-Legendre points are placed at distances u^2 from the
cut, which is dense near it: a bend is resolved whether it is wider or much narrower than the
Gaussian, and a kink at 0 costs nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cgjax._gaussian.blocks import by_blocks
from cgjax._gaussian.numerics import MeanAndVariance, nonnegative

_T = TypeVar("_T")  # an array, or a tuple of them

# Sixteen points a side: for all families here and any variance, means are within 2e-5 standard
# deviations of e and variances within 5e-5 of its variance. Sigmoids, whose values are bounded, are
# also within 1e-4 of their range, or 1e-3 if the Gaussian is more than ten times as wide as the
# bend.
_ROOTS, _LEGENDRE = np.polynomial.legendre.leggauss(16)
_ROOTS, _LEGENDRE = (_ROOTS + 1) / 2, _LEGENDRE / 2
# The Gaussian is integrated to 5.5 standard deviations, and a cut further out than 3 is moved
# there: what happens at 0 matters little then, and the points are better spent.
_REACH, _FURTHEST_CUT = 5.5, 3.0
# Rows of the end that a point lies towards, its share of the way from the cut, and its weight.
_POINTS = np.concatenate(
    [
        np.stack([np.full(16, end), _ROOTS**2, _ROOTS * _LEGENDRE], axis=1)
        for end in (_REACH, -_REACH)
    ]
)

# A Gaussian narrower than this share of the bend is integrated as one of this width, and the result
# scaled to its variance (to which it is proportional, within 4e-6): exact derivatives at variance
# 0, and no loss of digits.
_SMALLEST_DEVIATION = 2e-3

# Changes over a Gaussian as wide as its variance can say have squares that overflow. They are taken
# in this unit, in which those of a bounded function do not vanish.
_UNIT = 2.0**8


def differentiated_forward(function: Callable[..., _T], *arrays: Float[Array, "*nodes"]) -> _T:
    """function(*arrays), for an element-wise function of arrays of one shape and dtype, to such.

    It is evaluated block by block, and its derivatives beside its value, one sweep for each array:
    reverse mode would store every step of the loop over the quadrature points, which costs more.
    """
    _, closed_over = jax.closure_convert(function, *arrays)
    if closed_over:  # may be differentiated too, and need not have the shape of the arrays
        return function(*arrays)
    wrapped = jax.custom_jvp(partial(by_blocks, function))
    wrapped.defjvp(partial(_jvp, function), symbolic_zeros=True)
    return wrapped(*arrays)


def _jvp(
    function: Callable[..., _T],
    primals: tuple[Float[Array, "*nodes"], ...],
    tangents: tuple[Float[Array, "*nodes"] | SymbolicZero, ...],
) -> tuple[_T, _T]:
    moving = [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]

    def with_slopes(*primals: Float[Array, "*nodes"]) -> tuple[_T, list[_T]]:
        def of_moving(*some: Float[Array, "*nodes"]) -> _T:
            arrays = list(primals)
            for k, array in zip(moving, some, strict=True):
                arrays[k] = array
            return function(*arrays)

        # One loop over the points for the value and all derivatives.
        at, number = tuple(primals[k] for k in moving), len(moving)
        shape = (number,) + (1,) * primals[0].ndim
        unit = np.eye(number)
        rows = [jnp.asarray(row.reshape(shape), primals[0].dtype) for row in unit]
        along = [jnp.broadcast_to(row, (number, *primals[0].shape)) for row in rows]
        push = partial(jax.jvp, of_moving, at)
        values, slopes = jax.vmap(lambda *t: push(t), out_axes=(None, 0))(*along)
        return values, [jax.tree.map(lambda s, k=k: s[k], slopes) for k in range(number)]

    values, slopes = by_blocks(with_slopes, *primals)
    total = jax.tree.map(jnp.zeros_like, values)
    for k, slope in zip(moving, slopes, strict=True):
        total = jax.tree.map(lambda sum_, s, t=tangents[k]: sum_ + s * t, total, slope)
    return values, total


def moments_of_changes(
    changes: Callable[[Float[Array, "*nodes"]], Sequence[Float[Array, "*nodes"]]],
    mean: Float[Array, "*nodes"],
    variance: Float[Array, "*nodes"],
    bend: Float[Array, "*nodes"] | float = 1.0,
) -> list[MeanAndVariance]:
    """Mean and variance of functions of e ~ N(mean, variance), by quadrature.

    Args:
        changes: given a displacement d (an array of the mean's shape), how much each function
            differs at mean + d from its value at the mean.
        mean, variance: of e.
        bend: how far from the mean the functions are smooth, at most 1; a constant.

    Returns:
        For each function, the mean and the variance of its change.
    """
    # An infinite variance is the largest one here; what grows with it has its own limit.
    variance = jnp.minimum(variance, jnp.finfo(variance.dtype).max)
    used = jnp.maximum(variance, (_SMALLEST_DEVIATION * bend) ** 2)
    deviation, scaling = jnp.sqrt(used), variance / used
    is_large = deviation > float(jnp.finfo(mean.dtype).max) ** 0.25
    unit = jnp.where(is_large, jnp.full_like(mean, _UNIT), 1)
    # An integral does not change with the place where it is cut, so the cut is a constant, and
    # derivatives pass through the displacements alone.
    cut = lax.stop_gradient(jnp.clip(-mean / deviation, -_FURTHEST_CUT, _FURTHEST_CUT))
    zero = jnp.zeros_like(mean)
    number = len(jax.eval_shape(changes, zero))

    def in_units(displacement: Float[Array, "*nodes"]) -> list[Float[Array, "*nodes"]]:
        return [y / unit for y in changes(displacement)]

    def add_point(sums, point):
        end, distance, factor = point
        total, first, second, functions = sums
        x = cut + (end - cut) * distance
        weight = jnp.abs(end - cut) * factor * jnp.exp(-(x**2) / 2)
        total, first, second = total + weight, first + weight * x, second + weight * x**2
        functions = [
            (one + weight * y, cross + weight * x * y, square + weight * y**2)
            for (one, cross, square), y in zip(functions, in_units(x * deviation), strict=True)
        ]
        return (total, first, second, functions), None

    start = (zero, zero, zero, [(zero, zero, zero)] * number)
    points = jnp.asarray(_POINTS, mean.dtype)
    (total, first, second, functions), _ = lax.scan(add_point, start, points)

    results = []
    for one, cross, square in functions:
        # The part of the change that is linear in x has the known mean 0 and variance slope^2,
        # so only what is left of it is subject to the error of the quadrature.
        slope = cross / second
        shift = (one - slope * first) / total
        spread = slope**2 + (square - slope * cross) / total - shift**2
        results.append((scaling * shift * unit, scaling * nonnegative(spread) * unit * unit))
    return results


def logistic_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """E[sigmoid(e)], E[sigmoid(-e)] and Var[sigmoid(e)] for e ~ N(mean, variance)."""
    return differentiated_forward(_logistic_moments, mean, variance)


def _logistic_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    here, opposite = jax.nn.sigmoid(mean), jax.nn.sigmoid(-mean)

    def changes(displacement: Float[Array, "*nodes"]) -> list[Float[Array, "*nodes"]]:
        # sigmoid(a + d) - sigmoid(a) = sigmoid(a + d) sigmoid(-a) (1 - exp(-d)), and the mirror
        # image of it for d < 0: no cancellation, so small variances keep their accuracy.
        up = displacement > 0
        there = mean + displacement
        size = -jnp.expm1(-jnp.abs(displacement))
        size = size * jax.nn.sigmoid(jnp.where(up, there, -there))
        return [jnp.where(up, opposite, -here) * size]

    ((shift, spread),) = moments_of_changes(changes, mean, variance)
    return here + shift, opposite - shift, spread


def softplus_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> MeanAndVariance:
    """E[softplus(e)] and Var[softplus(e)] for e ~ N(mean, variance)."""
    return differentiated_forward(_softplus_moments, mean, variance)


def _softplus_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> MeanAndVariance:
    here, slope, bump_here = jax.nn.softplus(mean), jax.nn.sigmoid(mean), _softplus_bump(mean)

    def changes(displacement: Float[Array, "*nodes"]) -> list[Float[Array, "*nodes"]]:
        # For small d, softplus(a + d) - softplus(a) = log(1 + sigmoid(a) (exp(d) - 1)) keeps what
        # the difference of two rounded numbers loses.
        is_near = jnp.abs(displacement) < 1
        near = jnp.log1p(slope * jnp.expm1(jnp.where(is_near, displacement, 0)))
        bump = _softplus_bump(mean + displacement) - bump_here
        return [jnp.where(is_near, near, rectified_change(mean, displacement) + bump)]

    ((shift, spread),) = moments_of_changes(changes, mean, variance)
    infinite = variance == jnp.inf
    return jnp.where(infinite, jnp.inf, here + shift), jnp.where(infinite, jnp.inf, spread)


def _softplus_bump(x: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """softplus(x) - max(x, 0)."""
    return jnp.log1p(jnp.exp(jnp.where(x > 0, -x, x)))


def rectified_change(
    mean: Float[Array, "*nodes"], by: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    """max(mean + by, 0) - max(mean, 0), without rounding; the derivative of max(x, 0) at 0 is 0."""
    there = mean + by
    return jnp.where(mean > 0, jnp.where(by > -mean, by, -mean), jnp.where(there > 0, there, 0))
