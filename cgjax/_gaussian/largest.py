"""Mean and variance of the largest of several Gaussians, which one factor may correlate.

The larger M of two Gaussians is none, and the less so the more their variances differ. So what is
merged next takes M by its first three cumulants, whose third one counts to first order (a
Gram-Charlier series): for a function h of two variables x and y with third cumulants k,

    E[h(x, y)] = E_Gauss[h] + (k_xxx E[h_xxx] + 3 k_xxy E[h_xxy] + 3 k_xyy E[h_xyy]
                               + k_yyy E[h_yyy]) / 6,

where h = max(x, y)^n, n = 1, 2, 3, and all expectations have closed forms: with d = x - y, s^2 =
Var[d], t = E[d] / s and g = phi(t) / s, the density of d at 0, they are those of C. Clark (1961)
and multiples of g.

What correlates the variables is one factor z, on which each depends in a straight line: a shift of
z by u shifts the mean of M by (loading u + bend u^2 / 2) and its variance by (spread u), whose
derivatives say how M goes together with the next.

Derivatives are those of the larger of two Gaussians that have the moments of the two merged; what
third cumulants add is a constant in the mean, and a constant share of the variance.

The variance is within 5 % of that of 100,000 samples for 4 and 9 variables of random means and
variances, independent or with a correlation of 0.4 (`tests/_gaussian/test_largest.py`); that of
pairs alone, smallest variance first, was up to 18 % too small.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.blocks import by_blocks
from cgjax._gaussian.larger import larger_moments
from cgjax._gaussian.numerics import nonnegative, root
from cgjax._gaussian.rectified import standard_ratio
from cgjax._gaussian.tails import tails

Values = Float[Array, "*shape"]


class Largest(NamedTuple):
    """Of the largest of several Gaussians.

    Attributes:
        mean: its mean.
        variance: its variance.
        deviation: the deviations of all, weighted by the probability of being the largest.
    """

    mean: Values
    variance: Values
    deviation: Values


class _Factor(NamedTuple):
    """How a variable goes with the common factor."""

    loading: Values  # derivative of the mean by the factor
    bend: Values  # its second derivative
    spread: Values  # derivative of the variance


class _Variable(NamedTuple):
    """A variable by its cumulants."""

    mean: Values
    variance: Values
    third: Values
    factor: _Factor | None = None


class _Slopes(NamedTuple):
    """Derivatives of the mean and the variance of the larger of two."""

    first: Values  # of the mean by that of the first: the probability that it is the larger
    square: Values  # of the mean by the variance of the difference
    variance_first: Values  # of the variance by those of the two
    variance_second: Values
    variance_difference: Values  # by the difference of the means
    variance_square: Values  # by the variance of the difference


# Where the variance of a difference is less than this share of the sum of the variances, the two
# are one variable but for rounding, and third cumulants do not count.
_ALIKE = 1e-3
# Up to so many are merged one after the other; more, in pairs of neighbours in order: fewer steps.
_MOST_IN_TURN = 16


def largest_along(
    mean: Float[Array, "number *shape"],
    variance: Float[Array, "number *shape"],
    correlation: Float[Array, "*shape"] | None = None,
) -> Largest:
    """The moments of the largest of several Gaussians.

    Derivatives take the correlation and the weighted deviation as constants.

    Args:
        mean: the means along the first axis, in float32 or float64.
        variance: the variances, at least 0.
        correlation: of any two, from 0 to 1, of the shape without the first axis; None if they are
            independent.

    Example:
        >>> mean, variance, _ = largest_along(jnp.zeros(3), jnp.ones(3))
        >>> print(mean.round(3), variance.round(2))  # 1.5 / sqrt(pi) = 0.846, and 0.56
        0.846 0.56
    """
    number = len(mean)
    if number == 1:
        return Largest(mean[0], variance[0], root(variance[0]))
    if number == 2:
        return _of_two(mean, variance, correlation)
    if number > _MOST_IN_TURN:
        order = jnp.argsort(lax.stop_gradient(variance), 0)
        mean, variance = (jnp.take_along_axis(a, order, 0) for a in (mean, variance))
    else:
        mean, variance = _sorted(mean, variance)
    best: _Variable = _gaussian(mean[0], variance[0], correlation)
    others: _Variable | Belief = Belief(mean[1:], variance[1:])
    if number > _MOST_IN_TURN:
        rest = _gaussian(mean, variance, correlation)
        while len(rest.mean) > _MOST_IN_TURN:
            rest = _by_pairs(rest, correlation)
        best, others = (jax.tree.map(lambda a, at=at: a[at], rest) for at in (0, slice(1, None)))

    def step(best: _Variable, one: _Variable | Belief) -> tuple[_Variable, None]:
        return _merged(best, one, correlation), None

    best, _ = lax.scan(step, best, others)
    deviation = jnp.zeros_like(best.mean) if best.factor is None else best.factor.loading
    return Largest(best.mean, best.variance, lax.stop_gradient(deviation))


def _of_two(
    mean: Float[Array, "2 *shape"],
    variance: Float[Array, "2 *shape"],
    correlation: Float[Array, "*shape"] | None,
) -> Largest:
    """Their moments are exact."""
    first, second = root(variance)
    covariance = jnp.zeros_like(first) if correlation is None else correlation * first * second
    found = larger_moments(mean[0], variance[0], mean[1], variance[1], covariance)
    p = found.probability
    return Largest(found.mean, found.variance, lax.stop_gradient(p * first + (1 - p) * second))


def _sorted(mean: Values, variance: Values) -> tuple[Values, Values]:
    """The variables with rising variance along the first axis, by Batcher's sorting network."""
    means, variances = list(mean), list(variance)
    for i, j in _network(len(means)):
        swap = variances[i] > variances[j]
        for a in (means, variances):
            a[i], a[j] = jnp.where(swap, a[j], a[i]), jnp.where(swap, a[i], a[j])
    return jnp.stack(means), jnp.stack(variances)


def _network(number: int) -> list[tuple[int, int]]:
    """Batcher's odd-even merge sort as pairs to compare (Knuth, volume 3, algorithm 5.2.2M)."""
    pairs, step = [], 1
    while step < number:
        k = step
        while k >= 1:
            for start in range(k % step, number - k, 2 * k):
                for i in range(start, min(start + k, number - k)):
                    if i // (2 * step) == (i + k) // (2 * step):
                        pairs.append((i, i + k))
            k //= 2
        step *= 2
    return pairs


def _gaussian(mean: Values, variance: Values, correlation: Array | None) -> _Variable:
    zero = jnp.zeros_like(mean)
    if correlation is None:
        return _Variable(mean, variance, zero)
    return _Variable(mean, variance, zero, _Factor(root(variance), zero, zero))


def _by_pairs(x: _Variable, correlation: Array | None) -> _Variable:
    """The larger of each two neighbours along the first axis, and the last of an odd number."""
    even = len(x.mean) // 2 * 2
    first, second, last = (
        jax.tree.map(lambda a, s=s: a[s], x)
        for s in (slice(0, even, 2), slice(1, even, 2), slice(even, None))
    )
    if correlation is not None:
        correlation = jnp.broadcast_to(correlation, first.mean.shape)
    won = _merged(first, second, correlation)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), won, last)


@partial(jax.jit, inline=True)
def _merged(x: _Variable, y: _Variable | Belief, correlation: Values | None) -> _Variable:
    """The larger of two."""
    return _larger(x, y, correlation)


@jax.custom_jvp
def _larger(x: _Variable, y: _Variable | Belief, correlation: Values | None) -> _Variable:
    return _in_blocks(lambda *given: _with_slopes(*given)[0], x, y, correlation)


@_larger.defjvp
def _merged_jvp(primals: tuple[Any, Any, Any], tangents: tuple[Any, Any, Any]) -> tuple[Any, Any]:
    out, slopes = _in_blocks(_with_slopes, *primals)
    dx, dy, _ = tangents
    d, square = dx.mean - dy.mean, dx.variance + dy.variance
    mean = slopes.first * dx.mean + (1 - slopes.first) * dy.mean + slopes.square * square
    variance = slopes.variance_first * dx.variance + slopes.variance_second * dy.variance
    variance = variance + slopes.variance_difference * d + slopes.variance_square * square
    constant = jax.tree.map(jnp.zeros_like, out)
    return out, constant._replace(mean=mean, variance=variance)


def _in_blocks(function: Callable[..., Any], *given: Any) -> Any:
    arrays, tree = jax.tree.flatten(given)
    return by_blocks(lambda *arrays: function(*jax.tree.unflatten(tree, arrays)), *arrays)


def _with_slopes(
    x: _Variable, y: _Variable | Belief, correlation: Values | None
) -> tuple[_Variable, _Slopes]:
    if isinstance(y, Belief):
        y = _gaussian(*y, correlation)
    covariance = jnp.zeros_like(x.mean)
    if x.factor and y.factor and correlation is not None:
        covariance = correlation * x.factor.loading * y.factor.loading
    both = x.variance + y.variance
    square = both - 2 * covariance
    d, s = x.mean - y.mean, root(square)
    size = standard_ratio(d, s)
    density, tail, far, _ = tails(size)
    above = d > 0
    up, down = jnp.where(above, d, 0) + s * far, jnp.where(above, 0, -d) + s * far
    p, q = jnp.where(above, 1 - tail, tail), jnp.where(above, tail, 1 - tail)
    variance = p * x.variance + q * y.variance - up * down

    apart = square > _ALIKE * both
    s = jnp.where(apart, s, 1)
    t = jnp.where(above, size, -size)
    g = jnp.where(apart, density / s, 0)  # the density of d at 0
    slope = g * t / s  # minus its derivative

    # The third cumulants of the two together.
    of_difference, beside = x.third - y.third, (4 * x.third + 2 * y.third) / 6
    if x.factor and y.factor and correlation is not None:
        xxy, xyy = (
            correlation * (one.spread * other.loading + correlation * one.loading**2 * other.bend)
            for one, other in ((x.factor, y.factor), (y.factor, x.factor))
        )
        of_difference, beside = of_difference - 3 * xxy + 3 * xyy, beside - xxy
    of_difference, beside = _bounded(of_difference, s), _bounded(beside, s)

    # Both less the mean of the larger, given z = (d - E[d]) / s: a line and a rest.
    a, b = -down, -up
    by_x, by_y = (x.variance - covariance) / s, (covariance - y.variance) / s
    rest_x, rest_y = x.variance - by_x**2, y.variance - by_y**2
    at_tie, along = a - by_x * t, by_x / s
    second, third = t * density, (t**2 + 2) * density
    cubes = _cube(a, by_x, rest_x, (p, density, p - second, third))
    cubes = cubes + _cube(b, by_y, rest_y, (q, -density, q + second, -third))
    # What third cumulants add to the first three moments.
    first = -of_difference / 6 * slope
    squares = variance + g * beside - of_difference / 3 * (along * g + at_tie * slope)
    bent = 2 * at_tie * along * g + (at_tie**2 + rest_x) * slope
    cubes = cubes + p * x.third + q * y.third + 3 * at_tie * g * beside - of_difference / 2 * bent
    cubes = cubes - 3 * first * squares + 2 * first**3
    third = jnp.where(apart, cubes, p * x.third + q * y.third)
    out = _Variable(y.mean + up + first, nonnegative(squares - first**2), third)

    # Derivatives: those of C. Clark's formula; the variance as a constant multiple of that.
    more = out.variance / jnp.where(variance > 0, variance, 1)
    between = x.variance - y.variance
    by_square = -slope / 2  # of p, by s^2
    by_difference = g * between + q * up - p * down
    by_squares = by_square * between - g / 2 * (up + down)
    slopes = _Slopes(p, g / 2, more * p, more * q, more * by_difference, more * by_squares)
    if not (x.factor and y.factor) or correlation is None:
        return out, slopes
    bends = of_difference / 6 * g * (1 - t**2) / s**2
    by = by_square, by_difference, by_squares
    return out._replace(factor=_led(x.factor, y.factor, correlation, p, g, by, bends)), slopes


def _cube(
    offset: Values, slope: Values, rest: Values, of_z: tuple[Values, Values, Values, Values]
) -> Values:
    """E[(offset + slope z + e)^3] where one variable is the larger.

    Args:
        offset, slope: the line.
        rest: the variance of e, which is independent of z.
        of_z: E[z^k] there, for k = 0 to 3.
    """
    none, one, two, three = of_z
    cubes = offset**3 * none + 3 * offset**2 * slope * one + 3 * offset * slope**2 * two
    return cubes + slope**3 * three + 3 * rest * (offset * none + slope * one)


def _led(
    x: _Factor,
    y: _Factor,
    correlation: Values,
    p: Values,
    g: Values,
    by: tuple[Values, Values, Values],
    bends: Values,
) -> _Factor:
    """How the factor goes with the larger of two.

    Args:
        x, y: how it goes with the two.
        correlation: the variance of the factor.
        p: the probability that x is the larger.
        g: the density of d at 0.
        by: derivatives of p by s^2, and of the variance by the mean of d and by s^2.
        bends: minus the derivative of what third cumulants add to the mean, by the mean of d.
    """
    by_square, by_difference, by_squares = by
    # How the factor changes the mean of d and, w, its variance.
    u = x.loading - y.loading
    w = x.spread + y.spread - 2 * correlation * (x.bend * y.loading + x.loading * y.bend)
    mixed = [p * a + (1 - p) * b for a, b in zip(x, y, strict=True)]
    return _Factor(
        mixed[0] + g / 2 * w - bends * u,
        mixed[1] + g * u**2 + 2 * by_square * u * w,
        mixed[2] + by_difference * u + by_squares * w,
    )


def _bounded(cumulant: Values, deviation: Values) -> Values:
    """A third cumulant of no more than the cube of a deviation: beyond, the series says nothing."""
    most = deviation**3
    return jnp.clip(cumulant, -most, most)
