"""Figures of merit of predicted classes, and of scores that tell two kinds of examples apart."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from cgjax.metrics._arrays import careful_sum, log_probabilities, mean, probabilities, with_labels


def nll(
    log_probs: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats.

        -1/n sum_i log p_i(y_i)

    Args:
        log_probs: normalised log-probabilities of the classes, for example
            `jax.nn.log_softmax(logits)`.
        labels: the true classes, from 0.

    Returns:
        A scalar; infinite if a label was given probability 0, not a number if one is no class.

    Raises:
        ValueError: if the shapes do not fit, or known values are no log-probabilities.
        TypeError: if the labels are no integers.

    Example:
        >>> nll(jnp.array([[-0.5, -0.93], [-1.5, -0.25]]), jnp.array([0, 0]))
        Array(1., dtype=float32)
    """
    log_probs, labels, is_class = with_labels(log_probs, labels)
    log_probs = log_probabilities(log_probs)
    chosen = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
    return -mean(jnp.where(is_class, chosen, jnp.nan))


def error(
    scores: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """Fraction of examples whose highest score is not at the label.

    Args:
        scores: logits, log-probabilities or probabilities; of equal scores the first counts.
        labels: the true classes, from 0.

    Returns:
        A scalar in [0, 1]. Scores that are not a number count as wrong. Not a number if a label is
        no class.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the labels are no integers.

    Example:
        >>> error(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0]))
        Array(0.5, dtype=float32)
    """
    scores, labels, is_class = with_labels(scores, labels)
    wrong = (scores.argmax(-1) != labels) | jnp.isnan(scores).any(-1)
    return mean(jnp.where(is_class, wrong.astype(scores.dtype), jnp.nan))


def ece(
    probs: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    num_bins: int = 15,
) -> Float[Array, ""]:
    """Expected calibration error of the predicted class.

    The confidence of an example is its largest probability. Examples are sorted into bins of equal
    width, (0, 1/B], ..., ((B - 1)/B, 1]; the result is the mean gap between how often a bin is
    right and how confident it is, weighted by the number n_b of its examples:

        sum_b n_b/n |accuracy_b - confidence_b|

    Args:
        probs: probabilities of the classes.
        labels: the true classes, from 0.
        num_bins: the number B of bins.

    Returns:
        A scalar in [0, 1]. Not a number if a label is no class.

    Raises:
        ValueError: if the shapes do not fit, `num_bins` is below 1, or known values are no
            probabilities.
        TypeError: if the labels are no integers.

    Example:
        >>> ece(jnp.array([[0.75, 0.25], [0.75, 0.25]]), jnp.array([0, 1]))
        Array(0.25, dtype=float32)

    Source: Guo et al., "On calibration of modern neural networks" (ICML 2017), Eq. 3.
    """
    probs, labels, is_class = with_labels(probs, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; there must be at least one bin.")
    probs = probabilities(probs)
    confidence = probs.max(-1).reshape(-1)
    right = jnp.where(is_class, probs.argmax(-1) == labels, jnp.nan).reshape(-1)
    # The right edge belongs to the bin; the clip keeps confidences above 1 by rounding.
    bins = jnp.clip(jnp.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    # A few examples at a time: a sum of millions loses digits.
    groups = -(-confidence.size // _GROUP)
    group = jnp.arange(confidence.size) // _GROUP
    gaps = jax.ops.segment_sum(right - confidence, group * num_bins + bins, groups * num_bins)
    return jnp.abs(careful_sum(gaps.reshape(groups, num_bins))).sum() / confidence.size


_GROUP = 64


def brier(
    probs: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """Mean squared distance between the probabilities and the one-hot label.

        1/n sum_i sum_k (p_i(k) - [k = y_i])^2

    Args:
        probs: probabilities of the classes.
        labels: the true classes, from 0.

    Returns:
        A scalar in [0, 2]. (For two classes this is twice the one-probability form.) Not a number
        if a label is no class.

    Raises:
        ValueError: if the shapes do not fit, or known values are no probabilities.
        TypeError: if the labels are no integers.

    Example:
        >>> brier(jnp.array([[0.75, 0.25]]), jnp.array([0]))
        Array(0.125, dtype=float32)

    Source: Brier, "Verification of forecasts expressed in terms of probability" (1950).
    """
    probs, labels, is_class = with_labels(probs, labels)
    probs = probabilities(probs)
    one_hot = jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)
    distance = ((probs - one_hot) ** 2).sum(-1)
    return mean(jnp.where(is_class, distance, jnp.nan))


def auroc(
    positive_scores: Float[ArrayLike, " positives"], negative_scores: Float[ArrayLike, " negatives"]
) -> Float[Array, ""]:
    """Area under the receiver operating characteristic.

        P(s+ > s-) + P(s+ = s-) / 2   for a random positive and a random negative example

    Args:
        positive_scores: scores of the examples that should score high, for example the entropy of
            predictions on data from elsewhere.
        negative_scores: scores of the others.

    Returns:
        A scalar in [0, 1]; 1/2 is chance. Not a number if a score is none.

    Raises:
        ValueError: if either is empty or not one-dimensional.

    Example:
        >>> auroc(jnp.array([3.0, 2.0]), jnp.array([1.0, 2.0]))
        Array(0.875, dtype=float32)

    Source: Hanley & McNeil, "The meaning and use of the area under a ROC curve" (1982).
    """
    positive, negative = jnp.asarray(positive_scores), jnp.asarray(negative_scores)
    for name, scores in (("positive_scores", positive), ("negative_scores", negative)):
        if scores.ndim != 1 or scores.size == 0:
            raise ValueError(f"{name} has shape {scores.shape}; expected one axis, not empty.")
    ordered = jnp.sort(negative)
    below = jnp.searchsorted(ordered, positive, side="left")
    not_above = jnp.searchsorted(ordered, positive, side="right")
    # Divided before the sum: a sum of up to positives * negatives would lose digits in float32.
    shares = below / (2 * negative.size) + not_above / (2 * negative.size)
    is_number = ~(jnp.isnan(positive).any() | jnp.isnan(negative).any())
    return jnp.where(is_number, mean(shares), jnp.nan)
