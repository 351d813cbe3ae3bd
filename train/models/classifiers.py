"""The networks of [B] Figure 1, without nodes: dense layers, and VGG for images of 32 x 32 pixels,
without normalisation; and the deviations of weights that keep the size of their activations."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

Stages = Sequence[Sequence[int]]
# Channels of the convolutions of each stage; a stage ends with max pooling.
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALL = ((16,), (32,), (64,))


class Perceptron(nnx.Module):
    """Dense layers with ReLU in between, He-normal weights and biases 0. The widths are the number
    of inputs, of nodes of each hidden layer, and of outputs."""

    def __init__(self, widths: Sequence[int], rngs: nnx.Rngs):
        initial = nnx.initializers.he_normal()
        self.layers = nnx.List(
            nnx.Linear(*pair, kernel_init=initial, rngs=rngs) for pair in itertools.pairwise(widths)
        )

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch outputs"]:
        """The outputs."""
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


class VGG(nnx.Module):
    """Stages of 3 x 3 convolutions and ReLU, each followed by 2 x 2 max pooling; then logits.

    For 32 x 32 images the five stages of VGG16 leave one position of 512 channels, and the three
    fully connected layers of the original network for 224 x 224 images shrink to one, as is usual
    on CIFAR-10. Weights are He-normal at first, biases 0. The channels of the convolutions of each
    stage are `VGG16` or `SMALL`, for example; an image has `side` rows and as many columns.
    """

    def __init__(self, stages: Stages, side: int, channels: int, classes: int, rngs: nnx.Rngs):
        if side % 2 ** len(stages):
            raise ValueError(
                f"images of {side} pixels cannot be halved {len(stages)} times; expected a "
                f"multiple of {2 ** len(stages)}."
            )
        self.shape = (side, side, channels)
        self.lengths = tuple(map(len, stages))
        initial = nnx.initializers.he_normal()
        widths = [channels, *(width for stage in stages for width in stage)]
        self.convolutions = nnx.List(
            nnx.Conv(*pair, (3, 3), kernel_init=initial, rngs=rngs)
            for pair in itertools.pairwise(widths)
        )
        positions = (side // 2 ** len(stages)) ** 2
        self.output = nnx.Linear(positions * widths[-1], classes, kernel_init=initial, rngs=rngs)

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """The logits of flat images, whose rows, columns and channels follow in this order."""
        h = x.reshape(-1, *self.shape)
        convolutions = iter(self.convolutions)
        for length in self.lengths:
            for _ in range(length):
                h = nnx.relu(next(convolutions)(h))
            h = nnx.max_pool(h, (2, 2), strides=(2, 2))
        return self.output(h.reshape(h.shape[0], -1))


def kernel_deviations(params: Any) -> dict[str, float]:
    """sqrt(2 / inputs) of each kernel of dense layers or convolutions, which keeps the size of ReLU
    activations, by its name."""
    deviations = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if name.endswith("kernel"):
            deviations[name] = math.sqrt(2 / math.prod(leaf.shape[:-1]))
    return deviations
