"""What inference holds about a value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A log-variance beyond this counts as this, so that variances are positive and finite in float32.
LARGEST_LOG_VARIANCE = 80.0


@jax.custom_jvp
def _clipped(log_variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    return jnp.clip(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)


@_clipped.defjvp
def _clipped_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    # That of `jnp.clip` divides by the number of ties, for each weight.
    (log_variance,), (tangent,) = primals, tangents
    inside = jnp.abs(log_variance) <= LARGEST_LOG_VARIANCE
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
