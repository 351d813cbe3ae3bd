"""Networks whose weights are uncertain, without special layers: dense, convolutional, recurrent."""

import jax
import jax.numpy as jnp
from jax import lax

import cgjax as cg


def dense(params, x):
    h = jax.nn.relu(x @ params["w1"] + params["b1"][None])
    return h @ params["w2"]


def convolutional(params, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = lax.conv_general_dilated(x, params["k"], (1, 1), "SAME", dimension_numbers=numbers)
    return jnp.tanh(h + params["b"][None, None, None]).mean((1, 2)) @ params["w"]


def recurrent(params, x):
    def step(h, now):
        h = jnp.tanh(now @ params["u"] + h @ params["v"])
        return h, None

    h, _ = lax.scan(step, jnp.zeros((x.shape[0], 4)), jnp.swapaxes(x, 0, 1))
    return h @ params["w"]


def normal(seed, *shape):
    return (
        jax.random.normal(jax.random.key(seed), shape) / shape[-2 if len(shape) > 1 else -1] ** 0.5
    )


NETWORKS = {
    "dense": (
        dense,
        {"w1": normal(0, 3, 8), "b1": normal(1, 8), "w2": normal(2, 8, 2)},
        normal(3, 5, 3),
    ),
    "convolutional": (
        convolutional,
        {"k": normal(0, 3, 3, 2, 4) / 3, "b": normal(1, 4), "w": normal(2, 4, 2)},
        normal(3, 5, 6, 6, 2),
    ),
    "recurrent": (
        recurrent,
        {"u": normal(0, 3, 4), "v": normal(1, 4, 4), "w": normal(2, 4, 2)},
        normal(3, 5, 6, 3),
    ),
}


def uncertain(params, variance=0.05):
    return cg.weights.mean_field(params, variance)
