"""Figures of merit of predictions: pure functions of arrays, features last.

Functions average over all leading axes and return a scalar, except for `gaussian_mixture_nll`,
`model_average`, `entropy` and `mutual_information`, which keep the examples.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy import special
from jaxtyping import Array, ArrayLike, Float, Integer


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
        ValueError: if the shapes do not fit.

    Example:
        >>> nll(jnp.array([[-0.5, -0.93], [-1.5, -0.25]]), jnp.array([0, 0]))
        Array(1., dtype=float32)
    """
    log_probs, labels = _classes(log_probs, labels)
    return -jnp.take_along_axis(log_probs, labels[..., None], axis=-1).mean()


def error(
    scores: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """Fraction of examples whose highest score is not at the label.

    Args:
        scores: logits, log-probabilities or probabilities; of equal scores the first counts.
        labels: the true classes, from 0.

    Returns:
        A scalar in [0, 1]. Scores that are not a number count as wrong.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> error(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0]))
        Array(0.5, dtype=float32)
    """
    scores, labels = _classes(scores, labels)
    wrong = (scores.argmax(-1) != labels) | jnp.isnan(scores).any(-1)
    return wrong.mean(dtype=scores.dtype)


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
        A scalar in [0, 1].

    Raises:
        ValueError: if the shapes do not fit, or `num_bins` is below 1.

    Example:
        >>> ece(jnp.array([[0.75, 0.25], [0.75, 0.25]]), jnp.array([0, 1]))
        Array(0.25, dtype=float32)

    Source: Guo et al., "On calibration of modern neural networks" (ICML 2017), Eq. 3.
    """
    probs, labels = _classes(probs, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}; there must be at least one bin.")
    confidence = probs.max(-1).reshape(-1)
    right = (probs.argmax(-1) == labels).reshape(-1)
    # The right edge belongs to the bin; the clip keeps confidences above 1 by rounding.
    bins = jnp.clip(jnp.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = jax.ops.segment_sum(right - confidence, bins, num_bins)
    return jnp.abs(gaps).sum() / confidence.size


def brier(
    probs: Float[ArrayLike, "*batch classes"], labels: Integer[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """Mean squared distance between the probabilities and the one-hot label.

        1/n sum_i sum_k (p_i(k) - [k = y_i])^2

    Args:
        probs: probabilities of the classes.
        labels: the true classes, from 0.

    Returns:
        A scalar in [0, 2]. (For two classes this is twice the one-probability form.)

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> brier(jnp.array([[0.75, 0.25]]), jnp.array([0]))
        Array(0.125, dtype=float32)

    Source: Brier, "Verification of forecasts expressed in terms of probability" (1950).
    """
    probs, labels = _classes(probs, labels)
    one_hot = jax.nn.one_hot(labels, probs.shape[-1], dtype=probs.dtype)
    return ((probs - one_hot) ** 2).sum(-1).mean()


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
    predictions, targets = _same("predictions and targets", predictions, targets)
    return jnp.sqrt(((predictions - targets) ** 2).mean())


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
    mean, variance = _same("mean and variance", mean, variance)
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
        A scalar in [0, 1], near `level` for a calibrated model.

    Raises:
        ValueError: if the shapes differ or `level` is not between 0 and 1.

    Example:
        >>> coverage(jnp.zeros(4), jnp.ones(4), jnp.array([0.0, 1.9, -1.9, 2.0]))
        Array(0.75, dtype=float32)
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it is a probability between 0 and 1.")
    mean, variance = _same("mean and variance", mean, variance)
    mean, targets = _same("mean and targets", mean, targets)
    half_width = special.ndtri(jnp.asarray((1 + level) / 2, mean.dtype)) * jnp.sqrt(variance)
    return (jnp.abs(targets - mean) <= half_width).mean(dtype=mean.dtype)


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
        A scalar in [0, 1]; 1/2 is chance.

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
    return ((below + not_above) / (2 * negative.size)).mean()


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

    Example:
        >>> jnp.exp(model_average(jnp.log(jnp.array([[0.2, 0.8], [0.6, 0.4]])))).round(3)
        Array([0.4, 0.6], dtype=float32)
    """
    log_probs = _samples(log_probs)
    return jax.nn.logsumexp(log_probs, axis=0) - math.log(log_probs.shape[0])


def entropy(log_probs: Float[ArrayLike, "*batch classes"]) -> Float[Array, "*batch"]:
    """Entropy of each prediction, in nats; unlike the other figures, one for each example.

        -sum_y p(y) log p(y)

    Args:
        log_probs: normalised log-probabilities of the classes; those of probability 0 count as 0.

    Returns:
        From 0 for a certain prediction to log(classes) for an even one.

    Example:
        >>> entropy(jnp.log(jnp.array([[0.5, 0.5], [1.0, 0.0]]))).round(4)
        Array([0.6931, 0.    ], dtype=float32)
    """
    log_probs = jnp.asarray(log_probs)
    log_probs = log_probs.astype(jnp.promote_types(log_probs.dtype, jnp.float32))
    return special.entr(jnp.exp(log_probs)).sum(-1)


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
    return log_probs.astype(jnp.promote_types(log_probs.dtype, jnp.float32))


def _classes(scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays, the scores in at least float32."""
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    if scores.ndim == 0 or scores.shape[:-1] != labels.shape:
        raise ValueError(
            f"scores of shape {scores.shape} and labels of shape {labels.shape} do not fit; "
            "expected (*batch, classes) and (*batch)."
        )
    if math.prod(labels.shape) == 0:
        raise ValueError(f"no examples: labels have shape {labels.shape}.")
    # An index counts from the end where it is negative; a label does not.
    labels = jnp.where(labels < 0, scores.shape[-1], labels)
    return scores.astype(jnp.promote_types(scores.dtype, jnp.float32)), labels


def _same(names: str, first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.shape != second.shape:
        raise ValueError(f"{names} have shapes {first.shape} and {second.shape}; expected equal.")
    dtype = jnp.promote_types(jnp.result_type(first, second), jnp.float32)
    return first.astype(dtype), second.astype(dtype)
