"""A densely connected network in Haiku: each layer's result is put beside all before it."""

from typing import Any

import jax
import jax.numpy as jnp

from tests.zoo.build import haiku_parts, image
from tests.zoo.example import Example, Parts


def make() -> Parts:
    import haiku as hk

    def net(x: Any, is_training: bool) -> Any:
        def activated(x: Any) -> Any:
            norm = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)
            return jax.nn.relu(norm(x, is_training))

        def dense_block(x: Any, layers: int, growth: int) -> Any:
            for _ in range(layers):
                h = hk.Conv2D(growth, 3, with_bias=False)(activated(x))
                x = jnp.concatenate([x, h], axis=-1)
            return x

        x = hk.Conv2D(4, 3, with_bias=False)(x)
        x = dense_block(x, layers=2, growth=2)
        x = hk.Conv2D(4, 1, with_bias=False)(activated(x))
        x = hk.avg_pool(x, window_shape=(2, 2, 1), strides=(2, 2, 1), padding="VALID")
        x = dense_block(x, layers=2, growth=2)
        return hk.Linear(5)(activated(x).mean((1, 2)))

    return haiku_parts(net, image())


EXAMPLES = (Example("DenseNet", "haiku", "vision", make, activations=6),)
