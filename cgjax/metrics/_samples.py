"""Several predictions of classes for each example: their average, and what they disagree about."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cgjax.metrics._arrays import log_probabilities, precise


def model_average(
    log_probs: Float[ArrayLike, "samples *batch classes"],
) -> Float[Array, "*batch classes"]:
    """Log-probabilities of the average of several predictions: Bayesian model averaging.

        log(1/S sum_s p_s(y))

    Args:
        log_probs: normalised log-probabilities of the classes, of each of S sampled networks or
            members of an ensemble along the leading axis.

    Returns:
        Normalised log-probabilities, in at least float32.

    Raises:
        ValueError: there is no axis of samples, or none; known values are no log-probabilities.

    Example:
        >>> jnp.exp(model_average(jnp.log(jnp.array([[0.2, 0.8], [0.6, 0.4]])))).round(3)
        Array([0.4, 0.6], dtype=float32)
    """
    log_probs = _samples(log_probs)
    largest = jax.lax.stop_gradient(log_probs.max(0))
    largest = jnp.where(largest > -jnp.inf, largest, 0)
    total = jnp.exp(log_probs - largest[None]).sum(0)
    # What no sample thinks possible has no derivative, where a logarithm's would be 0 / 0.
    possible = total != 0
    log_total = jnp.where(possible, jnp.log(jnp.where(possible, total, 1)), -jnp.inf)
    return log_total + (largest - math.log(log_probs.shape[0]))


def entropy(log_probs: Float[ArrayLike, "*batch classes"]) -> Float[Array, "*batch"]:
    """Entropy of each prediction, in nats; unlike the other figures, one for each example.

        -sum_y p(y) log p(y)

    Args:
        log_probs: normalised log-probabilities of the classes; those of probability 0 count as 0.

    Returns:
        From 0 for a certain prediction to log(classes) for an even one.

    Raises:
        ValueError: known values are no log-probabilities.

    Example:
        >>> entropy(jnp.log(jnp.array([[0.5, 0.5], [1.0, 0.0]]))).round(4)
        Array([0.6931, 0.    ], dtype=float32)
    """
    log_probs = log_probabilities(precise(log_probs))
    probs = jnp.exp(log_probs)
    # p log p and its derivative are 0 at p = 0, where the logarithm is infinite.
    return 0 - (probs * jnp.where(probs == 0, 0, log_probs)).sum(-1)


def mutual_information(
    log_probs: Float[ArrayLike, "samples *batch classes"],
) -> Float[Array, "*batch"]:
    """What the samples disagree about: the epistemic part of the entropy, of each example.

        H[1/S sum_s p_s] - 1/S sum_s H[p_s]

    the mutual information between the label and the weights. The second term is the aleatoric part.

    Args:
        log_probs: normalised log-probabilities of the classes, of each of S sampled networks along
            the leading axis.

    Returns:
        Nats, from 0 where all samples agree.

    Raises:
        ValueError: as `model_average`.

    Example:
        >>> certain_but_different = jnp.log(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> mutual_information(certain_but_different).round(4)
        Array(0.6931, dtype=float32)

    Source: Houlsby et al. 2011; [B] section 2 (the uncertainty of predictions).
    """
    log_probs = _samples(log_probs)
    average = entropy(model_average(log_probs))
    return jnp.maximum(average - entropy(log_probs).mean(0), 0)


def _samples(log_probs: ArrayLike) -> Array:
    log_probs = jnp.asarray(log_probs)
    if log_probs.ndim < 2 or log_probs.shape[0] == 0:
        raise ValueError(
            f"log_probs has shape {log_probs.shape}; expected (samples, *batch, classes), with at "
            "least one sample."
        )
    return log_probabilities(precise(log_probs))
