"""How good generated examples are: modes of the ring, and digits by a network that tells them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from train.data import Dataset
from train.gan.training import CENTRES, DEVIATION, MODES
from train.models.adversarial import Layers, dense, hidden, layers

# Of its equal share of the samples, what a mode or class has to get to count as covered.
LEAST_SHARE = 0.1
DEVIATIONS = 3
CLASSES = 10
_STEPS, _BATCH, _RATE, _UNITS = 1500, 128, 1e-3, (128, 64)


def of_ring(points: Float[np.ndarray, "n 2"]) -> dict[str, float]:
    """Modes covered; the share of points within three standard deviations of a mode, which is 98.9
    % of the true ones; and, of the equal share, what the mode with the fewest such points gets."""
    distances = np.linalg.norm(points[:, None] - CENTRES, axis=-1)
    close = distances.min(1) <= DEVIATIONS * DEVIATION
    counts = np.bincount(distances.argmin(1)[close], minlength=MODES)
    shares = counts * MODES / len(points)
    return {
        "modes": int((shares >= LEAST_SHARE).sum()),
        "within": float(close.mean()),
        "least": float(shares.min()),
    }


class Judge(NamedTuple):
    """A network that tells digits, and what it says of real images."""

    weights: Layers
    error: float  # of test images
    mean: Float[np.ndarray, " units"]  # of its features of training images
    covariance: Float[np.ndarray, "units units"]

    @classmethod
    def of(cls, dataset: Dataset, seed: int) -> "Judge":
        """Trained on the training images: two layers of ReLU units, Adam, a fixed number of
        steps."""
        weights = _trained(dataset, seed)
        test = np.asarray(_logits(weights, _scaled(dataset.test_x, dataset)))
        error = float((test.argmax(1) != dataset.test_y).mean())
        features = _features(weights, _scaled(dataset.train_x, dataset))
        return cls(weights, error, features.mean(0), np.cov(features, rowvar=False))

    def scores(self, images: Float[np.ndarray, "n pixels"]) -> dict[str, float]:
        """Digits covered; the entropy in nats of how often each is found, which is at most log 10;
        and the Fréchet distance of features from those of training images."""
        found = np.asarray(_logits(self.weights, jnp.asarray(images))).argmax(1)
        shares = np.bincount(found, minlength=CLASSES) / len(images)
        features = _features(self.weights, jnp.asarray(images))
        distance = frechet_distance(
            (features.mean(0), np.cov(features, rowvar=False)), (self.mean, self.covariance)
        )
        known = shares[shares > 0]
        return {
            "classes": int((shares * CLASSES >= LEAST_SHARE).sum()),
            "entropy": float(-(known * np.log(known)).sum()),
            "frechet": distance,
        }

    def of_test(self, dataset: Dataset) -> dict[str, float]:
        """The same of the test images, for comparison, and the error of the network."""
        return self.scores(np.asarray(_scaled(dataset.test_x, dataset))) | {"error": self.error}


def frechet_distance(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> float:
    """The Fréchet distance, squared, of two Gaussians with these means and covariances.

        |m - n|^2 + tr(S + T - 2 (S^(1/2) T S^(1/2))^(1/2))

    Example:
        >>> one, other = (np.zeros(2), np.eye(2)), (np.ones(2), 4 * np.eye(2))
        >>> round(frechet_distance(one, other), 6)
        4.0
    """
    (m, s), (n, t) = one, other
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ t @ root), 0)).sum()
    return float(((m - n) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * between)


def _scaled(x: np.ndarray, dataset: Dataset) -> Array:
    return jnp.asarray(x, jnp.float32) / dataset.largest


def _logits(weights: Layers, x: Array) -> Array:
    return dense(weights, x, jax.nn.relu)


def _features(weights: Layers, x: Array) -> np.ndarray:
    return np.asarray(hidden(weights, x, jax.nn.relu), np.float64)


def _trained(dataset: Dataset, seed: int) -> Layers:
    first, order = jax.random.split(jax.random.key(seed))
    start = layers(first, (dataset.train_x.shape[1], *_UNITS, CLASSES))
    optimiser = optax.adam(_RATE)
    x, y = jnp.asarray(dataset.train_x), jnp.asarray(dataset.train_y)

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        weights, state = carry
        rows = jax.random.randint(key, (_BATCH,), 0, len(x))

        def loss(weights: Layers) -> Array:
            logits = _logits(weights, x[rows].astype(jnp.float32) / dataset.largest)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

        update, state = optimiser.update(jax.grad(loss)(weights), state)
        return (optax.apply_updates(weights, update), state), None

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
    return run((start, optimiser.init(start)), jax.random.split(order, _STEPS))[0]


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """As results keep them."""
    return {name: round(value, 6) for name, value in scores.items()}
