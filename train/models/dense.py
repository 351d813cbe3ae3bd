"""The dense network of [A] 5.1: two hidden layers of nodes, and nine logits for ten classes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

import cgjax as cg
from cgjax.nodes import Family


def between(low: float, high: float) -> Any:
    """Initial values that are uniform from `low` to `high`."""

    def initial(key: Any, shape: Any, dtype: Any = jnp.float32, **_: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, low, high)

    return initial


def affine(features_in: int, features_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    """An affine layer with PyTorch's default initialisation: weights and biases are
    U(-1/sqrt(n), 1/sqrt(n)) for n inputs."""
    uniform = between(-(features_in**-0.5), features_in**-0.5)
    initial: Any = {"kernel_init": uniform, "bias_init": uniform}
    return nnx.Linear(features_in, features_out, dot_general=product, rngs=rngs, **initial)


@jax.custom_vjp
def _matmul(x: Array, weights: Array) -> Array:
    return jnp.matmul(x, weights)


def _forward(x: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(x, weights), (x, weights)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, weights = saved
    # The barrier makes the compiler transpose the small x first. Without it XLA's CPU backend
    # leaves its fast matrix kernels for this product, which takes 1.5 times as long at batch 32.
    return gradient @ weights.T, jax.lax.optimization_barrier(x.T) @ gradient


_matmul.defvjp(_forward, _backward)


def product(x: Array, weights: Array, dimensions: Any, **_: Any) -> Array:
    """`x @ weights` for one batch axis, in the form that `nnx.Linear(dot_general=...)` takes."""
    assert dimensions == (((x.ndim - 1,), (0,)), ((), ())) and x.ndim == 2
    return _matmul(x, weights)


class Dense(nnx.Module):
    """Affine, nodes, dropout, affine, nodes, dropout, affine, and a constant 0 as last logit.

    With K classes, K - 1 logits and a zero are the minimal parametrisation of a categorical
    variable as an exponential family. The hidden nodes are of a family, for example
    `cg.nodes.Spin()` for tanh; each hidden layer has `hidden` of them.
    """

    def __init__(self, family: Family, features: int, hidden: int, classes: int, rngs: nnx.Rngs):
        self.family = family
        self.first = affine(features, hidden, rngs)
        self.second = affine(hidden, hidden, rngs)
        self.output = affine(hidden, classes - 1, rngs)

    def __call__(
        self, x: Float[Array, "batch features"], drop_rate: Any = None
    ) -> Float[Array, "batch classes"]:
        """The logits of images in [0, 1]. The drop rate, a number or a traced value, is the
        probability that a hidden node is dropped on its way to the next layer; `None`: the network
        has no noise nodes."""
        h = cg.node(self.family, self.first(x), name="hidden_1")
        h = dropped(h, drop_rate, "dropout_1")
        h = cg.node(self.family, self.second(h), name="hidden_2")
        h = dropped(h, drop_rate, "dropout_2")
        logits = self.output(h)
        return jnp.pad(logits, ((0, 0), (0, 1)))


def dropped(x: Array, drop_rate: Any, name: str, broadcast_dims: Sequence[int] = ()) -> Array:
    """`x` behind a layer of dropout, whose noise nodes have this name and whose mask is the same
    along `broadcast_dims`; without a rate, without noise nodes."""
    if drop_rate is None:
        return x
    return cg.layers.Dropout(drop_rate, broadcast_dims=broadcast_dims, name=name)(x)
