"""Rows of an array by numbers that the compiler does not see, so that it compiles less.

XLA compiles equal kernels once. The kernels of a network's nodes are often equal but for the number
of the row that each reads its random words from, which is written into them: a hundred nodes are a
hundred kernels to compile. Here each kernel reads that number from memory.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, ArrayLike, UInt32


class Rows:
    """Rows of arrays of words.

    Args:
        words: any at all, as long as the compiler does not know them.

    Example:
        >>> import jax.numpy as jnp
        >>> words = jnp.arange(6, dtype=jnp.uint32).reshape(3, 2)
        >>> Rows(words).of(words, 2).tolist()
        [4, 5]
    """

    def __init__(self, words: UInt32[Array, "..."]):
        self._zero = _unknown_zero(words)

    def of(self, array: UInt32[Array, "n ..."], number: int) -> UInt32[Array, "..."]:
        """`array[number]`."""
        # Two different numbers, since an array of equal ones would not be read from memory.
        numbers = np.array([number, number + 1], np.uint32)
        return _row(0)(array, lax.dynamic_slice(jnp.asarray(numbers), [self._zero], [1])[0])


@custom_vmap
def _unknown_zero(words: Array) -> Array:
    """0, as a number that is only known when the program runs: no word has 64 bits."""
    return lax.population_count(words.reshape(-1)[0]) >> np.uint32(6)


@_unknown_zero.def_vmap
def _(size: int, batched: Sequence[bool], words: Array) -> tuple[Array, bool]:
    # One for the whole batch.
    return _unknown_zero(words), False


def _row(axis: int) -> Callable[[Array, ArrayLike], Array]:
    """Picks along an axis; under `vmap` still by a slice, where JAX would gather."""
    pick = custom_vmap(partial(lax.dynamic_index_in_dim, axis=axis, keepdims=False))

    @pick.def_vmap
    def _(size: int, batched: Sequence[bool], array: Array, number: Array) -> tuple[Array, bool]:
        return (_row(axis + 1)(array, number), True) if batched[0] else (pick(array, number), False)

    return pick
