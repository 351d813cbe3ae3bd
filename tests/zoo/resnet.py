"""Residual networks: blocks of two convolutions in NNX; in Linen bottlenecks, activations first."""

from functools import partial
from typing import Any

import flax.linen as nn
from flax import nnx

from tests.zoo.build import image, linen_parts, nnx_parts
from tests.zoo.example import Example, Parts


class Block(nnx.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), padding="SAME", use_bias=False, rngs=rngs)
        self.conv1 = conv(inputs, outputs, strides=stride)
        self.norm1 = nnx.BatchNorm(outputs, rngs=rngs)
        self.conv2 = conv(outputs, outputs)
        self.norm2 = nnx.BatchNorm(outputs, rngs=rngs)
        if inputs != outputs:
            self.shortcut = nnx.Conv(inputs, outputs, (1, 1), stride, use_bias=False, rngs=rngs)
        else:
            self.shortcut = lambda x: x

    def __call__(self, x: Any) -> Any:
        h = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.shortcut(x) + self.norm2(self.conv2(h)))


class ResNet(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([Block(4, 4, 1, rngs=rngs), Block(4, 8, 2, rngs=rngs)])
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Bottleneck(nn.Module):
    filters: int
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        norm = partial(nn.BatchNorm, use_running_average=not train)
        conv = partial(nn.Conv, use_bias=False)
        h = nn.relu(norm()(x))
        if x.shape[-1] != 2 * self.filters or self.strides != (1, 1):
            x = conv(2 * self.filters, (1, 1), self.strides, name="projection")(h)
        h = conv(self.filters, (1, 1))(h)
        h = nn.relu(norm()(h))
        h = conv(self.filters, (3, 3), self.strides)(h)
        h = nn.relu(norm()(h))
        return x + conv(2 * self.filters, (1, 1))(h)


class PreActivationResNet(nn.Module):
    classes: int = 5

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = Bottleneck(4)(x, train)
        x = Bottleneck(4, (2, 2))(x, train)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(self.classes)(x.mean((1, 2)))


def make() -> Parts:
    return nnx_parts(lambda rngs: ResNet(rngs=rngs), image())


def make_preactivation() -> Parts:
    return linen_parts(PreActivationResNet(), image(), train=False)


EXAMPLES = (
    Example("ResNet", "nnx", "vision", make, activations=5),
    Example("ResNet v2", "linen", "vision", make_preactivation, activations=7),
)
