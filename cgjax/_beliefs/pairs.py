"""Averages over pairs of positions, of as few operations as they need.

They are computed several times at each layer, so that what they are made of decides how long a
network takes to trace and to compile: sums are divided once, and nothing is padded.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Num

# An array that is known. What a network closes over may be numpy's.
Exact = Array | np.ndarray


def over_pairs(loading: Num[Exact, "..."], axes: Sequence[int]) -> Num[Array, "..."]:
    """The average of `loading_p loading_q` over pairs of positions.

    With the sum S of all loadings and the sum Q of their squares, (S^2 - Q) / (n (n - 1)) over
    all pairs of n positions.

    Args:
        loading: an array with positions along the axes.
        axes: the axes.

    Returns:
        The average over all pairs of different positions, and that over neighbours, along a new
        leading axis; of size 1 along the axes.
    """
    shape, axes = np.shape(loading), tuple(axes)
    number = math.prod(shape[axis] for axis in axes)
    if number < 2:
        return jnp.zeros((2, *shape), loading.dtype)
    inner, dtype = _wide(loading)
    total, squares = lax.reduce_sum(inner, axes), lax.reduce_sum(inner * inner, axes)
    apart = 1 / (number * (number - 1))
    anywhere = total * total * apart - squares * apart
    long = [axis for axis in axes if shape[axis] > 1]
    near = [_of_neighbours(inner, axis, axes, 1, 1 / len(long)) for axis in long]
    kept = (2, *(1 if axis in axes else n for axis, n in enumerate(shape)))
    both = jnp.stack([anywhere, sum(near[1:], near[0])]).reshape(kept)
    return lax.convert_element_type(both, dtype)


def neighbour_average(
    loading: Num[Exact, "*shape"], axis: int, axes: Sequence[int], step: int
) -> Num[Array, "*kept"]:
    """The average product of what lies `step` apart along an axis, of size 1 along all `axes`."""
    inner, dtype = _wide(loading)
    found = _of_neighbours(inner, axis, tuple(axes), step, 1.0)
    return lax.convert_element_type(lax.expand_dims(found, axes), dtype)


def constant_root(variance: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
    """The standard deviation, for averages that derivatives take as constants."""
    variance = lax.stop_gradient(variance)
    return lax.sqrt(lax.max(variance, np.zeros((), variance.dtype)))


def _of_neighbours(
    loading: Array, axis: int, axes: tuple[int, ...], step: int, share: float
) -> Array:
    """A share of the same, without the axes."""
    size = loading.shape[axis]
    number = math.prod(loading.shape[a] for a in axes) // size * (size - step)
    behind = lax.slice_in_dim(loading, 0, size - step, axis=axis)
    ahead = lax.slice_in_dim(loading, step, size, axis=axis)
    return lax.reduce_sum(behind * ahead, axes) * (share / number)


def _wide(loading: Num[Exact, "..."]) -> tuple[Array, np.dtype]:
    """An array as at least float32, in which sums of many positions keep their digits; and the
    dtype of averages of it."""
    array = jnp.asarray(loading)
    inexact = jnp.issubdtype(array.dtype, jnp.inexact)
    dtype = array.dtype if inexact else jnp.promote_types(array.dtype, jnp.float32)
    return lax.convert_element_type(array, jnp.promote_types(dtype, jnp.float32)), dtype
