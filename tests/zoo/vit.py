"""Patches as tokens: a vision transformer in NNX, and an MLP-Mixer in Linen."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.zoo.build import image, linen_parts, nnx_parts
from tests.zoo.example import Example, Parts


class Encoder(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, width, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class ViT(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        width = 8
        self.patches = nnx.Conv(3, width, (4, 4), strides=(4, 4), padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, width)))
        self.positions = nnx.Param(jnp.zeros((1, 5, width)))
        self.blocks = nnx.List([Encoder(width, rngs=rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.patches(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        h = nn.gelu(nn.Dense(self.hidden)(x))
        return nn.Dense(x.shape[-1])(h)


class MixerBlock(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        h = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        x = x + jnp.swapaxes(Mlp(6, name="token_mixing")(h), 1, 2)
        return x + Mlp(12, name="channel_mixing")(nn.LayerNorm()(x))


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(6, (4, 4), strides=(4, 4), name="stem")(x)
        x = x.reshape(len(x), -1, x.shape[-1])
        for _ in range(2):
            x = MixerBlock()(x)
        x = nn.LayerNorm(name="norm")(x)
        return jax.nn.log_softmax(nn.Dense(5, name="head")(x.mean(1)))


def make() -> Parts:
    return nnx_parts(lambda rngs: ViT(rngs=rngs), image())


def make_mixer() -> Parts:
    return linen_parts(Mixer(), image())


EXAMPLES = (
    Example("ViT", "nnx", "vision", make, activations=4, optional=2),
    Example("MLP-Mixer", "linen", "vision", make_mixer, activations=4),
)
