"""DenseNet-BC for small images (Huang et al. 2017, arXiv 1608.06993), of [B] Table 1."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from train.models.parts import Images, Parts, halved, pooled


class Bottleneck(nnx.Module):
    """x, and behind it k new channels: a 1 x 1 convolution to 4 k channels and a 3 x 3 one to k,
    each after a normalisation and ReLU."""

    def __init__(self, inputs: int, growth: int, parts: Parts):
        self.norm_1 = parts.normalisation(inputs)
        self.convolution_1 = parts.convolution(inputs, 4 * growth, 1)
        self.norm_2 = parts.normalisation(4 * growth)
        self.convolution_2 = parts.convolution(4 * growth, growth, 3)

    def __call__(self, x: Images) -> Images:
        h = self.convolution_1(jax.nn.relu(self.norm_1(x)))
        new = self.convolution_2(jax.nn.relu(self.norm_2(h)))
        return jnp.concatenate([x.astype(new.dtype), new], -1)


class Transition(nnx.Module):
    """Half the channels, by a 1 x 1 convolution after a normalisation and ReLU, and half the rows
    and columns, by averages."""

    def __init__(self, inputs: int, outputs: int, parts: Parts):
        self.norm = parts.normalisation(inputs)
        self.convolution = parts.convolution(inputs, outputs, 1)

    def __call__(self, x: Images) -> Images:
        return halved(self.convolution(jax.nn.relu(self.norm(x))))


class DenseNetBC(nnx.Module):
    """DenseNet-BC: three blocks of (depth - 4) / 6 bottleneck layers, compression 1/2 between them.

    Without normalisation nothing needs to be scaled: a layer's input is a list of features of one
    variance, so that He-normal kernels keep it.

    Args:
        depth, growth: L and k.
        parts: what it is made of; no branches are scaled.

    Raises:
        ValueError: the depth is not 4 more than a multiple of 6; another normalisation.
    """

    def __init__(
        self,
        depth: int = 100,
        growth: int = 12,
        *,
        parts: Parts,
    ):
        number, left = divmod(depth - 4, 6)
        if left or number < 1:
            raise ValueError(f"The depth of a DenseNet-BC is 6 n + 4, n at least 1, got {depth}.")
        parts = parts.checked("batch")
        width = 2 * growth
        self.first = parts.convolution(parts.channels, width, 3)
        layers: list[Bottleneck | Transition] = []
        for block in range(3):
            if block:
                layers.append(Transition(width, width // 2, parts))
                width //= 2
            for _ in range(number):
                layers.append(Bottleneck(width, growth, parts))
                width += growth
        self.layers = nnx.List(layers)
        self.norm = parts.normalisation(width)
        self.output = parts.logits(width)

    def __call__(self, x: Images) -> Float[Array, "batch classes"]:
        """The logits of images whose sides are multiples of 4."""
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return self.output(pooled(jax.nn.relu(self.norm(x))))
