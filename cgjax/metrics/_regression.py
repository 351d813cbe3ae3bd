"""Figures of merit of predicted numbers."""

import math

import jax
import jax.numpy as jnp
from jax.scipy import special
from jaxtyping import Array, ArrayLike, Float

from cgjax.metrics._arrays import known, same
from cgjax.metrics._arrays import mean as average


def rmse(
    predictions: Float[ArrayLike, "*shape"], targets: Float[ArrayLike, "*shape"]
) -> Float[Array, ""]:
    """Root of the mean squared difference.

    Args:
        predictions: what the model says.
        targets: what is true, of the same shape.

    Returns:
        A scalar in the unit of the targets.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> rmse(jnp.array([0.0, 3.0, 4.0, 0.0]), jnp.zeros(4))
        Array(2.5, dtype=float32)
    """
    predictions, targets = same("predictions and targets", predictions, targets)
    return jnp.sqrt(average((predictions - targets) ** 2))


def gaussian_mixture_nll(
    mean: Float[ArrayLike, "components *batch"],
    variance: Float[ArrayLike, "components *batch"],
    targets: Float[ArrayLike, "*batch"],
) -> Float[Array, "*batch"]:
    """Negative log-density of each target under an even mixture of Gaussians, in nats.

        -log(1/S sum_s N(y_i; m_si, v_si))

    the predictive density of S sampled networks or members of an ensemble; one component is a
    Gaussian. For targets divided by c, add log(c) to have the density of the undivided ones.

    Args:
        mean: of the components, along the leading axis.
        variance: of the components, positive.
        targets: what is true.

    Returns:
        One number for each target, in at least float32.

    Raises:
        ValueError: if the shapes do not fit, or there is no component.

    Example:
        >>> mean, variance = jnp.array([[0.0], [2.0]]), jnp.ones((2, 1))
        >>> gaussian_mixture_nll(mean, variance, jnp.array([1.0])).round(4)
        Array([1.4189], dtype=float32)

    Source: Lakshminarayanan, Pritzel and Blundell 2017, section 2.4.
    """
    mean, variance = same("mean and variance", mean, variance)
    targets = jnp.asarray(targets)
    if mean.ndim == 0 or mean.shape[0] == 0 or mean.shape[1:] != targets.shape:
        raise ValueError(
            f"mean has shape {mean.shape} and targets {targets.shape}; expected (components, "
            "*batch), with at least one component, and (*batch)."
        )
    square = (targets[None].astype(mean.dtype) - mean) ** 2
    log_densities = -(square / variance + jnp.log(variance) + math.log(2 * math.pi)) / 2
    return math.log(mean.shape[0]) - jax.nn.logsumexp(log_densities, axis=0)


def coverage(
    mean: Float[ArrayLike, "*shape"],
    variance: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    level: float = 0.95,
) -> Float[Array, ""]:
    """Fraction of targets inside the central interval of a Gaussian prediction.

        |y - mean| <= z sqrt(variance),   z = Phi^-1((1 + level) / 2)

    Args:
        mean: the predicted mean.
        variance: the predicted variance of a target, noise included.
        targets: what is true, of the same shape.
        level: the probability the interval claims to hold, in (0, 1).

    Returns:
        A scalar in [0, 1], near `level` for a calibrated model. Not a number where a target, a
        mean or a variance is none.

    Raises:
        ValueError: if the shapes differ, `level` is not between 0 and 1, or a mean is known to be
            not a number, or a variance to be negative.

    Example:
        >>> coverage(jnp.zeros(4), jnp.ones(4), jnp.array([0.0, 1.9, -1.9, 2.0]))
        Array(0.75, dtype=float32)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it is a probability between 0 and 1.")
    mean, variance = same("mean and variance", mean, variance)
    mean, targets = same("mean and targets", mean, targets)
    wrong = ~(variance >= 0) | jnp.isnan(mean)
    if known(wrong):
        raise ValueError(
            "The mean of a Gaussian is a number and its variance at least 0; got the mean "
            f"{mean[wrong][0]} with the variance {variance[wrong][0]}."
        )
    half_width = special.ndtri(jnp.asarray((1 + level) / 2, mean.dtype)) * jnp.sqrt(variance)
    inside = (jnp.abs(targets - mean) <= half_width).astype(mean.dtype)
    return average(jnp.where(wrong | jnp.isnan(targets), jnp.nan, inside))
