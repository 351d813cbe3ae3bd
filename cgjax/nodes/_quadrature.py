"""Expectations of smooth functions of a Gaussian variable."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Gauss-Hermite nodes and weights for the standard normal distribution.
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
_WEIGHTS = _WEIGHTS / np.sqrt(2 * np.pi)

# Below this standard deviation its derivative, 1 / (2 std), is held constant: a variance of
# exactly 0 then has finite gradients.
SMALLEST_DEVIATION = 1e-4


@jax.custom_jvp
def standard_deviation(variance: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """Square root of a variance, whose derivative stays finite at 0."""
    return jnp.sqrt(jnp.maximum(variance, 0))


@standard_deviation.defjvp
def _standard_deviation_jvp(primals, tangents):
    deviation = standard_deviation(*primals)
    return deviation, tangents[0] / (2 * jnp.maximum(deviation, SMALLEST_DEVIATION))


def displacements(
    variance: Float[Array, "*nodes"],
) -> tuple[Float[Array, "points *nodes"], Float[Array, "points *nodes"]]:
    """Quadrature points, as displacements from the mean, along a new first axis; and weights."""
    shape = (len(_POINTS),) + (1,) * variance.ndim
    points = jnp.asarray(_POINTS, variance.dtype).reshape(shape)
    weights = jnp.asarray(_WEIGHTS, variance.dtype).reshape(shape)
    return points * standard_deviation(variance)[None], weights


def moments_of(
    function: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    mean: Float[Array, "*nodes"],
    variance: Float[Array, "*nodes"],
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """Mean and variance of function(e), e ~ N(mean, variance)."""
    displacement, weights = displacements(variance)
    values = function(mean[None] + displacement)
    centre = function(mean)
    difference = values - centre[None]
    shift = jnp.sum(weights * difference, axis=0)
    return centre + shift, jnp.sum(weights * (difference - shift[None]) ** 2, axis=0)


def logistic_moments(
    mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
) -> tuple[Float[Array, "*nodes"], Float[Array, "*nodes"], Float[Array, "*nodes"]]:
    """E[sigmoid(e)], E[sigmoid(-e)] and Var[sigmoid(e)] for e ~ N(mean, variance)."""
    displacement, weights = displacements(variance)
    there, back = jax.nn.sigmoid(mean[None] + displacement), jax.nn.sigmoid(-mean[None] - displacement)
    here, opposite = jax.nn.sigmoid(mean)[None], jax.nn.sigmoid(-mean)[None]
    # sigmoid(a + d) - sigmoid(a) without cancellation: sigmoid(a + d) sigmoid(-a) (1 - exp(-d)).
    up = jnp.where(displacement > 0, there * opposite, back * here)
    difference = -jnp.sign(displacement) * up * jnp.expm1(-jnp.abs(displacement))
    shift = jnp.sum(weights * difference, axis=0)
    variance = jnp.sum(weights * (difference - shift[None]) ** 2, axis=0)
    return here[0] + shift, opposite[0] - shift, variance
