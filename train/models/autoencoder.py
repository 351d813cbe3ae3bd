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
from jaxtyping import Array, Float, Key

import cgjax as cg

Params = dict[str, dict[str, Array]]


class Shape(NamedTuple):
    """How many nodes there are."""

    pixels: int
    hidden: int  # of each layer of tanh
    latent: int
    binary: bool = False  # whether latent nodes are Bernoulli ones, else Gaussian

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each affine map."""
        pixels, hidden, latent, binary = self
        proposal = {"mean": (hidden, latent), "log_scale": (hidden, latent)}
        if binary:
            proposal = {"logits": (hidden, latent)}
        encoder = {"encode_1": (pixels, hidden), "encode_2": (hidden, hidden), **proposal}
        decoder = {"decode_1": (latent, hidden), "decode_2": (hidden, hidden)}
        return encoder | decoder | {"pixels": (hidden, pixels)}


def initial(shape: Shape, key: Key[Array, ""]) -> Params:
    """Kernels that are uniform with the variance 2 / (inputs + outputs), and biases of 0."""

    def layer(key: Any, inputs: int, outputs: int) -> dict[str, Array]:
        bound = (6 / (inputs + outputs)) ** 0.5
        kernel = jax.random.uniform(key, (inputs, outputs), minval=-bound, maxval=bound)
        return {"kernel": kernel, "bias": jnp.zeros(outputs)}

    layers = shape.layers
    keys = jax.random.split(key, len(layers))
    return {name: layer(k, *layers[name]) for name, k in zip(layers, keys, strict=True)}


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
    """The guide of one image, `guide({"x": image}, params)`: the latent nodes given its pixels."""

    def guide(observed: Mapping[str, Array], params: Params) -> Array:
        h = jnp.tanh(affine(params["encode_1"], observed["x"]))
        h = jnp.tanh(affine(params["encode_2"], h))
        if shape.binary:
            return cg.node(cg.nodes.Bernoulli(), affine(params["logits"], h), name="z")
        scale = jnp.exp(affine(params["log_scale"], h))
        return cg.node(cg.nodes.Gaussian(scale), affine(params["mean"], h), name="z")

    return guide
