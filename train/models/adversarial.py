"""A generator, which is an implicit model, and a critic: dense networks ([C]).

z ~ N(0, 1),    x = generator(z),    v = critic(x)
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

import cgjax as cg

NORMAL = cg.nodes.Gaussian(1.0)


class Layer(NamedTuple):
    """An affine map."""

    kernel: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]


Layers = tuple[Layer, ...]


class Weights(NamedTuple):
    """Of both networks."""

    generator: Layers
    critic: Layers


class Sizes(NamedTuple):
    """What they are built from."""

    latent: int  # Gaussian nodes
    hidden: int  # units of each of two hidden layers
    features: int  # numbers of an example
    bounded: bool  # whether these are in [0, 1]


def layers(key: Key[Array, ""], sizes: Sequence[int]) -> Layers:
    """First weights for ReLU units (He et al. 2015), the last ones half as large; biases of 0."""
    pairs = list(pairwise(sizes))
    keys = jax.random.split(key, len(pairs))
    scales = [(2 / inputs) ** 0.5 for inputs, _ in pairs]
    scales[-1] /= 2
    return tuple(
        Layer(scale * jax.random.normal(key, pair), jnp.zeros(pair[1]))
        for key, scale, pair in zip(keys, scales, pairs, strict=True)
    )


def initial(key: Key[Array, ""], sizes: Sizes) -> Weights:
    """Weights before training."""
    generator, critic = jax.random.split(key)
    between = sizes.hidden, sizes.hidden
    return Weights(
        layers(generator, (sizes.latent, *between, sizes.features)),
        layers(critic, (sizes.features, *between, 1)),
    )


def hidden(
    layers: Layers, x: Float[Array, "n inputs"], unit: Callable[[Array], Array]
) -> Float[Array, "n units"]:
    """The units of the last hidden layer."""
    for kernel, bias in layers[:-1]:
        x = unit(x @ kernel + bias[None])
    return x


def dense(
    layers: Layers, x: Float[Array, "n inputs"], unit: Callable[[Array], Array]
) -> Float[Array, "n outputs"]:
    """Affine maps with units between them."""
    kernel, bias = layers[-1]
    return hidden(layers, x, unit) @ kernel + bias[None]


def generator(sizes: Sizes, number: int, weights: Layers) -> Float[Array, "number features"]:
    """So many examples, as a network whose nodes are "z"."""
    z = cg.node(NORMAL, jnp.zeros((number, sizes.latent)), name="z")
    x = dense(weights, z, jax.nn.relu)
    return jax.nn.sigmoid(x) if sizes.bounded else x


def critic(x: Float[Array, "n features"], weights: Layers) -> Float[Array, " n"]:
    """A number for each example."""
    return dense(weights, x, _leaky)[:, 0]


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, 0.2)
