"""Dense layers with ReLU in between, and the deviations that keep the size of their activations."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float


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


def kernel_deviations(params: Any) -> dict[str, float]:
    """sqrt(2 / inputs) of each kernel of dense layers or convolutions, which keeps the size of ReLU
    activations, by its name.

    Example:
        >>> import cgjax
        >>> kernel_deviations(cgjax.functional(Perceptron((2, 8, 1), nnx.Rngs(0)))[1])
        {'layers/0/kernel': 1.0, 'layers/1/kernel': 0.5}
    """
    deviations = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if name.endswith("kernel"):
            deviations[name] = math.sqrt(2 / math.prod(leaf.shape[:-1]))
    return deviations
