"""Expectations of functions of a Gaussian variable that bend (or break) at 0 and nowhere else.

Gauss-Hermite points miss what happens at 0 once the Gaussian is much wider than the bend. Here the
Gaussian is cut at 0, and on either side Gauss-Legendre points are placed at distances u^2 from the
cut, which is dense near it: a bend is resolved whether it is wider or much narrower than the
Gaussian, and a kink at 0 costs nothing.

The derivatives with respect to the mean and the variance come from the same points, by the
identities of Gaussian integrals (for Y = f(x), x = mean + s t, t ~ N(0, 1)),

    d E[Y] / d mean = Cov(Y, t) / s         d E[Y] / d variance = Cov(Y, t^2) / (2 s^2)

and the same of Y^2, which hold for functions with kinks too.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cgjax._gaussian.blocks import by_blocks
from cgjax._gaussian.numerics import MeanAndVariance, nonnegative
from cgjax._gaussian.points import Number, summed
from cgjax._gaussian.written import of_numbers

Nodes = Float[Array, "*nodes"]
Tangents = tuple[Nodes | SymbolicZero, ...]
# From the mean and the parameters; from the mean, a displacement and the parameters.
Values = Callable[..., Sequence[Nodes]]

# Sixteen points a side: for all families here and any variance, means are within 2e-5 standard
# deviations of e and variances within 5e-5 of its variance. Sigmoids, whose values are bounded, are
# also within 1e-4 of their range, or 1e-3 if the Gaussian is more than ten times as wide as the
# bend.
_ROOTS, _LEGENDRE = np.polynomial.legendre.leggauss(16)
_ROOTS, _LEGENDRE = (_ROOTS + 1) / 2, _LEGENDRE / 2
# The Gaussian is integrated to 5.5 standard deviations, and a cut further out than 3 is moved
# there: what happens at 0 matters little then, and the points are better spent.
_REACH, _FURTHEST_CUT = 5.5, 3.0
# Of each point its share of the way from the cut, and its weight times powers of that share.
_SHARES = _ROOTS**2
# Powers are about a share where the Gaussian is, whether the cut is in its middle or at an end: how
# large ones that cancel are rounded depends on the compiler.
_CENTRE = 0.2
_POWERS = _ROOTS * _LEGENDRE * (_SHARES - _CENTRE) ** np.arange(5)[:, None]

# A Gaussian narrower than this share of the bend is integrated as one of this width, and the result
# scaled to its variance (to which it is proportional, within 4e-6): exact derivatives at variance
# 0, and no loss of digits.
_SMALLEST_DEVIATION = 2e-3
# Slopes by the variance are a difference, divided by it: with this one it keeps four digits.
_SMALLEST_FOR_SLOPES = 1e-2

# Changes over a Gaussian as wide as its variance can say have squares that overflow. They are taken
# in this unit, in which those of a bounded function do not vanish.
_UNIT = 2.0**8

# Where all Gaussians are narrow enough, points at equal distances in deviations do: 24 of them to
# 5.5, of unit variance. They converge geometrically with their number for functions that are
# smooth, and 1e-6 is reached while their distance is half of that of the nearest pole.
_POINTS = np.linspace(-_REACH, _REACH, 24)
_WEIGHTS = np.exp(-(_POINTS**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()
_POINTS /= np.sqrt(_WEIGHTS @ _POINTS**2)
_MOMENTS = _WEIGHTS * _POINTS ** np.arange(3)[:, None]
# There plain differences are taken, between points that are at least so far apart, and at means
# that are no further out.
_SMALLEST_DIFFERENCE, _FURTHEST = 4e-3, 1e4


class _Functions(NamedTuple):
    """What `moments_of_changes` integrates: see there."""

    base: Values
    changes: Values
    bend: Callable[..., Nodes | float]
    narrow: float


def moments_of_changes(
    base: Values,
    changes: Values,
    mean: Float[Array, "*nodes"],
    variance: Float[Array, "*nodes"],
    *parameters: Float[Array, "*nodes"],
    bend: Callable[..., Nodes | float] = lambda *arrays: 1.0,
    narrow: float = 0.0,
) -> list[MeanAndVariance]:
    """Mean and variance of functions of e ~ N(mean, variance), by quadrature.

    Args:
        base: given the mean and the parameters, the value of each function at the mean.
        changes: given the mean, a displacement d and the parameters, how much each function differs
            at mean + d from its value at the mean, without rounding.
        mean, variance: of e.
        parameters: arrays that the functions depend on, which may be differentiated too.
        bend: given the mean and the parameters, how far from the mean the functions are smooth, at
            most 1; it has no derivatives.
        narrow: of smooth functions, the deviation of e up to which points at equal distances serve.

    Returns:
        For each function, its mean and its variance.
    """
    arrays = mean, variance, *parameters
    dtypes = [mean.dtype, *(jnp.result_type(p) for p in parameters)]
    values = of_numbers(base, *dtypes)
    differences = of_numbers(changes, mean.dtype, *dtypes)
    width = of_numbers(bend, *dtypes)
    if values is None or differences is None or width is None:
        # Arrays that may be differentiated too.
        flat = _integrated(_Functions(base, changes, bend, narrow), False, *arrays)[0]
    else:
        flat = _differentiated(_Functions(values, differences, width, narrow), *arrays)
    return list(zip(flat[::2], flat[1::2], strict=True))


# Traced once for all functions that are written alike.
@partial(jax.jit, static_argnums=0, inline=True)
def _differentiated(functions: _Functions, *arrays: Array) -> tuple[Nodes, ...]:
    return _values(functions, *arrays)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _values(functions: _Functions, *arrays: Array) -> tuple[Nodes, ...]:
    return _by_blocks(functions, lambda method, *a: method(functions, False, *a)[0], *arrays)


def _by_blocks(
    functions: _Functions, function: Callable[..., tuple[Nodes, ...]], *arrays: Array
) -> tuple[Nodes, ...]:
    """function(how to integrate, *arrays), block by block on CPUs."""
    general = partial(function, _integrated)
    if functions.narrow == 0:
        return by_blocks(general, *arrays)

    def within(mean: Nodes, variance: Nodes, *others: Nodes) -> tuple[Nodes, ...]:
        narrow = jnp.all((variance <= functions.narrow**2) & (jnp.abs(mean) <= _FURTHEST))
        few = partial(function, _integrated_evenly)
        return lax.cond(narrow, few, general, mean, variance, *others)

    return by_blocks(general, *arrays, within=within)


@partial(_values.defjvp, symbolic_zeros=True)
def _jvp(
    functions: _Functions, primals: tuple[Array, ...], tangents: Tangents
) -> tuple[tuple[Nodes, ...], tuple[Nodes, ...]]:
    parts = _by_blocks(functions, lambda f, *a: sum(f(functions, True, *a), ()), *primals)
    number = len(parts) // 3
    values, *slopes = (parts[k : k + number] for k in range(0, len(parts), number))
    totals = [jnp.zeros_like(v) for v in values]
    for tangent, slope in zip(tangents[:2], slopes, strict=True):
        if not isinstance(tangent, SymbolicZero):
            totals = [t + s * tangent for t, s in zip(totals, slope, strict=True)]
    moved = {k: t for k, t in enumerate(tangents) if k > 1 and not isinstance(t, SymbolicZero)}
    if moved:

        def pushed(method: Callable[..., Any], *arrays: Array) -> tuple[Nodes, ...]:
            at, along = list(arrays[: len(primals)]), arrays[len(primals) :]

            def of_moving(*some: Array) -> tuple[Nodes, ...]:
                for k, array in zip(moved, some, strict=True):
                    at[k] = array
                return method(functions, False, *at)[0]

            return jax.jvp(of_moving, tuple(at[k] for k in moved), along)[1]

        added = _by_blocks(functions, pushed, *primals, *moved.values())
        totals = [t + a for t, a in zip(totals, added, strict=True)]
    return values, tuple(totals)


def _integrated(
    functions: _Functions, with_slopes: bool, mean: Nodes, variance: Nodes, *parameters: Array
) -> tuple[tuple[Nodes, ...], ...]:
    """Means and variances in turn; with slopes, also their derivatives by mean and variance."""
    # An infinite variance is the largest one here; what grows with it has its own limit.
    variance = jnp.minimum(variance, jnp.finfo(variance.dtype).max)
    bend = lax.stop_gradient(functions.bend(mean, *parameters))
    smallest = _SMALLEST_FOR_SLOPES if with_slopes else _SMALLEST_DEVIATION
    used = jnp.maximum(variance, (smallest * bend) ** 2)
    deviation, scaling = jnp.sqrt(used), variance / used
    is_large = deviation > float(jnp.finfo(mean.dtype).max) ** 0.25
    unit = jnp.where(is_large, jnp.full_like(mean, _UNIT), 1)
    here = functions.base(mean, *parameters)
    totals, ones, squares = _sums(functions, with_slopes, mean, deviation, unit, *parameters)
    total, first, second, *higher = totals
    values, by_mean, by_variance = [], [], []
    for value, one, square in zip(here, ones, squares, strict=True):
        # The part of the change that is linear in x has the known mean 0 and variance slope^2,
        # so only what is left of it is subject to the error of the quadrature.
        slope = one[1] / second
        shift = (one[0] - slope * first) / total
        spread = nonnegative(slope**2 + (square[0] - slope * one[1]) / total - shift**2)
        values += [value + scaling * shift * unit, scaling * spread * unit * unit]
        if with_slopes:
            tilt = ((one[2] - slope * higher[0]) - (one[0] - slope * first)) / total
            bent = (square[1] - slope**2 * higher[0]) / total - 2 * shift * slope
            grown = (square[2] - slope**2 * higher[1]) - (square[0] - slope**2 * second)
            grown = grown / total + 2 * slope**2 - 2 * shift * tilt
            scale = unit / deviation
            by_mean += [slope * scale, scaling * bent * scale * unit]
            by_variance += [tilt * scale / (2 * deviation), grown * scale * scale / 2]
    return tuple(values), tuple(by_mean), tuple(by_variance)


def _integrated_evenly(
    functions: _Functions, with_slopes: bool, mean: Nodes, variance: Nodes, *parameters: Array
) -> tuple[tuple[Nodes, ...], ...]:
    """The same, where all Gaussians are narrow."""
    least = _SMALLEST_DIFFERENCE * (1 + jnp.abs(mean) / 4)
    deviation = jnp.maximum(jnp.sqrt(jnp.maximum(variance, jnp.finfo(mean.dtype).tiny)), least)
    inverse, share = 1 / deviation, variance / deviation
    here = functions.base(mean, *parameters)

    def at(t: Number) -> tuple[Nodes, ...]:
        there = functions.base(mean + t * deviation, *parameters)
        steps = [(y - x) * inverse for y, x in zip(there, here, strict=True)]
        return *steps, *(y * y for y in steps)

    weights = _MOMENTS if with_slopes else _MOMENTS[:1]
    sums = summed(at, weights, _POINTS, in_rows=with_slopes)
    values, by_mean, by_variance = [], [], []
    for x, first, second in zip(here, sums[: len(here)], sums[len(here) :], strict=True):
        change = first[0]
        values += [x + share * change, variance * nonnegative(second[0] - change**2)]
        if with_slopes:
            tilt, crossed = first[2] - change, second[2] - second[0]
            by_mean += [first[1], share * (second[1] - 2 * change * first[1])]
            by_variance += [tilt * inverse / 2, (crossed - 2 * change * tilt) / 2]
    return tuple(values), tuple(by_mean), tuple(by_variance)


def _sums(
    functions: _Functions,
    with_slopes: bool,
    mean: Nodes,
    deviation: Nodes,
    unit: Nodes,
    *parameters: Array,
) -> tuple[list[Nodes], list[list[Nodes]], list[list[Nodes]]]:
    """Sums over the points of powers of x, times one, each change y in units, and y^2.

    A power of x is made of those of the share of the way from the cut: constant matrices give all;
    the few sums that values need are a loop over the points.
    """
    # An integral does not change with the place where it is cut: a constant.
    cut = lax.stop_gradient(jnp.clip(-mean / deviation, -_FURTHEST_CUT, _FURTHEST_CUT))
    number = len(functions.base(mean, *parameters))

    def at(length: Nodes, share: Number) -> tuple[Nodes, Nodes, list[Nodes]]:
        x = cut + length * share
        changes = functions.changes(mean, x * deviation, *parameters)
        return x, jnp.exp(-(x**2) / 2), [y / unit for y in changes]

    if not with_slopes:

        def terms(end: Number, share: Number) -> tuple[Nodes, ...]:
            x, weight, changes = at(end - cut, share)
            weight = weight * jnp.abs(end - cut)
            weighted = [weight * y for y in changes]
            squares = [w * y for w, y in zip(weighted, changes, strict=True)]
            return (
                weight,
                weight * x,
                weight * x**2,
                *weighted,
                *(w * x for w in weighted),
                *squares,
            )

        ends = np.repeat([_REACH, -_REACH], len(_SHARES))
        weights, shares = np.tile(_POWERS[0], 2), np.tile(_SHARES, 2)
        found = summed(terms, weights, ends, shares, in_rows=False)
        ones, crosses, squares = (found[3 + k * number : 3 + (k + 1) * number] for k in range(3))
        of_changes = [list(pair) for pair in zip(ones, crosses, strict=True)]
        return found[:3], of_changes, [[square] for square in squares]

    highest = 4, *(2,) * (2 * number)  # powers of x
    totals: list[list[Nodes]] = [[jnp.zeros_like(mean)] * (n + 1) for n in highest]
    for end in (_REACH, -_REACH):
        length = end - cut

        def rows(share: Number, length: Nodes = length) -> tuple[Nodes, ...]:
            _, weight, changes = at(length, share)
            weighted = [weight * y for y in changes]
            return weight, *weighted, *(w * y for w, y in zip(weighted, changes, strict=True))

        for k, row in enumerate(summed(rows, [_POWERS[: n + 1] for n in highest], _SHARES)):
            powers = _powers_of(cut + length * _CENTRE, length, row)
            totals[k] = [a + b for a, b in zip(totals[k], powers, strict=True)]
    return totals[0], totals[1 : 1 + number], totals[1 + number :]


def _powers_of(centre: Nodes, length: Nodes, sums: Array) -> list[Nodes]:
    """Sums with powers of x = centre + length * s, of those with powers of s."""
    size, found = jnp.abs(length), []
    for n in range(len(sums)):
        terms = [math.comb(n, k) * centre ** (n - k) * length**k * sums[k] for k in range(n + 1)]
        found.append(size * sum(terms[1:], terms[0]))
    return found
