"""What inference holds about a value."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A log-variance beyond this counts as this, so that variances are positive and finite in float32.
LARGEST_LOG_VARIANCE = 80.0


def largest_log_variance(dtype: Any) -> float:
    """What a log-variance is clipped to, on both sides: 80, and 9.7 in float16."""
    return min(LARGEST_LOG_VARIANCE, -math.log(float(jnp.finfo(dtype).tiny)))


@jax.custom_jvp
def _clipped(log_variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    most = largest_log_variance(jnp.result_type(log_variance))
    return jnp.clip(log_variance, -most, most)


@_clipped.defjvp
def _clipped_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
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
