"""What results say of a run: its history, and the figures of its predictions of test images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cgjax import metrics
from train.data import Dataset
from train.engine import loop
from train.engine.runs import Finished


def told(finished: Finished) -> dict[str, Any]:
    """How a run went: its status, its epochs, the best of them, and every epoch's figures to six
    places (None for what is not a finite number)."""
    return {
        "status": finished.status,
        "epochs": finished.epochs,
        "best epoch": finished.best_epoch,
        "history": {
            name: [round(float(v), 6) if np.isfinite(v) else None for v in column]
            for name, column in zip(loop.Record._fields, finished.history.T, strict=True)
        },
    }


def logarithm(probabilities: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The logarithm of averages, which may underflow to 0: figures would be infinite."""
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))


def figures(
    log_probs: Float[Array, "n classes"], labels: Int[Array, " n"]
) -> dict[str, Float[Array, ""]]:
    """Error, negative log-likelihood, calibration error and Brier score of predictions: numbers in
    [0, 1], in nats, in [0, 1], in [0, 2].

    Example:
        >>> found = figures(jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]])), jnp.array([0, 1]))
        >>> {name: round(float(value), 4) for name, value in found.items()}
        {'error': 0.0, 'nll': 0.4904, 'ece': 0.375, 'brier': 0.3125}
    """
    return {
        "error": metrics.error(log_probs, labels),
        "nll": metrics.nll(log_probs, labels),
        "ece": metrics.ece(jnp.exp(log_probs), labels),
        "brier": metrics.brier(jnp.exp(log_probs), labels),
    }


Scorer = Callable[..., dict[str, Any]]


def scorer(log_probs: Callable[..., Array], *, numbered: bool = False) -> Scorer:
    """The figures of predictions as one compiled function, a thousand images at a time.

    Args:
        log_probs: `log_probs(variables, x, *more)`, of images in [0, 1].
        numbered: whether it takes the number of the thousand behind `x`.

    Returns:
        What `scores` calls. Each is compiled for itself: keep it.
    """

    @jax.jit
    def scored(variables: Any, x: Array, y: Array, largest: Array, *more: Any) -> dict[str, Array]:
        def some(x: Array, *number: Array) -> Array:
            return log_probs(variables, loop.scaled(x, largest), *number, *more)

        return figures(loop.in_batches(some, x, numbered=numbered), y)

    return scored


def scores(scorer: Scorer, variables: Any, dataset: Dataset, *more: Any) -> dict[str, float]:
    """The figures of the test images as numbers.

    Args:
        scorer: see there.
        variables: what it takes first.
        dataset: the data.
        more: what it takes besides.
    """
    found = scorer(variables, dataset.test_x, dataset.test_y, np.float32(dataset.largest), *more)
    return {name: float(value) for name, value in found.items()}
