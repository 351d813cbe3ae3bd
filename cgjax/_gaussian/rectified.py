"""Mean and variance of a leaky rectified Gaussian, max(leak Y, Y) with Y ~ N(e, s^2).

With z = e/s, A(z) = z Phi(z) + phi(z), M+ = s A(z) = E[max(Y, 0)] and M- = s A(-z):

    mean     = M+ - leak M-
    variance = s^2 (Phi(z) + leak^2 Phi(-z)) - (1 - leak)^2 M+ M-

Written so nothing cancels: the variance is accurate to a few units of rounding of s^2 (in float32,
and also of itself) and never negative, where E[X^2] - E[X]^2 loses all digits.
The derivatives are the exact closed forms, finite also at s = 0.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Below this standard deviation the derivative of the mean with respect to the *variance*,
# phi(z) / (2 s), which has no bound at the kink, is computed with this deviation.
SMALLEST_DEVIATION = 1e-6

# In float32 the tails beyond this |z| are taken from polynomials in 3 / (1 + |z|), because direct
# forms lose digits in proportion to z^2: |z|^2 (1 - |z| R) and |z|^3 (R - |z| (1 - |z| R)) / 2 with
# Mills' ratio R = Phi(-|z|) / phi(z). Both are minimax fits to exact values, within 8e-7.
_TAIL_START = 2.0
_MEAN_TAIL = (
    0.99999415,
    0.00026344497,
    -0.33764255,
    -0.18764449,
    -0.079766206,
    0.59414033,
    -0.5306511,
    0.19755761,
    -0.027204871,
)
_VARIANCE_TAIL = (
    0.99998597,
    0.00067084182,
    -0.67856125,
    -0.3392968,
    -0.18936295,
    2.1714619,
    -2.5682713,
    1.2752134,
    -0.24445507,
)
# Every tail is exactly zero long before this |z|; beyond it, z itself would overflow.
_LARGEST_RATIO = 64.0


class _Partials(NamedTuple):
    """Values, and derivatives with respect to e, s (mean), s^2 (variance) and the leak."""

    mean: Float[Array, "*nodes"]
    mean_e: Float[Array, "*nodes"]
    mean_scale: Float[Array, "*nodes"]
    mean_leak: Float[Array, "*nodes"]
    variance: Float[Array, "*nodes"]
    variance_e: Float[Array, "*nodes"]
    variance_square: Float[Array, "*nodes"]
    variance_leak: Float[Array, "*nodes"]


@jax.custom_jvp
def rectified_moments(
    e: Float[Array, "*nodes"], scale: Float[Array, "*nodes"], leak: Float[Array, "..."]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """Mean and variance of max(leak Y, Y), Y ~ N(e, scale^2), for scale >= 0, 0 <= leak <= 1."""
    partials = _partials(e, scale, leak)
    return partials.mean, partials.variance


def _rectified_moments_jvp(primals, tangents):
    e, scale, leak = primals
    de, dscale, dleak = tangents
    p = _partials(e, scale, leak)
    dmean = p.mean_e * de + p.mean_scale * dscale + p.mean_leak * dleak
    dvariance = p.variance_e * de + p.variance_square * 2 * scale * dscale + p.variance_leak * dleak
    return (p.mean, p.variance), (dmean, dvariance)


rectified_moments.defjvp(_rectified_moments_jvp)


def rectified_moments_of_belief(
    mean: Float[Array, "*nodes"],
    variance: Float[Array, "*nodes"],
    leak: Float[Array, "..."] | float,
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """The same for Y ~ N(mean, variance), differentiable with respect to the variance.

    A leak that is a Python number is not differentiated, and 0 saves some work.
    """
    if isinstance(leak, int | float):
        return _of_belief_with_known_leak(mean, variance, float(leak))
    return _of_belief(mean, variance, leak)


@jax.custom_jvp
def _of_belief(mean: Any, variance: Any, leak: Any) -> tuple[Any, Any]:
    partials = _partials(mean, jnp.sqrt(jnp.maximum(variance, 0)), leak)
    return partials.mean, partials.variance


def _of_belief_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (mean, variance, leak), (dmean, dvariance, dleak) = primals, tangents
    p, (out_mean, out_variance) = _pushed(mean, variance, leak, dmean, dvariance)
    return (p.mean, p.variance), (
        out_mean + p.mean_leak * dleak,
        out_variance + p.variance_leak * dleak,
    )


_of_belief.defjvp(_of_belief_jvp)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _of_belief_with_known_leak(mean: Any, variance: Any, leak: float) -> tuple[Any, Any]:
    partials = _partials(mean, jnp.sqrt(jnp.maximum(variance, 0)), leak)
    return partials.mean, partials.variance


@_of_belief_with_known_leak.defjvp
def _of_belief_with_known_leak_jvp(leak: float, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (mean, variance), (dmean, dvariance) = primals, tangents
    p, out = _pushed(mean, variance, leak, dmean, dvariance)
    return (p.mean, p.variance), out


def _pushed(mean: Any, variance: Any, leak: Any, dmean: Any, dvariance: Any) -> tuple[Any, Any]:
    """The partial derivatives, and the tangents that those by mean and variance give."""
    scale = jnp.sqrt(jnp.maximum(variance, 0))
    p = _partials(mean, scale, leak)
    mean_variance = p.mean_scale / (2 * jnp.maximum(scale, SMALLEST_DEVIATION))
    out_mean = p.mean_e * dmean + mean_variance * dvariance
    return p, (out_mean, p.variance_e * dmean + p.variance_square * dvariance)


def _partials(
    e: Float[Array, "*nodes"], scale: Float[Array, "*nodes"], leak: Float[Array, "..."] | float
) -> _Partials:
    ratio = standard_ratio(e, scale)
    phi, upper_tail, far_mean, far_variance = standard_tails(ratio)

    # far: the side that the mean is away from; near: the other.
    near_mean, near_probability = ratio + far_mean, 1 - upper_tail
    near_variance = near_probability - near_mean * far_mean
    # At e = 0 both sides are alike, and each derivative is the mean of its two limits.
    above = e > 0
    probability = jnp.where(above, near_probability, upper_tail)
    complement = jnp.where(above, upper_tail, near_probability)
    up, down = jnp.where(above, near_mean, far_mean), jnp.where(above, far_mean, near_mean)
    up_variance = jnp.where(above, near_variance, far_variance)
    down_variance = jnp.where(above, far_variance, near_variance)

    tail = scale * far_mean
    positive_part, negative_part = jnp.maximum(e, 0) + tail, jnp.maximum(-e, 0) + tail
    square = scale**2
    if _is_zero(leak):
        return _Partials(
            mean=positive_part,
            mean_e=probability,
            mean_scale=phi,
            mean_leak=-negative_part,
            variance=square * up_variance,
            variance_e=2 * positive_part * complement,
            variance_square=probability - phi * up,
            variance_leak=2 * positive_part * negative_part,
        )
    rest = 1 - leak
    return _Partials(
        mean=jnp.maximum(e, 0) + leak * jnp.minimum(e, 0) + rest * tail,
        mean_e=probability + leak * complement,
        mean_scale=rest * phi,
        mean_leak=-negative_part,
        variance=square * (up_variance + leak**2 * down_variance + 2 * leak * up * down),
        variance_e=2 * rest * (positive_part * complement + leak * negative_part * probability),
        variance_square=probability + leak**2 * complement - rest * phi * (up - leak * down),
        variance_leak=2 * (leak * square * complement + rest * positive_part * negative_part),
    )


def _is_zero(leak: Any) -> bool:
    """Whether the leak is known to be 0 while tracing."""
    return isinstance(leak, float) and leak == 0


def standard_ratio(
    e: Float[Array, "*nodes"], scale: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    """|e| / scale, for scale >= 0, as far as it makes a difference; 0 / 0 is 0."""
    positive = jnp.where(scale > 0, scale, 1)
    ratio = jnp.where(scale > 0, jnp.abs(e) / positive, jnp.where(e == 0, 0, _LARGEST_RATIO))
    return jnp.minimum(ratio, _LARGEST_RATIO)


def standard_tails(t: Float[Array, "*nodes"]) -> tuple[Float[Array, "*nodes"], ...]:
    """For t >= 0: phi(t), Phi(-t), A(-t) and Phi(-t) - A(t) A(-t), all accurate far out."""
    phi = jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    upper_tail = jax.scipy.special.erfc(t / math.sqrt(2)) / 2
    tail_mean = phi - t * upper_tail
    tail_variance = upper_tail - tail_mean * (t + tail_mean)

    if t.dtype == jnp.float64:
        return phi, upper_tail, tail_mean, tail_variance
    far = jnp.maximum(t, _TAIL_START)
    argument = (1 + _TAIL_START) / (1 + far)
    inverse = 1 / far
    scaled_mean = _polynomial(_MEAN_TAIL, argument) * inverse**2
    scaled_variance = 2 * _polynomial(_VARIANCE_TAIL, argument) * inverse**3
    is_far = t > _TAIL_START
    return (
        phi,
        jnp.where(is_far, phi * (1 - scaled_mean) * inverse, upper_tail),
        jnp.where(is_far, phi * scaled_mean, tail_mean),
        jnp.where(is_far, phi * (scaled_variance - phi * scaled_mean**2), tail_variance),
    )


def _polynomial(
    coefficients: tuple[float, ...], argument: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    value = jnp.full_like(argument, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * argument + coefficient
    return value
