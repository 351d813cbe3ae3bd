"""Sums over many configurations, a chunk at a time, and products of independent nodes' tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def divided(number: jax.Array, by: int) -> tuple[jax.Array, jax.Array]:
    """Quotient and remainder."""
    divisor = jnp.uint32(by)
    return lax.div(number, divisor), lax.rem(number, divisor)


def outer(p: jax.Array) -> jax.Array:
    """Probabilities of all joint states of independent nodes: (p, s, n, d) to (p, s**n, d)."""
    if p.shape[2] == 0:
        return jnp.ones((p.shape[0], 1, p.shape[3]), p.dtype)
    if p.shape[2] == 1:
        return p[:, :, 0]
    half = p.shape[2] // 2
    # Behind the barrier, or the compiler computes the halves again for every joint state.
    first, second = lax.optimization_barrier((outer(p[:, :, :half]), outer(p[:, :, half:])))
    return (first[:, :, None] * second[:, None]).reshape(p.shape[0], -1, p.shape[-1])


def weighted(weights: jax.Array, values: jax.Array) -> jax.Array:
    """The sum of values (first axis) times weights, 0 times infinity being 0."""
    dtype = jnp.promote_types(values.dtype, weights.dtype)
    values = values.astype(dtype)
    # Of `lax`: each function of `jnp` is a program of its own, which takes long to trace.
    weights = lax.broadcast_in_dim(weights.reshape(-1), values.shape, (0,))
    complex_values = jnp.issubdtype(dtype, jnp.complexfloating)
    finite = jnp.isfinite(values) if complex_values else lax.is_finite(values)
    counts = lax.gt(weights, lax.full_like(weights, 0)) | finite
    values = lax.select(counts, values, lax.full_like(values, 0))
    return lax.reduce_sum(weights.astype(dtype) * values, (0,))


def mapped(
    part: Callable[[jax.Array, jax.Array], jax.Array], joint: jax.Array, count: int, size: int
) -> jax.Array:
    """Puts `part(index, joint[:, index])` together along axis 1, in chunks."""
    num_chunks = -(-count // size)
    if num_chunks == 1:
        return part(jnp.arange(count), joint)
    size = -(-count // num_chunks)
    index = jnp.minimum(jnp.arange(num_chunks * size), count - 1).reshape(num_chunks, size)
    # Computed again for the derivative, as below.
    recomputed = jax.checkpoint(lambda i: part(i, joint[:, i]))
    chunks = jnp.moveaxis(lax.map(recomputed, index), 0, 1)
    return chunks.reshape(chunks.shape[0], -1, *chunks.shape[3:])[:, :count]


def summed(part: Callable[[jax.Array, jax.Array], T], joint: jax.Array, count: int, size: int) -> T:
    """Adds up `part(index, joint[..., index])` over chunks of the last axis."""
    num_chunks = -(-count // size)
    if num_chunks == 1:
        return part(jnp.arange(count), joint)
    size = -(-count // num_chunks)
    padding = [(0, 0)] * (joint.ndim - 1) + [(0, num_chunks * size - count)]
    chunks = jnp.pad(joint, padding).reshape(*joint.shape[:-1], num_chunks, size)
    chunks = jnp.moveaxis(chunks, -2, 0)
    index = jnp.arange(num_chunks * size).reshape(num_chunks, size)
    # Computed again for the derivative: only tables are stored, not what a chunk needs on the way.
    recomputed = jax.checkpoint(part)

    def add(total: T, chunk: tuple[jax.Array, jax.Array]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, recomputed(*chunk)), None

    shapes = jax.eval_shape(part, index[0], chunks[0])
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.scan(add, start, (index, chunks))[0]
