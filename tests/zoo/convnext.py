"""ConvNeXt in Equinox: depthwise convolutions, layer norms over channels, GELU, scaled branches."""

from typing import Any

import jax

from tests.zoo.build import equinox_parts, image
from tests.zoo.example import Example, Parts


def make() -> Parts:
    import equinox as eqx

    class Norm(eqx.Module):
        """A layer norm over the channels, which are the first axis."""

        norm: eqx.nn.LayerNorm

        def __init__(self, channels: int):
            self.norm = eqx.nn.LayerNorm(channels)

        def __call__(self, x: Any) -> Any:
            over_rows = jax.vmap(self.norm, in_axes=1, out_axes=1)
            return jax.vmap(over_rows, in_axes=2, out_axes=2)(x)

    class Block(eqx.Module):
        depthwise: eqx.nn.Conv2d
        norm: Norm
        up: eqx.nn.Conv2d
        down: eqx.nn.Conv2d
        scale: jax.Array

        def __init__(self, channels: int, key: Any):
            k1, k2, k3 = jax.random.split(key, 3)
            conv = eqx.nn.Conv2d
            self.depthwise = conv(channels, channels, 3, padding=1, groups=channels, key=k1)
            self.norm = Norm(channels)
            self.up = conv(channels, 2 * channels, 1, key=k2)
            self.down = conv(2 * channels, channels, 1, key=k3)
            self.scale = jax.numpy.ones((channels, 1, 1))

        def __call__(self, x: Any) -> Any:
            h = self.norm(self.depthwise(x))
            h = self.down(jax.nn.gelu(self.up(h), approximate=False))
            return x + self.scale * h

    class ConvNeXt(eqx.Module):
        stem: eqx.nn.Conv2d
        stem_norm: Norm
        first: Block
        downsample_norm: Norm
        downsample: eqx.nn.Conv2d
        second: Block
        head_norm: eqx.nn.LayerNorm
        head: eqx.nn.Linear

        def __init__(self, key: Any):
            keys = jax.random.split(key, 5)
            self.stem = eqx.nn.Conv2d(3, 4, 2, stride=2, key=keys[0])
            self.stem_norm = Norm(4)
            self.first = Block(4, keys[1])
            self.downsample_norm = Norm(4)
            self.downsample = eqx.nn.Conv2d(4, 6, 2, stride=2, key=keys[2])
            self.second = Block(6, keys[3])
            self.head_norm = eqx.nn.LayerNorm(6)
            self.head = eqx.nn.Linear(6, 5, key=keys[4])

        def __call__(self, x: Any) -> Any:
            x = self.first(self.stem_norm(self.stem(x)))
            x = self.second(self.downsample(self.downsample_norm(x)))
            return self.head(self.head_norm(x.mean((1, 2))))

    return equinox_parts(ConvNeXt, image().transpose(0, 3, 1, 2))


EXAMPLES = (Example("ConvNeXt", "equinox", "vision", make, activations=2),)
