"""MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601), of [B] Table 1."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from train.models.parts import Images, Parts

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
        self, tokens: int, width: int, over_tokens: int, over_channels: int,
        branches: int, parts: Parts,
    ):  # fmt: skip
        self.token_norm = parts.normalisation(width)
        self.over_tokens = Perceptron(tokens, over_tokens, parts)
        self.token_scale = parts.branch(branches)
        self.channel_norm = parts.normalisation(width)
        self.over_channels = Perceptron(width, over_channels, parts)
        self.channel_scale = parts.branch(branches)

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
        parts: what it is made of; the normalisation "layer" is the network's own.

    Raises:
        ValueError: patches do not tile an image; another normalisation; standardised kernels.
    """

    def __init__(
        self,
        patch: int = 4,
        width: int = 512,
        over_tokens: int = 256,
        over_channels: int = 2048,
        layers: int = 8,
        *,
        parts: Parts,
    ):
        if parts.side % patch:
            raise ValueError(f"Patches of {patch} pixels do not tile images of {parts.side}.")
        if parts.standardised:
            raise ValueError("A Mixer has no convolutions to standardise, got standardised=True.")
        parts = parts.checked("layer")
        self.patch = patch
        self.tokens = (parts.side // patch) ** 2
        self.first = nnx.Linear(
            patch**2 * parts.channels, width, dtype=parts.dtype, rngs=parts.rngs
        )
        self.layers = nnx.List(
            MixerLayer(self.tokens, width, over_tokens, over_channels, 2 * layers, parts)
            for _ in range(layers)
        )
        self.norm = parts.normalisation(width)
        self.output = parts.logits(width)

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
