"""Mean and variance of the larger of two Gaussians (C. Clark, 1961), with exact derivatives.

With d = E[x - y], s^2 = Var[x - y], t = d / s, and M+ and M- the means of max(x - y, 0) and
max(y - x, 0), where nothing cancels:

    mean        = E[y] + M+
    variance    = Phi(t) Var[x] + Phi(-t) Var[y] - M+ M-
    probability = Phi(t), that x is the larger one

The three have the same few functions of t in them, so they and all derivatives are computed at
once, block by block.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.blocks import by_blocks
from cgjax._gaussian.numerics import nonnegative, root
from cgjax._gaussian.rectified import SMALLEST_DEVIATION, standard_ratio
from cgjax._gaussian.tails import tails

Values = Float[Array, "*shape"]


class Larger(NamedTuple):
    """Of the larger of two Gaussians.

    Attributes:
        mean: its mean.
        variance: its variance.
        probability: that it is the first.
    """

    mean: Values
    variance: Values
    probability: Values


class _Partials(NamedTuple):
    """By the difference of the means, and by the variance of the difference."""

    mean_square: Values
    variance_difference: Values
    variance_square: Values
    probability_square: Values


@partial(jax.jit, inline=True)
def larger_moments(
    mean: Values,
    variance: Values,
    other_mean: Values,
    other_variance: Values,
    covariance: Values,
) -> Larger:
    """The moments of max(x, y).

    Args:
        mean: of x, in float32 or float64.
        variance: of x, at least 0.
        other_mean: of y.
        other_variance: of y.
        covariance: of x and y.
    """
    return _larger_moments(mean, variance, other_mean, other_variance, covariance)


@jax.custom_jvp
def _larger_moments(*arrays: Values) -> Larger:
    return by_blocks(lambda *x: _with_partials(*x)[0], *arrays)


@_larger_moments.defjvp
def _larger_moments_jvp(
    primals: tuple[Values, ...], tangents: tuple[Values, ...]
) -> tuple[Larger, Larger]:
    out, p = by_blocks(_with_partials, *primals)
    dmean, dvariance, dother_mean, dother_variance, dcovariance = tangents
    probability, rest = out.probability, 1 - out.probability
    d = dmean - dother_mean
    square = dvariance + dother_variance - 2 * dcovariance
    weighted = probability * dvariance + rest * dother_variance
    return out, Larger(
        probability * dmean + rest * dother_mean + p.mean_square * square,
        weighted + p.variance_difference * d + p.variance_square * square,
        2 * p.mean_square * d + p.probability_square * square,
    )


def _with_partials(
    mean: Values, variance: Values, other_mean: Values, other_variance: Values, covariance: Values
) -> tuple[Larger, _Partials]:
    d = mean - other_mean
    s = root(variance + other_variance - 2 * covariance)
    density, tail, far, _ = tails(standard_ratio(d, s))
    above = d > 0
    up, down = jnp.where(above, d, 0) + s * far, jnp.where(above, 0, -d) + s * far
    # At d = 0, where s = 0 too, either is the larger one as often.
    probability = jnp.where(above, 1 - tail, tail)
    rest = jnp.where(above, tail, 1 - tail)
    weighted = probability * variance + rest * other_variance
    out = Larger(other_mean + up, nonnegative(weighted - up * down), probability)
    # phi(t) / (2 s): of the mean by s^2, and half of the probability's by d.
    inverse = 1 / jnp.maximum(s, SMALLEST_DEVIATION)
    half = density * inverse / 2
    by_square = -(d * inverse) * half * inverse
    between = variance - other_variance
    return out, _Partials(
        half,
        2 * half * between + rest * up - probability * down,
        by_square * between - half * (up + down),
        by_square,
    )
