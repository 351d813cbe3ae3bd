"""Tables of a sum of products, and their contraction, without underflow.

Where nothing is observed, tables are probabilities as they are: what is below 1e-38 is that small
against a total of 1. With evidence, products may be as small as the evidence is improbable: then
each entry is a number times a power of 2 of its own,

    x = mantissa 2^exponent,

whose exponent is no function of the arguments. Derivatives are those of the mantissas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cgjax.inference._contraction import Set

# Sums of more terms than this are matrix products; their terms are scaled by the largest entry of
# their row and of their column, and one that is 1e-38 times these is 0.
_MOST_TERMS = 1 << 18
_LOG_2 = math.log(2.0)


class Table(NamedTuple):
    """A table with an axis for each of its variables.

    Attributes:
        axes: the variables.
        mantissa: the entries.
        exponent: the powers of 2 that they are multiplied by, -inf where they are 0; None where
            they are all 1.
    """

    axes: tuple[int, ...]
    mantissa: jax.Array
    exponent: jax.Array | None = None


def scaled(probability: jax.Array, log: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mantissa and exponent of numbers up to 1, whose logarithms are known too.

    The numbers themselves count where they are not tiny, since they are rounded less, and have a
    derivative where they are 0.
    """
    fixed = lax.stop_gradient(log)
    tiny = (fixed < -40) & jnp.isfinite(fixed)
    exponent = jnp.where(tiny, jnp.round(fixed / _LOG_2), 0)
    small = jnp.exp(jnp.where(tiny, log - exponent * _LOG_2, 0))
    mantissa = jnp.where(tiny, small, probability)
    return mantissa, jnp.where(lax.stop_gradient(mantissa) > 0, exponent, -jnp.inf)


def of_logarithm(log: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mantissa and exponent of numbers whose logarithms are known."""
    fixed = lax.stop_gradient(log)
    possible = fixed > -jnp.inf
    exponent = jnp.where(possible, jnp.round(fixed / _LOG_2), 0)
    mantissa = jnp.where(possible, jnp.exp(jnp.where(possible, log - exponent * _LOG_2, 0)), 0)
    return mantissa, jnp.where(possible, exponent, -jnp.inf)


def normalised(mantissa: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With mantissas from 1 to 2."""
    shift = floor_log2(mantissa)
    positive = lax.stop_gradient(mantissa) > 0
    return mantissa * power(-shift, mantissa.dtype), jnp.where(positive, exponent + shift, -jnp.inf)


def power(exponent: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """2 to the power of integers, exactly; 0 where that is no normal number, as 2^-200."""
    about = jnp.finfo(dtype)
    bias, integer = about.maxexp - 1, jnp.dtype(f"int{about.bits}")
    bits = jnp.clip(exponent, -bias, bias).astype(integer) + bias
    return lax.bitcast_convert_type(bits << about.nmant, dtype)


def floor_log2(x: jax.Array) -> jax.Array:
    """The largest integer up to the logarithm of positive numbers, which has no derivative."""
    about = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(lax.stop_gradient(x), jnp.dtype(f"int{about.bits}"))
    return (bits >> about.nmant).astype(jnp.int32) - (about.maxexp - 1)


def _finite(x: jax.Array) -> jax.Array:
    """-inf as 0: what is 0 is so whatever its exponent."""
    return jnp.where(x > -jnp.inf, x, 0)


def _summed(table: Table, gone: Set) -> Table:
    """A table without some of its variables."""
    places = tuple(k for k, v in enumerate(table.axes) if v in gone)
    if not places:
        return table
    axes = tuple(v for v in table.axes if v not in gone)
    if table.exponent is None:
        return Table(axes, table.mantissa.sum(places))
    largest = _finite(table.exponent.max(places, keepdims=True))
    sums = (table.mantissa * jnp.exp2(table.exponent - largest)).sum(places)
    return Table(axes, *normalised(sums, largest.reshape(sums.shape)))


def contracted(a: Table, b: Table, result: Set) -> Table:
    """The product of two tables, summed over what the result does not have."""
    shared = set(a.axes) & set(b.axes)
    a = _summed(a, frozenset(v for v in a.axes if v not in shared and v not in result))
    b = _summed(b, frozenset(v for v in b.axes if v not in shared and v not in result))
    gone = [v for v in a.axes if v in shared and v not in result]
    batch = [v for v in a.axes if v in shared and v in result]
    left = [v for v in a.axes if v not in shared]
    right = [v for v in b.axes if v not in shared]
    axes = (*batch, *left, *right)
    if a.exponent is None and b.exponent is None:
        if not gone:
            at = [laid(x.mantissa, x.axes, axes) for x in (a, b)]
            return Table(axes, at[0] * at[1])
        return Table(axes, _product(a, b, a.mantissa, b.mantissa, gone, batch))
    sizes = dict(zip(a.axes, a.mantissa.shape, strict=True))
    sizes |= dict(zip(b.axes, b.mantissa.shape, strict=True))
    if gone and math.prod(sizes.values()) > _MOST_TERMS:
        return _by_rows(a, b, gone, batch)
    every = (*axes, *gone)
    parts = [laid(x.mantissa, x.axes, every) for x in (a, b)]
    exponents = [laid(x.exponent, x.axes, every) for x in (a, b) if x.exponent is not None]
    total = exponents[0] if len(exponents) == 1 else exponents[0] + exponents[1]
    last = tuple(range(len(axes), len(every)))
    largest = _finite(total.max(last, keepdims=True))
    sums = (parts[0] * parts[1] * jnp.exp2(total - largest)).sum(last)
    largest = jnp.broadcast_to(largest.reshape(largest.shape[: len(axes)]), sums.shape)
    return Table(axes, *normalised(sums, largest))


def laid(x: jax.Array, axes: Sequence[int], every: Sequence[int]) -> jax.Array:
    """An array with the axes of others between its own."""
    places = sorted(range(len(axes)), key=lambda k: every.index(axes[k]))
    shape = [x.shape[axes.index(v)] if v in axes else 1 for v in every]
    return x.transpose(places).reshape(shape)


def _product(
    a: Table, b: Table, left: jax.Array, right: jax.Array, gone: list[int], batch: list[int]
) -> jax.Array:
    """A matrix product over some variables."""
    dims = (
        ([a.axes.index(v) for v in gone], [b.axes.index(v) for v in gone]),
        ([a.axes.index(v) for v in batch], [b.axes.index(v) for v in batch]),
    )
    return lax.dot_general(left, right, dims, precision="highest")


def _by_rows(a: Table, b: Table, gone: list[int], batch: list[int]) -> Table:
    """A large product, of entries that are scaled by the largest one of their row or column."""
    mantissas, scales = [], []
    for x in (a, b):
        exponent = jnp.zeros(x.mantissa.shape) if x.exponent is None else x.exponent
        places = tuple(x.axes.index(v) for v in gone)
        largest = _finite(exponent.max(places, keepdims=True))
        mantissas.append(x.mantissa * jnp.exp2(exponent - largest))
        kept = tuple(v for v in x.axes if v not in gone)
        scales.append((kept, largest.reshape([largest.shape[x.axes.index(v)] for v in kept])))
    left = [v for v in a.axes if v not in gone and v not in batch]
    right = [v for v in b.axes if v not in gone and v not in batch]
    axes = (*batch, *left, *right)
    exponent = sum(laid(scale, kept, axes) for kept, scale in scales)
    product = _product(a, b, mantissas[0], mantissas[1], gone, batch)
    exponent = jnp.broadcast_to(jnp.asarray(exponent), product.shape)
    return Table(axes, *normalised(product, exponent))
