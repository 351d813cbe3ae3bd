"""Modules of each library as `Parts`: values that look like a trained network's, state closed over.

No initialiser is compiled: only the shapes of the arrays are asked for, and `filled` with numbers.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.zoo.example import Parts

Shape = tuple[int, ...]
POSITIVE = re.compile(r"(scale|gamma)$|var[^/]*(/average)?$")  # what normalisations call it


def image(side: int = 8, channels: int = 3, batch: int = 2) -> jax.Array:
    """Random images, channels last."""
    values = np.random.default_rng(1).normal(size=(batch, side, side, channels))
    return jnp.asarray(values, jnp.float32)


def normal(*shape: int) -> jax.Array:
    """Random numbers of deviation 1."""
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def filled(shapes: Any, *, outputs_first: bool = False, seed: int = 0) -> Any:
    """A tree of arrays with the shapes of another.

    Kernels have a deviation of sqrt(1.5 / inputs); what is positive in a normalisation is in
    [0.5, 1.5]; the rest, such as biases, running means and positions, has a deviation of 0.2.

    Args:
        shapes: a tree of anything that has a shape and a dtype.
        outputs_first: whether the first axis of a kernel is that of its outputs, not the last.
        seed: of the numbers.
    """
    generator = np.random.default_rng(seed)

    def fill(path: Any, array: Any) -> jax.Array:
        shape = tuple(array.shape)
        name = jax.tree_util.keystr(path, simple=True, separator="/").lower().removesuffix("/value")
        inputs = math.prod(shape[1:] if outputs_first else shape[:-1])
        if POSITIVE.search(name):
            values = generator.uniform(0.5, 1.5, shape)
        elif inputs == 1 or name.endswith(("bias", "embedding")):
            values = 0.2 * generator.normal(size=shape)
        else:
            values = (1.5 / inputs) ** 0.5 * generator.normal(size=shape)
        return jnp.asarray(values.astype(array.dtype))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def nnx_parts(make: Callable[[Any], Any], *inputs: Any) -> Parts:
    """Of `make(rngs)`, a Flax NNX module in evaluation mode."""
    from flax import nnx

    def evaluated() -> Any:
        module = make(nnx.Rngs(0))
        module.eval()
        return module

    structure, params, state = nnx.split(nnx.eval_shape(evaluated), nnx.Param, ...)
    state = filled(state, seed=1)

    def f(params: Any, *inputs: Any) -> Any:
        return nnx.merge(structure, params, state)(*inputs)

    return Parts(f, filled(params), inputs)


def linen_parts(module: Any, *inputs: Any, **options: Any) -> Parts:
    """Of a Flax Linen module, applied with options such as `train=False`."""
    shapes = jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, **options), *inputs)
    variables = dict(filled(shapes))
    params = variables.pop("params")

    def f(params: Any, *inputs: Any) -> Any:
        return module.apply({"params": params, **variables}, *inputs, **options)

    return Parts(f, params, inputs)


def equinox_parts(make: Callable[[Any], Any], *inputs: Any) -> Parts:
    """Of `make(key)`, an Equinox module of one example, mapped over a batch."""
    import equinox as eqx

    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    arrays, static = eqx.partition(shapes, is_shape)
    is_parameter = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    params, state = eqx.partition(filled(arrays, outputs_first=True), is_parameter)

    def f(params: Any, *inputs: Any) -> Any:
        return jax.vmap(eqx.combine(params, state, static))(*inputs)

    return Parts(f, params, inputs)


def haiku_parts(function: Callable[..., Any], *inputs: Any) -> Parts:
    """Of `function(*inputs, is_training)`, which makes Haiku modules. Only while they train do they
    make the state of normalisations."""
    import haiku as hk

    init, apply = hk.transform_with_state(function)
    params, state = jax.eval_shape(partial(init, is_training=True), jax.random.key(0), *inputs)
    state = filled(state, seed=1)

    def f(params: Any, *inputs: Any) -> Any:
        return apply(params, state, None, *inputs, is_training=False)[0]

    return Parts(f, filled(params), inputs)


def keras_parts(make: Callable[[Any], Any], *inputs: Any) -> Parts:
    """Of `make(keras)`, a Keras model, on JAX."""
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        raise ImportError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax.")
    model = make(keras)

    def values(variables: Sequence[Any], seed: int) -> Any:
        shapes = {v.path: jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables}
        return filled(shapes, seed=seed)

    names = [v.path for v in model.trainable_variables]
    others = values(model.non_trainable_variables, 1)
    state = [others[v.path] for v in model.non_trainable_variables]

    def f(params: Any, *inputs: Any) -> Any:
        weights = [params[name] for name in names]
        return model.stateless_call(weights, state, *inputs, training=False)[0]

    return Parts(f, values(model.trainable_variables, 0), inputs)
