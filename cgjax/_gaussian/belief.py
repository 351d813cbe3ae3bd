"""What inference holds about a value."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

# A log-variance beyond this counts as this, so that variances are positive and finite in float32.
LARGEST_LOG_VARIANCE = 80.0


def largest_log_variance(dtype: np.dtype) -> float:
    """What a log-variance is clipped to, on both sides: 80, and 9.7 in float16."""
    return min(LARGEST_LOG_VARIANCE, -math.log(float(jnp.finfo(dtype).tiny)))


@jax.custom_jvp
def _clipped(log_variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    most = largest_log_variance(jnp.result_type(log_variance))
    return jnp.clip(log_variance, -most, most)


@_clipped.defjvp
def _clipped_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # That of `jnp.clip` divides by the number of ties, for each weight.
    (log_variance,), (tangent,) = primals, tangents
    inside = jnp.abs(log_variance) <= largest_log_variance(jnp.result_type(log_variance))
    return _clipped(log_variance), jnp.where(inside, tangent, 0)


class Belief(NamedTuple):
    """What inference holds about a value: its mean and its (element-wise) variance.

    Both arrays have the shape of the value. The variance is zero where the value is known.
    """

    mean: Float[Array, "*nodes"]
    variance: Float[Array, "*nodes"]


class Normal(NamedTuple):
    """A belief that can be trained: every value of its two arrays has a positive variance.

    Arrays of one shape. Procedures take it wherever they take a `Belief`.
    """

    mean: Float[Array, "*nodes"]
    log_variance: Float[Array, "*nodes"]

    @property
    def clipped_log_variance(self) -> Float[Array, "*nodes"]:
        """The logarithm of `variance`."""
        return _clipped(self.log_variance)

    @property
    def variance(self) -> Float[Array, "*nodes"]:
        """The variance, always positive and finite."""
        return jnp.exp(self.clipped_log_variance)


def checked(belief: Belief | Normal) -> Belief:
    """A belief as one of two arrays of one shape and dtype, whose variance is one.

    Args:
        belief: its mean is floating point; its variance has the mean's shape, or is one number.

    Returns:
        The belief. Where values are traced, a variance that is negative or not finite is NaN in it.

    Raises:
        TypeError: the mean is not floating point.
        ValueError: the variance has another shape; or its value is known, and is negative or not
            finite in the dtype of the mean.
    """
    mean, variance = jnp.asarray(belief.mean), jnp.asarray(belief.variance)
    if not jnp.issubdtype(mean.dtype, jnp.floating):
        raise TypeError(
            f"The mean of a Belief must be floating point, got {mean.dtype}; an integer has no "
            "Gaussian belief."
        )
    if variance.shape not in ((), mean.shape):
        raise ValueError(
            f"The variance of a Belief must have the shape of its mean, {mean.shape}, or be one "
            f"number, got shape {variance.shape}."
        )
    variance = jnp.asarray(variance, mean.dtype)
    if isinstance(belief, Belief):  # the variance of a Normal is positive and finite as it is
        variance = _checked_variance(variance)
    return Belief(mean, jnp.broadcast_to(variance, mean.shape))


def _checked_variance(variance: Float[Array, "..."]) -> Float[Array, "..."]:
    if isinstance(variance, Tracer):
        return lax.select(_is_variance(variance), variance, lax.full_like(variance, jnp.nan))
    with jax.ensure_compile_time_eval():  # known numbers are known while a caller traces too
        known = bool(_all_are_variances(variance))
    if not known:
        numbers = np.asarray(variance)
        wrong = numbers[~((numbers >= 0) & (numbers < np.inf))]
        raise ValueError(
            f"The variance of a Belief must be at least 0 and finite, got {wrong[0]} "
            f"(such values: {wrong.size} of {variance.size}, dtype {variance.dtype}). A "
            "Belief holds a mean and a variance; for values that are known, the variance is 0."
        )
    return variance


def _is_variance(variance: Float[Array, "..."]) -> Bool[Array, "..."]:
    kind = variance.dtype.type
    return variance == lax.clamp(kind(0), variance, kind(jnp.finfo(variance.dtype).max))


@jax.jit
def _all_are_variances(variance: Float[Array, "..."]) -> Bool[Array, ""]:
    return jnp.all(_is_variance(variance))
