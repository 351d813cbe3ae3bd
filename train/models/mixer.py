"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601), of [B] Table 1."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from train.models.parts import Images, Norm, Parts, check_norm

Tokens = Float[Array, "batch tokens channels"]


class Perceptron(nnx.Module):
    """Affine, GELU, affine, back to as many features."""

    def __init__(self, features: int, inner: int, parts: Parts):
        self.first = nnx.Linear(features, inner, dtype=parts.dtype, rngs=parts.rngs)
        self.second = nnx.Linear(inner, features, dtype=parts.dtype, rngs=parts.rngs)

    def __call__(self, x: Tokens) -> Tokens:
        return self.second(jax.nn.gelu(self.first(x)))


class MixerLayer(nnx.Module):
    """A perceptron over tokens, the same for each channel, then one over channels, the same for
    each token; both read their input normalised, and are added to it."""

    def __init__(
        self, tokens: int, width: int, over_tokens: int, over_channels: int, scale: float,
        parts: Parts,
    ):  # fmt: skip
        self.token_norm = parts.normalisation(width)
        self.over_tokens = Perceptron(tokens, over_tokens, parts)
        self.token_scale = parts.branch(scale)
        self.channel_norm = parts.normalisation(width)
        self.over_channels = Perceptron(width, over_channels, parts)
        self.channel_scale = parts.branch(scale)

    def __call__(self, x: Tokens) -> Tokens:
        mixed = self.over_tokens(self.token_norm(x).swapaxes(1, 2)).swapaxes(1, 2)
        x = x + self.token_scale(mixed)
        return x + self.channel_scale(self.over_channels(self.channel_norm(x)))


class Mixer(nnx.Module):
    """MLP-Mixer; by default Mixer-S.

    Args:
        patch: rows and columns of a patch, whose pixels are one token's input.
        width: channels of a token, C.
        over_tokens, over_channels: the inner widths of the two perceptrons, D_S and D_C.
        layers: their number.
        side, channels, classes: rows and columns of an image, its channels; the number of logits.
        norm: "layer" is the network's own.
        scale: what branches begin to be multiplied by where nothing is normalised; none:
            1/sqrt(2 layers).
        dtype: of the computation; none: that of images and parameters.
        noise: M of `cg.layers.StochasticNorm`, with the stochastic normalisation.

    Raises:
        ValueError: patches do not tile an image; another normalisation.
    """

    def __init__(
        self,
        patch: int = 4,
        width: int = 512,
        over_tokens: int = 256,
        over_channels: int = 2048,
        layers: int = 8,
        *,
        side: int = 32,
        channels: int = 3,
        classes: int = 10,
        norm: Norm = "layer",
        scale: float | None = None,
        dtype: Any = None,
        noise: float = 32.0,
        rngs: nnx.Rngs,
    ):
        if side % patch:
            raise ValueError(f"Patches of {patch} pixels do not tile images of {side}.")
        check_norm(norm, False)
        parts = Parts(norm, rngs, dtype=dtype, noise=noise)
        initial = (2 * layers) ** -0.5 if scale is None else scale
        self.patch = patch
        self.tokens = (side // patch) ** 2
        self.first = nnx.Linear(patch**2 * channels, width, dtype=dtype, rngs=rngs)
        self.layers = nnx.List(
            MixerLayer(self.tokens, width, over_tokens, over_channels, initial, parts)
            for _ in range(layers)
        )
        self.norm = parts.normalisation(width)
        self.output = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: Images) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.first(patches(x, self.patch))
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x).mean(1))


def patches(x: Images, side: int) -> Tokens:
    """The values of each patch, by row, column and channel, as one token."""
    batch, rows, columns, channels = x.shape
    x = x.reshape(batch, rows // side, side, columns // side, side, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, side**2 * channels)
