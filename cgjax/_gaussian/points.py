"""Weighted sums over the points of a quadrature, in the form that the device computes fastest."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# More points than these are a loop.
_UNROLLED = 16

# One that is known, or traced.
Number = float | Float[Array, ""]


def summed(
    function: Callable[..., tuple[Array, ...]], weights: np.ndarray, *numbers: np.ndarray
) -> list[Array]:
    """sum_k weights[k] * function(*(n[k] for n in numbers)), for each of the function's results.

    A compiler for CPUs writes the value at every point to memory, if several sums need it: there
    all points are one array, which one loop makes, and a product with the weights adds them. Others
    compute everything in one kernel.

    Args:
        function: from single numbers to floating-point arrays of one dtype.
        weights: float[points].
        numbers: each float[points].
    """

    def of_rows() -> list[Array]:
        dtype = jax.eval_shape(function, *(0.0 for _ in numbers))[0].dtype
        rows = jax.vmap(function)(*(jnp.asarray(n, dtype) for n in numbers))
        return [jnp.tensordot(jnp.asarray(weights, dtype), row, 1) for row in rows]

    def one_by_one() -> list[Array]:
        shapes = jax.eval_shape(function, *(0.0 for _ in numbers))
        zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
        points = [jnp.asarray(n, zeros[0].dtype) for n in (weights, *numbers)]

        def add(sums: list[Array], point: list[Array]) -> tuple[list[Array], None]:
            weight, *own = point
            return [s + weight * v for s, v in zip(sums, function(*own), strict=True)], None

        return lax.scan(add, zeros, points, unroll=len(weights) <= _UNROLLED)[0]

    return lax.platform_dependent(cpu=of_rows, default=one_by_one)
