"""Variational autoencoders of black and white images: one layer of latent nodes between layers of
tanh, two in the encoder and two in the decoder.

Both networks are of one image, as `cgjax.elbo` takes them: `decoder` is the model, whose nodes are
the latent ones, "z", and the pixels, "x"; `encoder` is the guide, which proposes the latent ones.

Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016, section 5; Kingma
and Welling, "Auto-encoding variational Bayes", 2014.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import cgjax as cg

Params = dict[str, dict[str, Array]]

# No pixel is taken to be white or black more rarely at first.
_RAREST = 1e-3


class Shape(NamedTuple):
    """What a network is made of."""

    means: tuple[float, ...]  # of each pixel over the images for training: how often it is white
    hidden: int  # nodes of each layer of tanh
    latent: int  # latent nodes
    binary: bool = False  # whether latent nodes are Bernoulli ones, else Gaussian

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each affine map."""
        pixels, hidden, latent, binary = len(self.means), *self[1:]
        proposal = {"mean": (hidden, latent), "log_scale": (hidden, latent)}
        if binary:
            proposal = {"logits": (hidden, latent)}
        encoder = {"encode_1": (pixels, hidden), "encode_2": (hidden, hidden), **proposal}
        decoder = {"decode_1": (latent, hidden), "decode_2": (hidden, hidden)}
        return encoder | decoder | {"pixels": (hidden, pixels)}


def initial(shape: Shape, key: Key[Array, ""]) -> Params:
    """Kernels that are uniform with the variance 2 / (inputs + outputs), and biases of 0, but for
    those of the pixels: these are white as often as in the images for training."""

    def layer(key: Any, inputs: int, outputs: int) -> dict[str, Array]:
        bound = (6 / (inputs + outputs)) ** 0.5
        kernel = jax.random.uniform(key, (inputs, outputs), minval=-bound, maxval=bound)
        return {"kernel": kernel, "bias": jnp.zeros(outputs)}

    layers = shape.layers
    keys = jax.random.split(key, len(layers))
    params = {name: layer(k, *layers[name]) for name, k in zip(layers, keys, strict=True)}
    white = jnp.clip(jnp.array(shape.means), _RAREST, 1 - _RAREST)
    params["pixels"]["bias"] = jnp.log(white) - jnp.log1p(-white)
    return params


def affine(layer: Mapping[str, Array], x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
    """The map of a layer."""
    return x @ layer["kernel"] + layer["bias"]


def pixels(params: Params, z: Float[Array, " latent"]) -> Float[Array, " pixels"]:
    """The logits of white pixels, given the latent nodes."""
    h = jnp.tanh(affine(params["decode_1"], z))
    h = jnp.tanh(affine(params["decode_2"], h))
    return affine(params["pixels"], h)


def decoder(shape: Shape) -> Callable[[Params], Float[Array, " pixels"]]:
    """The model of one image: latent nodes without parents, and the probability of white."""
    family = cg.nodes.Bernoulli() if shape.binary else cg.nodes.Gaussian(1.0)

    def model(params: Params) -> Array:
        z = cg.node(family, jnp.zeros(shape.latent), name="z")
        return cg.node(cg.nodes.Bernoulli(), pixels(params, z), name="x")

    return model


def encoder(shape: Shape) -> Callable[[Mapping[str, Array], Params], Float[Array, " latent"]]:
    """The guide of one image, `guide({"x": image}, params)`: the latent nodes given its pixels.

    It sees how these differ from their means: after six epochs of MNIST this, and biases of the
    pixels that begin at their means, are worth ten nats.
    """
    means = np.array(shape.means, np.float32)

    def guide(observed: Mapping[str, Array], params: Params) -> Array:
        h = jnp.tanh(affine(params["encode_1"], observed["x"] - means))
        h = jnp.tanh(affine(params["encode_2"], h))
        if shape.binary:
            return cg.node(cg.nodes.Bernoulli(), affine(params["logits"], h), name="z")
        scale = jnp.exp(affine(params["log_scale"], h))
        return cg.node(cg.nodes.Gaussian(scale), affine(params["mean"], h), name="z")

    return guide
