"""A U-Net in NNX: skips beside transposed convolutions, and a probability for each pixel."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from tests.zoo.build import image, nnx_parts
from tests.zoo.example import Example, Parts


class Twice(nnx.Module):
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.first = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.second = nnx.Conv(outputs, outputs, (3, 3), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return nnx.relu(self.second(nnx.relu(self.first(x))))


class UNet(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.down = Twice(1, 4, rngs=rngs)
        self.bottom = Twice(4, 6, rngs=rngs)
        self.up = nnx.ConvTranspose(6, 4, (2, 2), strides=(2, 2), rngs=rngs)
        self.last = Twice(8, 4, rngs=rngs)
        self.output = nnx.Conv(4, 1, (1, 1), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        skip = self.down(x)
        x = self.bottom(nnx.max_pool(skip, (2, 2), strides=(2, 2)))
        x = jnp.concatenate([skip, self.up(x)], axis=-1)
        return nnx.sigmoid(self.output(self.last(x)))


def make() -> Parts:
    return nnx_parts(lambda rngs: UNet(rngs=rngs), image(channels=1))


EXAMPLES = (
    Example(
        "U-Net",
        "nnx",
        "vision",
        make,
        activations=7,
        errors={"log_joint": "one number for the 2 rows"},  # all its nodes are images
    ),
)
