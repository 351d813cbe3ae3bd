"""Images, and networks as the training loop takes them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

import cgjax as cg
from train.data import Dataset
from train.engine.loop import First, Learner, Loss, Variables
from train.models.autoencoder import Shape, decoder, encoder, initial
from train.vae.settings import Cell, Config

VALIDATION = 1000  # of the published sets: the last images of the file for training
_BINARISED = 3  # the first number of the seeds that images become black and white by
_KEY_OF_VALIDATION = (
    17  # one for all epochs and runs, so that bounds are compared by the same noise
)


def images_of(config: Config, known: Dataset) -> Dataset:
    """Images of which those for validation and test are black and white, and those for training
    too, if binarisation is fixed."""
    x = np.concatenate([known.train_x, known.validation_x])
    y = np.concatenate([known.train_y, known.validation_y])
    held = len(known.validation_x) if config.data == "digits" else min(VALIDATION, len(x) // 2)
    train, validation = x[:-held][: config.images], x[-held:]
    whole = "" if len(train) == len(x) - held else f", of which the first {len(train)} for training"
    seed = f"fixed by seed {config.binarisation_seed}"
    way = f"black and white anew in each step, test {seed}"
    if config.binarisation == "fixed":
        train, way = binarised(config, known, train, 0), f"black and white {seed}"
    return known._replace(
        train_x=train,
        train_y=y[:-held][: config.images],
        validation_x=binarised(config, known, validation, 1),
        validation_y=y[-held:],
        test_x=binarised(config, known, known.test_x, 2),
        source=f"{known.source}{whole}; {way}",
    )


def binarised(
    config: Config, known: Dataset, x: UInt8[np.ndarray, "n pixels"], part: int
) -> UInt8[np.ndarray, "n pixels"]:
    """Images that are white with the probability of their grey levels, by the seed for it and the
    number of the part; white is `known.largest`."""
    generator = np.random.default_rng([config.binarisation_seed, _BINARISED, part])
    white = known.largest * generator.random(x.shape, np.float32) < x
    return (known.largest * white).astype(np.uint8)


def shape_of(config: Config, cell: Cell, dataset: Dataset) -> Shape:
    """The network of a cell."""
    scale = config.scale
    means = (dataset.train_x.mean(0, dtype=np.float64) / dataset.largest).tolist()
    return Shape(tuple(means), scale.hidden, scale.latent_size, cell.latent == "bernoulli")


def bound_of(shape: Shape, cell: Cell) -> Callable[..., cg.Bound]:
    """The bound of one image, `bound(key, {"x": image}, params)`, that a cell is learnt by, but for
    its first epochs."""
    pair, samples, gradient = (decoder(shape), encoder(shape)), cell.samples, cell.gradient
    if gradient == "straight_through" or samples == 1:
        way: Any = "straight_through" if gradient == "straight_through" else "pathwise"
        return cg.elbo(*pair, num_samples=samples, gradient=way)
    return cg.importance_weighted(*pair, num_samples=samples, gradient=gradient)


@functools.lru_cache
def learner(shape: Shape, cell: Cell, dynamic: bool) -> Learner:
    """What is trained: the mean bound of a batch is maximised, in its first epochs the cheapest.
    Validation is by the cell's own bound in all epochs, so that they are compared. Pixels of
    *dynamic* images are white with the probability of their grey level."""

    def bounds_of(cell: Cell) -> Callable[[Any, Any, Array], Array]:
        bound = jax.vmap(bound_of(shape, cell), (0, 0, None))

        def bounds(params: Any, key: Any, x: Array) -> Array:
            return bound(jax.random.split(key, len(x)), {"x": x}, params).value

        return bounds

    def loss_of(bounds: Callable[[Any, Any, Array], Array]) -> Loss:
        def loss(variables: Variables, key: Any, hyper: Any, x: Array, y: Array) -> Any:
            noise, pixels = jax.random.split(key)
            if dynamic:
                x = (jax.random.uniform(pixels, x.shape) < x).astype(x.dtype)
            return -bounds(variables.params, noise, x).mean(), (jnp.int32(0), ())

        return loss

    bounds = bounds_of(cell)

    def init(key: Any) -> Variables:
        return Variables(initial(shape, key), ())

    def log_probs(variables: Variables, x: Array) -> Array:
        return bounds(variables.params, jax.random.key(_KEY_OF_VALIDATION), x)

    epochs = cell.first_epochs
    first = First(epochs, loss_of(bounds_of(cell.cheapest))) if epochs else None
    return Learner(init, loss_of(bounds), log_probs, classifies=False, first=first)
