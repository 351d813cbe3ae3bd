"""What results say of a run: its history, and the figures of its predictions of test images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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


def scorer(log_probs: Callable[..., Array]) -> Callable[..., dict[str, float]]:
    """The figures of predictions of test images, `scores(variables, dataset, *more)`: error,
    negative log-likelihood, calibration error and Brier score, in [0, 1], in nats, in [0, 1], in
    [0, 2].

    The logarithms of probabilities are `log_probs(variables, x, number, *more)`, of a thousand
    images in [0, 1], and the number of the thousand. Each scorer is compiled for itself: keep it.
    """

    @jax.jit
    def scored(variables: Any, x: Array, y: Array, largest: Array, *more: Any) -> dict[str, Array]:
        def some(x: Array, number: Any) -> Array:
            return log_probs(variables, loop.scaled(x, largest), number, *more)

        found = loop.in_batches(some, x)
        return {
            "error": metrics.error(found, y),
            "nll": metrics.nll(found, y),
            "ece": metrics.ece(jnp.exp(found), y),
            "brier": metrics.brier(jnp.exp(found), y),
        }

    def scores(variables: Any, dataset: Dataset, *more: Any) -> dict[str, float]:
        largest = np.float32(dataset.largest)
        found = scored(variables, dataset.test_x, dataset.test_y, largest, *more)
        return {name: float(value) for name, value in found.items()}

    return scores
