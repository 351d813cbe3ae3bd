"""Weighted sums over the points of a quadrature, in the form that the device computes fastest."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cgjax._gaussian.device import by_device

# More points than these are a loop.
_UNROLLED = 16

# One that is known, or traced.
Number = float | Float[Array, ""]


def summed(
    function: Callable[..., tuple[Array, ...]],
    weights: np.ndarray | Sequence[np.ndarray],
    *numbers: np.ndarray,
    in_rows: bool = True,
) -> list[Array]:
    """sum_k weights[..., k] * function(*(n[k] for n in numbers)), for each result of the function.

    A compiler for CPUs writes the value at every point to memory, if several sums need it: there
    all points are one array, which one loop makes, and a product with the weights adds them. Others
    compute everything in one kernel.

    Args:
        function: from single numbers to floating-point arrays of one dtype.
        weights: float[points], or float[sums, points] for several sums, which become the first
            axis; or a list of such, one for each result.
        numbers: each float[points].
        in_rows: whether CPUs compute all points at once, which pays for several sums.
    """
    shapes = jax.eval_shape(function, *(0.0 for _ in numbers))
    each = [weights] * len(shapes) if isinstance(weights, np.ndarray) else weights
    dtype = shapes[0].dtype

    def of_rows() -> list[Array]:
        rows = jax.vmap(function)(*(jnp.asarray(n, dtype) for n in numbers))
        return [
            jnp.tensordot(jnp.asarray(w, dtype), row, 1) for w, row in zip(each, rows, strict=True)
        ]

    def one_by_one() -> list[Array]:
        zeros = [
            jnp.zeros((*w.shape[:-1], *shape.shape), dtype)
            for w, shape in zip(each, shapes, strict=True)
        ]
        own = [jnp.asarray(n, dtype) for n in numbers]
        columns = [jnp.asarray(np.moveaxis(w, -1, 0), dtype) for w in each]

        def add(
            sums: list[Array], point: tuple[list[Array], list[Array]]
        ) -> tuple[list[Array], None]:
            at, weight = point
            found = zip(sums, weight, function(*at), strict=True)
            return [s + jnp.tensordot(w, v, 0) for s, w, v in found], None

        unroll = in_rows and len(numbers[0]) <= _UNROLLED
        return lax.scan(add, zeros, (own, columns), unroll=unroll)[0]

    if not in_rows:
        return one_by_one()
    return by_device(cpu=of_rows, default=one_by_one)
