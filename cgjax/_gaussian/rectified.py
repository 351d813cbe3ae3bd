"""Mean and variance of a leaky rectified Gaussian, max(leak Y, Y) with Y ~ N(e, s^2).

With z = e/s, A(z) = z Phi(z) + phi(z), M+ = s A(z) = E[max(Y, 0)] and M- = s A(-z):

    mean     = M+ - leak M-
    variance = s^2 (Phi(z) + leak^2 Phi(-z)) - (1 - leak)^2 M+ M-

Written so nothing cancels: the variance is accurate to a few units of rounding of s^2 (in float32,
and also of itself) and never negative, where E[X^2] - E[X]^2 loses all digits.
The derivatives are the exact closed forms, finite also at s = 0.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cgjax._gaussian.numerics import MeanAndVariance, root, share
from cgjax._gaussian.tails import LARGEST_RATIO, tails

# Below this standard deviation the derivative of the mean with respect to the *variance*,
# phi(z) / (2 s), which has no bound at the kink, is computed with this deviation.
SMALLEST_DEVIATION = 1e-6

Nodes = Float[Array, "*nodes"]
# One number, or an array that broadcasts against the nodes.
Leak = Float[Array, "..."] | float
Tangent = Float[Array, "..."] | SymbolicZero


class _Partials(NamedTuple):
    """Values, and derivatives with respect to e, s (mean), s^2 (variance) and the leak; the tail is
    E[max(Y, 0)] - max(e, 0)."""

    tail: Nodes
    mean: Nodes
    mean_e: Nodes
    mean_scale: Nodes
    mean_leak: Nodes
    variance: Nodes
    variance_e: Nodes
    variance_square: Nodes
    variance_leak: Nodes


@partial(jax.jit, inline=True)
def rectified_moments(e: Nodes, scale: Nodes, leak: Float[Array, "..."]) -> MeanAndVariance:
    """Mean and variance of max(leak Y, Y), Y ~ N(e, scale^2), for scale >= 0, 0 <= leak <= 1."""
    return _rectified_moments(e, scale, leak)


@jax.custom_jvp
def _rectified_moments(e: Nodes, scale: Nodes, leak: Float[Array, "..."]) -> MeanAndVariance:
    partials = _partials(e, scale, leak)
    return partials.mean, partials.variance


@partial(_rectified_moments.defjvp, symbolic_zeros=True)
def _rectified_moments_jvp(
    primals: tuple[Nodes, Nodes, Leak], tangents: tuple[Tangent, Tangent, Tangent]
) -> tuple[MeanAndVariance, MeanAndVariance]:
    e, scale, leak = primals
    p = _partials(e, scale, leak)
    dmean = _pushed((p.mean_e, p.mean_scale, p.mean_leak), tangents)
    by_scale = p.variance_square * 2 * scale
    dvariance = _pushed((p.variance_e, by_scale, p.variance_leak), tangents)
    return (p.mean, p.variance), (dmean, dvariance)


def _pushed(slopes: tuple[Nodes, ...], tangents: Sequence[Tangent]) -> Nodes:
    """The sum of slopes times tangents: an infinite slope counts where its argument changes."""
    total = jnp.zeros_like(slopes[0])
    for slope, tangent in zip(slopes, tangents, strict=True):
        if not isinstance(tangent, SymbolicZero):
            total = total + slope * tangent
    return total


@partial(jax.jit, inline=True)
def bump_and_variance(e: Nodes, scale: Nodes, leak: Nodes) -> tuple[Nodes, Nodes]:
    """E[max(Y, 0)] - max(e, 0), and the variance of max(leak Y, Y), from the same tails."""
    return _bump_and_variance(e, scale, leak)


@jax.custom_jvp
def _bump_and_variance(e: Nodes, scale: Nodes, leak: Nodes) -> tuple[Nodes, Nodes]:
    partials = _partials(e, scale, leak)
    return partials.tail, partials.variance


@partial(_bump_and_variance.defjvp, symbolic_zeros=True)
def _bump_and_variance_jvp(
    primals: tuple[Nodes, Nodes, Leak], tangents: tuple[Tangent, Tangent, Tangent]
) -> tuple[tuple[Nodes, Nodes], tuple[Nodes, Nodes]]:
    e, scale, leak = primals
    p, without_leak = _partials(e, scale, leak), _partials(e, scale, 0.0)
    by_e = without_leak.mean_e - (e > 0)
    dtail = _pushed((by_e, without_leak.mean_scale), tangents[:2])
    by_scale = p.variance_square * 2 * scale
    dvariance = _pushed((p.variance_e, by_scale, p.variance_leak), tangents)
    return (p.tail, p.variance), (dtail, dvariance)


def rectified_moments_of_belief(mean: Nodes, variance: Nodes, leak: Leak) -> MeanAndVariance:
    """The same for Y ~ N(mean, variance), differentiable with respect to the variance.

    A leak that is a Python number is not differentiated, and 0 saves some work.
    """
    if isinstance(leak, int | float):
        return _of_belief_with_known_leak(mean, variance, float(leak))
    return _of_belief(mean, variance, leak)


@jax.custom_jvp
def _of_belief(mean: Nodes, variance: Nodes, leak: Float[Array, "..."]) -> MeanAndVariance:
    partials = _partials(mean, root(variance), leak)
    return partials.mean, partials.variance


@partial(_of_belief.defjvp, symbolic_zeros=True)
def _of_belief_jvp(
    primals: tuple[Nodes, Nodes, Leak], tangents: tuple[Tangent, Tangent, Tangent]
) -> tuple[MeanAndVariance, MeanAndVariance]:
    mean, variance, leak = primals
    p, mean_variance = _with_slope_of_variance(mean, variance, leak)
    dmean = _pushed((p.mean_e, mean_variance, p.mean_leak), tangents)
    dvariance = _pushed((p.variance_e, p.variance_square, p.variance_leak), tangents)
    return (p.mean, p.variance), (dmean, dvariance)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _of_belief_with_known_leak(mean: Nodes, variance: Nodes, leak: float) -> MeanAndVariance:
    partials = _partials(mean, root(variance), leak)
    return partials.mean, partials.variance


@partial(_of_belief_with_known_leak.defjvp, symbolic_zeros=True)
def _of_belief_with_known_leak_jvp(
    leak: float, primals: tuple[Nodes, Nodes], tangents: tuple[Tangent, Tangent]
) -> tuple[MeanAndVariance, MeanAndVariance]:
    p, mean_variance = _with_slope_of_variance(*primals, leak)
    dmean = _pushed((p.mean_e, mean_variance), tangents)
    return (p.mean, p.variance), (dmean, _pushed((p.variance_e, p.variance_square), tangents))


def _with_slope_of_variance(mean: Nodes, variance: Nodes, leak: Leak) -> tuple[_Partials, Nodes]:
    """The partial derivatives, and that of the mean by the variance."""
    scale = root(variance)
    p = _partials(mean, scale, leak)
    return p, p.mean_scale / (2 * jnp.maximum(scale, SMALLEST_DEVIATION))


def _partials(e: Nodes, scale: Nodes, leak: Leak) -> _Partials:
    ratio = standard_ratio(e, scale)
    phi, upper_tail, far_mean, far_variance = tails(ratio)

    # far: the side that the mean is away from; near: the other.
    near_mean, near_probability = ratio + far_mean, 1 - upper_tail
    near_variance = near_probability - near_mean * far_mean
    # At e = 0 both sides are alike. One is taken for all that follows, so that this can be
    # differentiated there too.
    above = e > 0
    probability = jnp.where(above, near_probability, upper_tail)
    complement = jnp.where(above, upper_tail, near_probability)
    up, down = jnp.where(above, near_mean, far_mean), jnp.where(above, far_mean, near_mean)
    up_variance = jnp.where(above, near_variance, far_variance)
    down_variance = jnp.where(above, far_variance, near_variance)

    tail = scale * far_mean
    positive, negative = jnp.where(above, e, 0), jnp.where(above, 0, -e)
    positive_part, negative_part = positive + tail, negative + tail
    both_parts = share(tail, jnp.where(above, positive_part, negative_part))
    square = scale**2
    if isinstance(leak, float) and leak == 0:
        return _Partials(
            tail=tail,
            mean=positive_part,
            mean_e=probability,
            mean_scale=phi,
            mean_leak=-negative_part,
            variance=share(up_variance, square),
            variance_e=2 * share(complement, positive_part),
            variance_square=probability - phi * up,
            variance_leak=2 * both_parts,
        )
    rest = 1 - leak
    crossed = share(complement, positive_part) + share(leak, share(probability, negative_part))
    return _Partials(
        tail=tail,
        mean=positive - share(leak, negative) + share(rest, tail),
        mean_e=probability + leak * complement,
        mean_scale=rest * phi,
        mean_leak=-negative_part,
        variance=share(up_variance + leak**2 * down_variance + 2 * leak * up * down, square),
        variance_e=2 * share(rest, crossed),
        variance_square=probability + leak**2 * complement - rest * phi * (up - leak * down),
        variance_leak=2 * (leak * share(complement, square) + rest * both_parts),
    )


def standard_ratio(e: Nodes, scale: Nodes) -> Nodes:
    """|e| / scale, for scale >= 0, as far as it makes a difference; 0 / 0 is 0."""
    size = jnp.where(e > 0, e, -e)  # not jnp.abs, whose derivative at 0 is of neither side
    beyond = size > LARGEST_RATIO * scale
    ratio = size / jnp.where(beyond | (scale <= 0), 1, scale)
    return jnp.where(beyond, LARGEST_RATIO, ratio)
