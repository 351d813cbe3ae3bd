"""What is predicted: numbers with noise, or classes. How outputs become losses and predictions."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cgjax import weights
from cgjax.estimators._mixtures import Mixture
from cgjax.nodes import Belief


@dataclass(frozen=True)
class Regression:
    """Numbers with Gaussian noise, of one variance for each target, or of one that varies with x.

        r(x) = exp(level),   or   r(x) = exp(level + s(x)),

    where the level is learnt, and s is the network's second output for a target.
    """

    targets: int
    varying: bool

    @property
    def outputs(self) -> int:
        """Of the network."""
        return self.targets * (2 if self.varying else 1)

    def loss(self, level: Array, output: Belief, y: Float[Array, "batch targets"]) -> Array:
        """Expected negative log-likelihood of a row, averaged over a batch."""
        head, output = self._head(level, output)
        return head.expected_nll(output, y).sum(-1).mean()

    def predict(self, level: Array, output: Belief) -> Belief:
        """The belief about targets, Float[batch, targets]."""
        head, output = self._head(level, output)
        return head.predict(output)

    def log_density(self, predicted: tuple[Any, Any], y: np.ndarray) -> np.ndarray:
        """log p(y) of rows under predictions with an axis of components: float64[rows]."""
        return Mixture(*(np.asarray(array, float) for array in predicted)).log_density(y)

    def _head(self, level: Array, output: Belief) -> tuple[Any, Belief]:
        m, v = output
        if not self.varying:
            shape = (-1, self.targets)
            return weights.GaussianHead(level[None]), Belief(m.reshape(shape), v.reshape(shape))
        shape = (-1, self.targets, 2)
        offset = jnp.stack([jnp.zeros_like(level), level], -1)[None]
        return weights.HeteroscedasticHead(), Belief(m.reshape(shape) + offset, v.reshape(shape))


@dataclass(frozen=True)
class Classification:
    """Labels 0 to classes - 1, whose logits the network computes."""

    classes: int
    targets = 1

    @property
    def outputs(self) -> int:
        """Of the network."""
        return self.classes

    def loss(self, level: Array, output: Belief, y: Array) -> Array:
        """Expected negative log-likelihood of a label, averaged over a batch. There is no noise
        with a level."""
        return weights.CategoricalHead().expected_nll(output, y).mean()

    def predict(self, level: Array, output: Belief) -> Float[Array, "batch classes"]:
        """The probability of each class."""
        return weights.CategoricalHead().predict(output)

    def log_density(self, predicted: Any, y: np.ndarray) -> np.ndarray:
        """log p(y) of labels under predictions with an axis of components: float64[rows]."""
        probabilities = np.asarray(predicted, float).mean(0)
        picked = probabilities[np.arange(len(y)), y]
        return np.log(np.maximum(picked, np.finfo(np.float32).tiny))


Likelihood = Regression | Classification
