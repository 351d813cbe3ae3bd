"""Element-wise functions with many intermediate results, block by block.

The compiler for CPUs writes intermediate results that are used more than once to memory. Block by
block they stay in the cache, and take no more memory than a block does. On other devices it is one
kernel anyway.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

# Elements: a block of a quadrature with 16 points takes a megabyte.
_BLOCK = 1 << 13

_T = TypeVar("_T")


def by_blocks(function: Callable[..., _T], *arrays: Any) -> _T:
    """An element-wise function of arrays of one shape, to a tree of arrays of that shape.

    Args:
        function: it depends on nothing but its arguments and fixed numbers, and is not
            differentiated: what is differentiated computes its derivatives block by block too.
        arrays: of one shape and dtype.
    """
    shape, size = arrays[0].shape, arrays[0].size
    if size < 2 * _BLOCK:
        return function(*arrays)
    number = _number(size)
    width = -(-size // number)

    def blockwise(*arrays: Any) -> _T:
        def split(array: Any) -> Any:
            flat = array.reshape(-1)
            if number * width > size:
                flat = jnp.pad(flat, (0, number * width - size), mode="edge")
            return flat.reshape(number, width)

        out = lax.map(lambda block: function(*block), tuple(map(split, arrays)))
        return jax.tree.map(lambda a: a.reshape(-1)[:size].reshape(shape), out)

    return lax.platform_dependent(*arrays, cpu=blockwise, default=function)


def _number(size: int) -> int:
    """Into how many blocks: of equal size, if there is a number near the best that allows it."""
    best = round(size / _BLOCK)
    near = range(math.ceil(best / 2), 2 * best + 1)
    even = [n for n in near if size % n == 0]
    return min(even, key=lambda n: abs(n - best)) if even else best
