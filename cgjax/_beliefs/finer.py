"""Arrays of a shape, or of size 1 along some of its axes, where its axes are cut finer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from cgjax._beliefs.layouts import Shape


def parts_of_axes(old: Shape, fine: Shape) -> list[list[int]]:
    """The axes of the finer shape that each axis is cut into."""
    parts, k = [], 0
    for n in old:
        part, size = [], 1
        while size < n:
            part.append(k)
            size *= fine[k]
            k += 1
        parts.append(part)
    return parts


def finer_axes(axes: Iterable[int], old: Shape, fine: Shape) -> frozenset[int]:
    """The axes of the finer shape that some axes are cut into."""
    parts = parts_of_axes(old, fine)
    return frozenset(k for a in axes for k in parts[a])


def finer(array: jax.Array, old: Shape, fine: Shape) -> jax.Array:
    """An array of a shape, or of size 1 along some of its axes, with the axes cut finer."""
    parts = parts_of_axes(old, fine)
    shape = [fine[k] if array.shape[a] > 1 else 1 for a, part in enumerate(parts) for k in part]
    return array.reshape(shape)


def coarser(array: jax.Array, old: Shape, fine: Shape) -> jax.Array:
    """An array in the finer shape, with the axes put together again."""
    full, shape = list(array.shape), []
    for part in parts_of_axes(old, fine):
        if any(full[k] > 1 for k in part):
            full[part[0] : part[-1] + 1] = [fine[k] for k in part]
        shape.append(math.prod(full[k] for k in part))
    return jnp.broadcast_to(array, full).reshape(shape)
