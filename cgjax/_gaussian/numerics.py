"""What every computation with means and variances needs: a wide enough dtype, and safe roots."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num

# The mean and the variance of one value.
MeanAndVariance = tuple[Float[Array, "..."], Float[Array, "..."]]


def wide(array: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """The array in the dtype of probabilistic computations: its own, but at least float32."""
    return lax.convert_element_type(array, jnp.promote_types(array.dtype, jnp.float32))


def root(variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """The standard deviation; 0 for what rounding made negative, and with derivative 0 at 0."""
    zero, nothing = variance <= 0, lax.full_like(variance, 0)
    return lax.select(zero, nothing, lax.sqrt(lax.select(zero, nothing + 1, variance)))


def like(parameter: Num[ArrayLike, "..."], array: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """A numeric parameter in the dtype and shape of an array it broadcasts against."""
    parameter = lax.convert_element_type(jnp.asarray(parameter), array.dtype)
    return jnp.broadcast_to(parameter, array.shape)


def nonnegative(array: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """max(array, 0), for what only rounding makes negative: the derivative at 0 is 1.

    That of `jnp.maximum` is a half there, which halves the derivatives of a variance at 0.
    """
    return jnp.where(array < 0, 0, array)


def share(factor: Float[Array, "..."] | float, of: Float[Array, "..."]) -> Float[Array, "..."]:
    """factor times `of`, where nothing of something infinite is 0."""
    return jnp.where(jnp.asarray(factor) == 0, 0, factor * of)
