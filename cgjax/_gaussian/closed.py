"""Closed forms: mean and variance of one operation on a Gaussian x ~ N(mean, variance).

All are written so that nothing cancels: no variance is negative, and all are exact at variance 0.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Num

from cgjax._gaussian.numerics import MeanAndVariance, nonnegative
from cgjax._gaussian.rectified import rectified_moments_of_belief
from cgjax._gaussian.tails import distribution

Rule = Callable[[Array, Array], MeanAndVariance]
Nodes = Float[Array, "*nodes"]
# One number, or an array that broadcasts against the nodes.
Number = Num[Array, "..."] | float

_FAR = 12.0  # deviations: nothing of a float32, and little of a float64, lies beyond


def rectified(mean: Nodes, variance: Nodes, leak: Number = 0.0) -> MeanAndVariance:
    """max(x, leak x), 0 <= leak <= 1."""
    leak = leak if isinstance(leak, float) else jnp.asarray(leak, mean.dtype)
    return rectified_moments_of_belief(mean, variance, leak)


def absolute(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """|x|: with M+ = E[max(x, 0)] and M- = E[max(-x, 0)], M+ + M- and v - 4 M+ M-."""
    up, _ = rectified(mean, variance)
    down, _ = rectified(-mean, variance)
    return up + down, nonnegative(variance - 4 * up * down)


def clipped(mean: Nodes, variance: Nodes, low: Number, high: Number) -> MeanAndVariance:
    """min(max(x, low), high), seen from the nearer end, where less cancels.

    With M(k) and V(k) the moments of max(x - k, 0): low + M(low) - M(high), and
    V(low) - V(high) - 2 M(high) (high - low - M(low) + M(high)).
    """
    width = high - low
    above = mean - low > high - mean
    distance = jnp.where(above, high - mean, mean - low)
    near, near_variance = rectified(distance, variance)
    far, far_variance = rectified(distance - width, variance)
    length = near - far
    spread = near_variance - far_variance - 2 * far * (width - length)
    return jnp.where(above, high - length, low + length), nonnegative(spread)


# Traced once for all lines with as many pieces.
@partial(jax.jit, inline=True)
def in_pieces(
    mean: Nodes,
    variance: Nodes,
    here: Nodes,
    cuts: Sequence[Number],
    lines: Sequence[tuple[Number, ...]],
) -> MeanAndVariance:
    """Straight lines that are broken at some places, with jumps or without.

    The moments of each piece are added, as differences from the value at the mean.

    Args:
        mean, variance: of x.
        here: the value at the mean.
        cuts: the places, in ascending order.
        lines: slope and offset below the first place, between two, and above the last.
    """
    # A Gaussian narrower than this is taken as one of this width, and the result scaled.
    smallest = 1e-4 * (1 + jnp.abs(mean) / 4)
    deviation = jnp.sqrt(jnp.maximum(variance, smallest**2))
    share = variance / deviation**2
    inner = [jnp.clip((c - mean) / deviation, -_FAR, _FAR) for c in cuts]
    places = [jnp.full_like(mean, -_FAR), *inner, jnp.full_like(mean, _FAR)]
    first = second = jnp.zeros_like(mean)
    for (low, high), (slope, offset) in zip(pairwise(places), lines, strict=True):
        inside = low < high
        weight = jnp.where(inside, ndtr(high) - ndtr(low), 0)
        by_low, by_high = (jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) for t in (low, high))
        linear = jnp.where(inside, by_low - by_high, 0)
        square = weight + jnp.where(inside, low * by_low - high * by_high, 0)
        change = jnp.where(inside, slope * mean + offset - here, 0)
        steepness = jnp.where(inside, slope * deviation, 0)
        first = first + change * weight + steepness * linear
        second = second + change**2 * weight + 2 * change * steepness * linear
        second = second + steepness**2 * square
    return here + share * first, share * nonnegative(second - first**2)


def squared(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """x^2."""
    return mean**2 + variance, (4 * mean**2 + 2 * variance) * variance


def exponential(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """exp(x), a log-normal variable."""
    centre = jnp.exp(mean + variance / 2)
    return centre, centre**2 * jnp.expm1(variance)


def logarithm(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """log x, of the log-normal variable that has x's moments."""
    spread = jnp.log1p(variance / mean**2)
    return jnp.log(mean) - spread / 2, spread


def power(mean: Nodes, variance: Nodes, exponent: Number) -> MeanAndVariance:
    """|x|^exponent with x's sign where x is negative, of the log-normal variable with x's moments.

    E = |mean|^p (1 + r)^(p (p - 1) / 2) and Var = E^2 ((1 + r)^(p^2) - 1), r = variance / mean^2.
    """
    spread = jnp.log1p(variance / mean**2)
    size = jnp.abs(mean) ** exponent * jnp.exp(exponent * (exponent - 1) / 2 * spread)
    return jnp.sign(mean) * size, size**2 * jnp.expm1(exponent**2 * spread)


def square_root(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """sqrt(x)."""
    return power(mean, variance, 0.5)


def reciprocal_square_root(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """1 / sqrt(x)."""
    return power(mean, variance, -0.5)


def reciprocal(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """1 / x, for x that is hardly ever near 0."""
    return power(mean, variance, -1.0)


def bent(
    mean: Nodes,
    variance: Nodes,
    at: Number,
    left: tuple[Number, Number],
    right: tuple[Number, Number],
) -> MeanAndVariance:
    """A straight line (slope, offset) below `at`, and another one above.

    With u = x - at, M+ and M- the means of max(u, 0) and max(-u, 0), P = P(u > 0), slopes l and r
    and a jump D at u = 0:

        Var = v (r^2 P + l^2 (1 - P)) - (r - l)^2 M+ M- + D^2 P (1 - P)
              + 2 D ((1 - P) r M+ + P l M-)
    """
    (low_slope, low), (slope, high) = left, right
    jump = (slope - low_slope) * at + high - low
    low = low_slope * at + low
    if _is(jump, 0.0) and isinstance(slope, float) and isinstance(low_slope, float):
        if 0 <= low_slope <= slope and slope > 0:
            centre, spread = rectified(mean - at, variance, low_slope / slope)
            return low + slope * centre, slope**2 * spread
    up, _ = rectified(mean - at, variance)
    down, _ = rectified(at - mean, variance)
    above = upper(mean - at, variance)
    centre = low + slope * up - low_slope * down
    spread = variance * (slope**2 * above + low_slope**2 * (1 - above))
    spread = spread - (slope - low_slope) ** 2 * up * down
    if not _is(jump, 0.0):
        centre = centre + jump * above
        cross = (1 - above) * slope * up + above * low_slope * down
        spread = spread + jump**2 * above * (1 - above) + 2 * jump * cross
    return centre, nonnegative(spread)


def _is(x: Number, number: float) -> bool:
    return isinstance(x, float) and x == number


def upper(mean: Nodes, variance: Nodes) -> Nodes:
    """P(x > 0)."""
    # Beyond 22 deviations it is 0 or 1 to float32, and its derivatives would not be finite.
    known = 484 * variance > mean**2
    ratio = mean / jnp.sqrt(jnp.where(known, variance, 1))
    return jnp.where(known, distribution(ratio), (jnp.sign(mean) + 1) / 2)


def sine(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """sin x: the variance is (1 - r) (1 + r cos 2m) / 2 with r = exp(-v)."""
    return _wave(jnp.sin(mean), jnp.cos(mean), variance)


def cosine(mean: Nodes, variance: Nodes) -> MeanAndVariance:
    """cos x: the variance is (1 - r) (1 - r cos 2m) / 2 with r = exp(-v)."""
    return _wave(jnp.cos(mean), jnp.sin(mean), variance)


def _wave(here: Nodes, across: Nodes, variance: Nodes) -> MeanAndVariance:
    lost = -jnp.expm1(-variance)  # 1 - r
    return jnp.exp(-variance / 2) * here, lost * (lost / 2 + (1 - lost) * across**2)
