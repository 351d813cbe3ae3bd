"""Images, networks and their training; see `train.segmentation`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key, UInt8

import cgjax as cg
from train.data import Dataset
from train.segmentation.settings import Config, Model

LABELS = 2  # black and white
# A pixel that is wrong for certain costs so many nats, no more.
_MOST_NATS = 30.0


class Images(NamedTuple):
    """Black and white images, uint8[seeds, images, height, width], as they are and with noise."""

    true: np.ndarray
    noisy: np.ndarray


class Parameters(NamedTuple):
    """Of a network; the couplings are not used by "unary"."""

    kernel: Float[Array, "3 3 1 labels"]
    bias: Float[Array, " labels"]
    couplings: Float[Array, "2 labels labels"]


def images_of(config: Config, dataset: Dataset) -> tuple[Images, Images]:
    """For training and for testing, with noise of its own for each seed. ValueError if there are
    fewer rows of pixels than asked for."""
    width = round(dataset.train_x.shape[1] ** 0.5)
    rows = config.rows or width
    if rows > width:
        raise ValueError(f"rows is {rows}; expected at most {width}, which the images have.")
    first = (width - rows) // 2

    def made(x: np.ndarray, stream: int) -> Images:
        pixels = x[: config.images].reshape(-1, width, width)[:, first : first + rows]
        white = (pixels > dataset.largest / 2).astype(np.uint8)
        drawn = (np.random.default_rng([seed, stream]).random(white.shape) for seed in config.seeds)
        flips = np.stack([each < config.flipped for each in drawn])
        true = np.broadcast_to(white, flips.shape)
        return Images(true, true ^ flips.astype(np.uint8))

    return made(dataset.train_x, 0), made(dataset.test_x, 1)


def check_size(config: Config, images: Images) -> None:
    """ValueError if exact inference is asked for, of images that are too large for it."""
    if "exact" in config.models:
        shape = *images.true.shape[2:], LABELS
        cg.nodes.Grid(jnp.zeros((LABELS, LABELS)), inference="exact").check(shape)


def network(config: Config, model: Model) -> Callable[[Parameters, Array], Array]:
    """Marginals of the labels of noisy images, [images, height, width, labels]."""

    def f(parameters: Parameters, noisy: UInt8[Array, "images height width"]) -> Array:
        inputs = 2.0 * noisy.astype(jnp.float32)[..., None] - 1
        dimensions = ("NHWC", "HWIO", "NHWC")
        scores = lax.conv_general_dilated(
            inputs, parameters.kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )
        scores = scores + parameters.bias.reshape(1, 1, 1, -1)
        if model == "unary":
            return cg.node(cg.nodes.Categorical(), scores, name="pixels")
        grid = cg.nodes.Grid(parameters.couplings, config.iterations, inference=model)
        return cg.node(grid, scores, name="pixels")

    return f


def costs(marginals: Array, true: UInt8[Array, "images height width"]) -> Array:
    """Nats of each true pixel."""
    chosen = jnp.take_along_axis(marginals, true[..., None].astype(int), axis=-1)[..., 0]
    return -jnp.log(jnp.maximum(chosen, np.exp(-_MOST_NATS)))


def initial(key: Key[Array, ""]) -> Parameters:
    """Small random scores, and neighbours that do not touch yet."""
    kernel = 0.1 * jax.random.normal(key, (3, 3, 1, LABELS))
    return Parameters(kernel, jnp.zeros(LABELS), jnp.zeros((2, LABELS, LABELS)))


def train(config: Config, model: Model, images: Images) -> Parameters:
    """The parameters of all seeds, along a leading axis, which are trained side by side."""
    f, optimiser = network(config, model), optax.adam(config.learning_rate)
    count = images.true.shape[1]
    batches = max(count // config.batch_size, 1)

    def step(state: tuple[Any, Any], batch: Any) -> tuple[tuple[Any, Any], None]:
        parameters, moments = state
        true, noisy = batch
        slopes = jax.grad(lambda p: costs(f(p, noisy), true).mean())(parameters)
        updates, moments = optimiser.update(slopes, moments, parameters)
        return (optax.apply_updates(parameters, updates), moments), None

    def one(key: Any, true: Array, noisy: Array) -> Parameters:
        first, rest = jax.random.split(key)
        parameters = initial(first)

        def epoch(state: tuple[Any, Any], key: Any) -> tuple[tuple[Any, Any], None]:
            order = jax.random.permutation(key, count)[: batches * config.batch_size]
            parts = (
                images[order].reshape(batches, -1, *images.shape[1:]) for images in (true, noisy)
            )
            return lax.scan(step, state, tuple(parts))[0], None

        state = parameters, optimiser.init(parameters)
        return lax.scan(epoch, state, jax.random.split(rest, config.epochs))[0][0]

    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    return jax.jit(jax.vmap(one))(keys, *map(jnp.asarray, images))


@functools.partial(jax.jit, static_argnums=0)
def _tested(
    f: Any, parameters: Parameters, true: Array, noisy: Array
) -> tuple[Array, Array, Array]:
    def one(parameters: Parameters, true: Array, noisy: Array) -> tuple[Array, Array, Array]:
        marginals = f(parameters, noisy)
        wrong = marginals.argmax(-1) != true
        return wrong.mean((1, 2)), costs(marginals, true).mean((1, 2)), marginals[..., 1]

    return jax.vmap(one)(parameters, true, noisy)


def test(
    config: Config, model: Model, parameters: Parameters, images: Images
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each seed the share of wrong pixels and the nats of a pixel; and the marginals of white of
    the first seed's first images."""
    f, found = network(config, model), []
    for start in range(0, images.true.shape[1], 500):
        part = [jnp.asarray(each[:, start : start + 500]) for each in images]
        found.append([np.asarray(each) for each in _tested(f, parameters, *part)])
    wrong, nats, white = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    wrong, nats = (np.asarray(each.mean(1, dtype=np.float64)) for each in (wrong, nats))
    return wrong, nats, white[0, : config.kept]
