"""Mean and variance of any element-wise function of a Gaussian variable, by quadrature.

Smooth functions use equally spaced points over the Gaussian, which converge geometrically in their
number as long as the Gaussian is not much wider than the function's bends. Functions with a kink
use Gauss-Legendre points on either side of it, so that the kink costs nothing; several kinks alike.

The derivatives with respect to the mean and the variance are computed beside the values, from the
same points, by the identities of Gaussian integrals (for Y = f(x), x = mean + s t, t ~ N(0, 1)). Of
a smooth function its values are enough:

    d E[Y] / d mean = Cov(Y, t) / s         d E[Y] / d variance = Cov(Y, t^2) / (2 s^2)

and the same of Y^2; of one with a kink its derivative is used:

    d E[Y] / d mean = E[f'(x)]              d E[Y] / d variance = E[f'(x) t] / (2 s)
    d Var[Y] / d mean = 2 Cov(Y, f'(x))     d Var[Y] / d variance = Cov(Y, f'(x) t) / s
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cgjax._gaussian.device import by_device
from cgjax._gaussian.numerics import MeanAndVariance, nonnegative
from cgjax._gaussian.points import Number, summed
from cgjax._gaussian.written import Written, written

Nodes = Float[Array, "*nodes"]
Curve = Callable[..., Nodes]
# The mean, the variance, the kinks, and the arrays that a function closes over.
Primals = tuple[Nodes, Nodes, tuple[Nodes, ...] | None, *tuple[Array, ...]]
Tangent = Array | SymbolicZero
Tangents = tuple[Tangent, Tangent, tuple[Tangent, ...] | None, *tuple[Tangent, ...]]
# Of the values and of their squares, for each power.
Sums = tuple[list[Array], list[Array]]
Pair = tuple[Nodes, Nodes]

# Sixteen points to 4.8 standard deviations, of unit variance. Means are within 1e-4 and variances
# within 1e-3 of the variance of x for tanh, logistic, softplus, gelu and silu of a Gaussian with
# standard deviation up to 1.5; within 7e-3 up to 4.
_POINTS = np.linspace(-4.8, 4.8, 16)
_WEIGHTS = np.exp(-(_POINTS**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()
_POINTS /= np.sqrt(_WEIGHTS @ _POINTS**2)
_POWERS = np.stack([_WEIGHTS, _WEIGHTS * _POINTS, _WEIGHTS * _POINTS**2])

# Twelve Gauss-Legendre points on either side of a kink, to 5 standard deviations: their weights sum
# to 1 within 1e-6 and have mean 0 and variance 1 within 2e-5. A kink further out than 3 is not
# resolved, as hardly anything lies beyond it.
_REACH, _FURTHEST_KINK = 5.0, 3.0
_ROOTS, _LEGENDRE = np.polynomial.legendre.leggauss(12)
_PLACES, _LEGENDRE = (_ROOTS + 1) / 2, _LEGENDRE / 2 / math.sqrt(2 * math.pi)

# Of fewer elements, the points are an axis of one array: much less to compile than one by one, and
# fast enough. Blocks of what is computed block by block seldom have fewer.
_FEW = 1 << 12

# A Gaussian narrower than this is integrated as one of this width, and what the variance adds is
# scaled to it: exact derivatives at variance 0, and differences keep their digits.
_SMALLEST_DEVIATION = 4e-3
_SMALLEST_AT_KINK = 1e-4


def curve_moments(
    curve: Curve,
    mean: Float[Array, "*nodes"],
    variance: Float[Array, "*nodes"],
    kinks: Sequence[Float[Array, "*nodes"]] | None = None,
) -> MeanAndVariance:
    """E[curve(x)] and Var[curve(x)] for x ~ N(mean, variance), element by element.

    Args:
        curve: an element-wise function; arrays that it closes over may be differentiated.
        mean: any floating-point array, of at least float32.
        variance: at least 0, of the mean's shape.
        kinks: where x has kinks or jumps, in ascending order; None for a smooth function.

    Returns:
        Arrays of the mean's shape.
    """
    program, arrays = written(curve, mean)
    kinks = None if kinks is None else tuple(map(lax.stop_gradient, kinks))
    return _integrated(program, mean, variance, kinks, *arrays)


@dataclass(frozen=True)
class Integral:
    """The same as a rule for `in_blocks`, of a function that is known but for its parameters.

    Attributes:
        curve: the function of the variable and the parameters.
        kinks: in ascending order; None for a smooth function.
    """

    curve: Written
    kinks: tuple[float, ...] | None = None

    def __call__(self, mean: Array, variance: Array, *parameters: Array) -> Pair:
        """The mean and the variance."""
        return _values(self.curve, mean, variance, self._places(mean), *parameters)

    def partials(self, mean: Array, variance: Array, *parameters: Array) -> tuple[Pair, Pair, Pair]:
        """The mean and the variance; their derivatives by the mean; by the variance."""
        return _partials(self.curve, mean, variance, self._places(mean), *parameters)

    def _places(self, mean: Array) -> tuple[Array, ...] | None:
        return None if self.kinks is None else tuple(jnp.full_like(mean, k) for k in self.kinks)


# Traced once for all functions that are written alike.
@partial(jax.jit, static_argnums=0, inline=True)
def _integrated(
    curve: Written,
    mean: Nodes,
    variance: Nodes,
    kinks: tuple[Nodes, ...] | None,
    *constants: Array,
) -> MeanAndVariance:
    return _with_derivatives(curve, mean, variance, kinks, *constants)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_derivatives(
    curve: Written,
    mean: Nodes,
    variance: Nodes,
    kinks: tuple[Nodes, ...] | None,
    *constants: Array,
) -> MeanAndVariance:
    return _values(curve, mean, variance, kinks, *constants)


@partial(_with_derivatives.defjvp, symbolic_zeros=True)
def _jvp(
    curve: Written, primals: Primals, tangents: Tangents
) -> tuple[MeanAndVariance, MeanAndVariance]:
    mean, variance, kinks, *constants = primals
    dmean, dvariance, _, *dconstants = tangents
    values, by_mean, by_variance = _partials(curve, mean, variance, kinks, *constants)
    totals = [jnp.zeros_like(v) for v in values]
    for tangent, slopes in ((dmean, by_mean), (dvariance, by_variance)):
        if not isinstance(tangent, SymbolicZero):
            totals = [t + slope * tangent for t, slope in zip(totals, slopes, strict=True)]
    if not all(isinstance(t, SymbolicZero) for t in dconstants):
        moving = [k for k, t in enumerate(dconstants) if not isinstance(t, SymbolicZero)]

        def of_constants(*moved: Array) -> MeanAndVariance:
            arrays = list(constants)
            for k, array in zip(moving, moved, strict=True):
                arrays[k] = array
            return _values(curve, mean, variance, kinks, *arrays)

        at, along = ([x[k] for k in moving] for x in (constants, dconstants))
        _, slopes = jax.jvp(of_constants, tuple(at), tuple(along))
        totals = [t + slope for t, slope in zip(totals, slopes, strict=True)]
    return values, (totals[0], totals[1])


def _values(
    curve: Curve,
    mean: Nodes,
    variance: Nodes,
    kinks: tuple[Nodes, ...] | None,
    *constants: Array,
) -> MeanAndVariance:
    there, mean, here = _finite(curve, mean, *constants)
    if kinks is None:
        deviation, share = _width(_SMALLEST_DEVIATION, mean, variance)
        (first,), (second,) = _smooth_sums(curve, 1, here, mean, deviation, *constants)
    else:
        deviation, share = _width(_SMALLEST_AT_KINK, mean, variance)
        first, second = _kinked_sums(curve, False, kinks, here, mean, deviation, *constants)
    spread = variance * nonnegative(second - first**2)
    return _moved(there, share * first), jnp.where(jnp.isinf(first), 0, spread)


def _partials(
    curve: Curve,
    mean: Nodes,
    variance: Nodes,
    kinks: tuple[Nodes, ...] | None,
    *constants: Array,
) -> tuple[MeanAndVariance, MeanAndVariance, MeanAndVariance]:
    """The values, and their derivatives by the mean and by the variance."""
    value, mean, here = _finite(curve, mean, *constants)
    if kinks is None:
        deviation, share = _width(_SMALLEST_DEVIATION, mean, variance)
        first, second = _smooth_sums(curve, 3, here, mean, deviation, *constants)
        change, spread = first[0], variance * nonnegative(second[0] - first[0] ** 2)
        tilt, cross_tilt = first[2] - first[0], second[2] - second[0]
        by_mean = first[1], share * (second[1] - 2 * first[0] * first[1])
        by_variance = tilt / (2 * deviation), (cross_tilt - 2 * first[0] * tilt) / 2
        return _certain(_moved(value, share * change), change, spread, by_mean, by_variance)
    deviation, share = _width(_SMALLEST_AT_KINK, mean, variance)
    first, second, slope, tilt, cross, cross_tilt = _kinked_sums(
        curve, True, kinks, here, mean, deviation, *constants
    )
    spread = variance * nonnegative(second - first**2)
    by_mean = slope, 2 * share * (cross - first * slope)
    by_variance = tilt / (2 * deviation), cross_tilt - first * tilt
    return _certain(_moved(value, share * first), first, spread, by_mean, by_variance)


def _moved(there: Nodes, by: Nodes) -> Nodes:
    """The value at the mean and what is added to it; infinity stays."""
    return jnp.where(jnp.isinf(there), there, there + by)


def _certain(
    mean: Nodes, change: Nodes, spread: Nodes, by_mean: Pair, by_variance: Pair
) -> tuple[MeanAndVariance, MeanAndVariance, MeanAndVariance]:
    """Values and derivatives, without variance and slopes where the function is infinite all over,
    as behind a mask that fills with -inf."""
    infinite = jnp.isinf(change)
    spread, *slopes = (jnp.where(infinite, 0, x) for x in (spread, *by_mean, *by_variance))
    return (mean, spread), (slopes[0], slopes[1]), (slopes[2], slopes[3])


def _finite(curve: Curve, mean: Nodes, *constants: Array) -> tuple[Array, Nodes, Array]:
    """The value at the mean; a mean with room around it, for which slopes are alike; its value, or
    0 if that is infinite: of changes from there nothing would be known."""
    furthest = jnp.finfo(mean.dtype).max / 64
    far = jnp.abs(mean) > furthest
    near = jnp.where(far, jnp.sign(mean) * furthest, mean)
    here = curve(near, *constants)
    value = jnp.where(far, curve(mean, *constants), here)
    return value, near, jnp.where(jnp.isinf(here), 0, here)


def _width(smallest: float, mean: Nodes, variance: Nodes) -> tuple[Nodes, Nodes]:
    """The deviation to integrate with, and the variance divided by it."""
    least = smallest * (1 + jnp.abs(mean) / 4)
    own = jnp.sqrt(jnp.maximum(variance, jnp.finfo(mean.dtype).tiny))
    deviation = jnp.where(own > least, own, least)
    return deviation, variance / deviation


def _smooth_sums(
    curve: Curve, powers: int, here: Array, mean: Nodes, deviation: Nodes, *constants: Array
) -> Sums:
    """Sum w t^k y and sum w t^k y^2 over the points, for k below `powers`.

    Here y is by how many deviations the function differs from `here`: squares of differences of
    large numbers may be too large themselves.
    """

    inverse = 1 / deviation

    def change_at(
        t: Float[Array, ""] | float, here: Array, mean: Nodes, step: Nodes, *others: Array
    ) -> Array:
        inverse, *constants = others
        return (curve(mean + step * t, *constants) - here) * inverse

    # Traced once for all pairs.
    @partial(jax.jit, inline=True)
    def add(sums: Sums, weights: Sequence[Number], up: Array, down: Array) -> Sums:
        even, odd = up + down, up - down
        squares, product = up * up + down * down, even * odd
        first = _added(sums[0], weights, (even, odd, even))
        return first, _added(sums[1], weights, (squares, product, squares))

    def in_pairs(changes: Sequence[Array]) -> Sums:
        # Two points at equal distances from the mean together.
        sums: Sums = [jnp.zeros_like(mean)] * powers, [jnp.zeros_like(mean)] * powers
        for k in range(len(_POINTS) // 2, len(_POINTS)):
            sums = add(sums, _POWERS[:powers, k].tolist(), changes[k], changes[-1 - k])
        return sums

    def of_each(*arrays: Array) -> Sums:
        change = jax.jit(change_at, inline=True)
        return in_pairs([change(t, *arrays) for t in _POINTS.tolist()])

    def of_rows(*arrays: Array) -> Sums:
        points = jnp.asarray(_POINTS, mean.dtype)
        return in_pairs(list(jax.vmap(lambda t: change_at(t, *arrays))(points)))

    operands = here, mean, deviation, inverse, *constants
    if mean.size < _FEW:
        changes = jax.vmap(lambda t: change_at(t, *operands))(jnp.asarray(_POINTS, mean.dtype))
        weights = jnp.asarray(_POWERS[:powers], mean.dtype)
        total = partial(jnp.tensordot, weights, axes=1, precision=lax.Precision.HIGHEST)
        return list(total(changes)), list(total(changes**2))
    if powers == 1:
        return of_each(*operands)
    # Where this is no single loop, a CPU's compiler would write each point's value to memory, for
    # more than two sums to read it again: so all are one array.
    first, second = by_device(*operands, cpu=of_rows, default=of_each)
    return first, second


def _added(sums: list[Array], weights: Sequence[Number], values: Sequence[Array]) -> list[Array]:
    return [s + w * x for s, w, x in zip(sums, weights, values, strict=False)]


def _sides(kinks: tuple[Nodes, ...], mean: Nodes, deviation: Nodes) -> list[tuple[Nodes, Nodes]]:
    """From where to where points are placed: beyond the outer kinks, and between neighbours."""
    cuts = [jnp.clip((k - mean) / deviation, -_FURTHEST_KINK, _FURTHEST_KINK) for k in kinks]
    cuts = [lax.stop_gradient(cut) for cut in cuts]
    ends = [jnp.full_like(mean, end) for end in (_REACH, -_REACH)]
    return [(cuts[-1], ends[0]), (cuts[0], ends[1]), *pairwise(cuts)]


def _kinked_sums(
    curve: Curve,
    with_slopes: bool,
    kinks: tuple[Nodes, ...],
    here: Array,
    mean: Nodes,
    deviation: Nodes,
    *constants: Array,
) -> list[Array]:
    """E[y] and E[y^2], and with slopes E[f'], E[f' t], E[f' y] and E[f' y t]; y as above."""
    one, inverse = jnp.ones_like(mean), 1 / deviation
    totals = [jnp.zeros_like(mean)] * (6 if with_slopes else 2)
    for start, end in _sides(kinks, mean, deviation):
        length = end - start

        def at(share: Number, start: Nodes = start, length: Nodes = length) -> tuple[Array, ...]:
            t = start + length * share
            density, x = jnp.abs(length) * jnp.exp(-(t**2) / 2), mean + deviation * t
            if not with_slopes:
                change = (curve(x, *constants) - here) * inverse
                return density * change, density * change**2
            there, slope = jax.jvp(lambda x: curve(x, *constants), (x,), (one,))
            change, slope = (there - here) * inverse, density * slope
            squares = density * change, density * change**2
            return *squares, slope, slope * t, slope * change, slope * change * t

        terms = summed(at, _LEGENDRE, _PLACES)
        totals = [total + term for total, term in zip(totals, terms, strict=True)]
    return totals
