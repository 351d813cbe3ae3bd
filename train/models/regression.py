"""The network of the regression tables: one hidden layer of ReLU nodes, and one or two outputs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import cgjax as cg
from train.models.dense import dropped


def initial(key: Any, features: int, hidden: int, outputs: int) -> dict[str, Any]:
    """Random parameters, weights N(0, 1 / inputs) and biases 0, as `{layer: {"kernel": [in, out],
    "bias": [out]}}` of the layers "hidden" and "output". Of two outputs one is the mean of the
    target, the other the logarithm of its noise's variance."""

    def layer(key: Any, inputs: int, size: int) -> dict[str, Array]:
        kernel = jax.random.normal(key, (inputs, size)) / inputs**0.5
        return {"kernel": kernel, "bias": jnp.zeros(size)}

    first, second = jax.random.split(key)
    return {"hidden": layer(first, features, hidden), "output": layer(second, hidden, outputs)}


def network(
    params: Any, x: Float[Array, "batch features"], drop_rate: Any = None
) -> Float[Array, "batch outputs"]:
    """The outputs for a batch, by the parameters that `initial` makes; with a rate there is a layer
    of dropout behind the hidden nodes."""
    hidden, output = params["hidden"], params["output"]
    h = cg.node(cg.nodes.ReLU(), x @ hidden["kernel"] + hidden["bias"][None], name="hidden")
    return dropped(h, drop_rate, "dropout") @ output["kernel"] + output["bias"][None]
