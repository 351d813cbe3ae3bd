"""Networks that estimators take: the default one, modules, functions that make one, functions."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from cgjax import nodes
from cgjax._functional import changes_state, functional, is_module
from cgjax._node import node
from cgjax._static import Function, Leaf, Tree


@dataclass(frozen=True)
class Network:
    """A network of plain JAX functions, for `network=` of an estimator.

    Attributes:
        initial: `initial(key, features, outputs) -> params`, a tree of arrays.
        apply: `apply(params, x) -> outputs`, float[batch, features] to float[batch, outputs]. Of
            two outputs for each target, the second is the logarithm of its noise's variance.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from cgjax.estimators import Network
        >>> line = Network(
        ...     initial=lambda key, features, outputs: {"w": jnp.zeros((features, outputs))},
        ...     apply=lambda params, x: x @ params["w"],
        ... )
    """

    initial: Function
    apply: Function


class Built(NamedTuple):
    """A network for so many features and outputs.

    Attributes:
        apply: `apply(params, *state, x) -> outputs`, or with the state behind them if it has one.
        state: none, or one entry: what `functional` calls the state of a module.
        params: the parameters to begin with.
    """

    apply: Function
    state: tuple[Tree, ...]
    params: Tree


def default(hidden: Sequence[int]) -> Network:
    """Layers of ReLU nodes of these sizes, weights N(0, 1 / inputs) and biases 0.

    Example:
        >>> params = default((4,)).initial(jax.random.key(0), 3, 2)
        >>> default((4,)).apply(params, jnp.ones((5, 3))).shape
        (5, 2)
    """
    return Network(functools.partial(_initial, tuple(hidden)), _dense)


def _initial(hidden: tuple[int, ...], key: Array, features: int, outputs: int) -> list[Tree]:
    # NumPy's numbers: JAX compiles a program for each shape.
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    sizes = (features, *hidden, outputs)
    return [
        {
            "kernel": (random.standard_normal((n, m)) / n**0.5).astype(np.float32),
            "bias": np.zeros(m, np.float32),
        }
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]


def _dense(params: list[Tree], x: Float[Array, "batch features"]) -> Float[Array, "batch outputs"]:
    *hidden, output = params
    for number, layer in enumerate(hidden):
        e = x @ layer["kernel"] + layer["bias"][None]
        x = node(nodes.ReLU(), e, name=f"hidden_{number}")
    return x @ output["kernel"] + output["bias"][None]


def build(network: Leaf, features: int, outputs: int, seed: int) -> Built:
    """Makes what the argument `network` of an estimator describes.

    Args:
        network: a `Network`; a module that `cgjax.functional` takes; or a function
            `make(features, outputs, rngs)` that returns one, where `rngs` is an `nnx.Rngs`.

    Raises:
        TypeError: it is nothing of the kind.
        ValueError: the network changes its own variables (BatchNorm, dropout), or its outputs have
            another shape than they should.
    """
    key = jax.random.key(np.uint32(seed))
    if isinstance(network, Network):
        params = network.initial(key, features, outputs)
        built = Built(network.apply, (), params)
    else:
        if is_module(network):
            module = network
        elif callable(network):
            module = network(features, outputs, rngs=nnx.Rngs(key))
        else:
            raise TypeError(_wanted(network))
        apply, params, state = functional(module)
        built = Built(apply, (state,), params)
    _check(built, features, outputs)
    return built


def stacked(each: Sequence[Built]) -> Built:
    """Networks of one kind as one, whose parameters and state have a leading axis of them."""

    def stack(*leaves: Leaf) -> Array:
        return jnp.stack(leaves)

    params = jax.tree.map(stack, *(built.params for built in each))
    state = jax.tree.map(stack, *(built.state for built in each))
    return each[0]._replace(params=params, state=state)


def _wanted(network: Leaf) -> str:
    return (
        "network is None for the default one, a cgjax.estimators.Network of two functions, a "
        "module of Flax NNX, or a function `make(features, outputs, rngs)` that returns a module; "
        f"got {type(network).__name__}."
    )


def _check(built: Built, features: int, outputs: int) -> None:
    x = jax.ShapeDtypeStruct((3, features), jnp.float32)
    try:
        out: Any = jax.eval_shape(built.apply, built.params, *built.state, x)
    except TypeError as error:  # of shapes that do not fit
        raise ValueError(
            f"The network does not take rows of {features} features, as X has: {error}"
        ) from error
    out = out[0] if built.state else out
    shape = getattr(out, "shape", None)
    fits = shape == (3, outputs) or (outputs == 1 and shape == (3,))
    if not fits:
        raise ValueError(
            f"For 3 rows of {features} features the network returns "
            f"{shape if shape is not None else type(out).__name__}; expected (3, {outputs}). "
            "A regression with varying noise needs two outputs for each target, its mean and the "
            "logarithm of its noise's variance; with noise='homoscedastic' one; a classification "
            "one for each class."
        )
    zeros = np.zeros((3, features), np.float32)
    if built.state and changes_state(built.apply, (built.params, *built.state, zeros), {}):
        raise ValueError(
            "The network changes its own variables when it is called (BatchNorm statistics, random "
            "state), which an estimator does not follow. Put it into evaluation mode "
            "(`module.eval()`), or replace those layers."
        )
