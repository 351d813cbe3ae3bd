"""Which steps of sequences take part: lengths or a mask, as one array of booleans."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool

from cgjax._static import described, is_array, is_number, is_traced


def taking_part(
    lengths: ArrayLike | None, mask: ArrayLike | None, shape: tuple[int, ...], time_major: bool
) -> Bool[Array, "T *batch"] | None:
    """Where steps take part, time first; None where nothing was said.

    Args:
        lengths: how many of the first steps take part, integers (*batch,).
        mask: which steps take part, booleans (*batch, T), or (T, *batch) if `time_major`.
        shape: (T, *batch).
        time_major: whether the mask has its axis of time first.

    Raises:
        TypeError: lengths are no integers, or the mask no booleans.
        ValueError: both are given; a shape does not fit; a length is below 0 or above T.
    """
    length, *batch = shape
    if lengths is not None and mask is not None:
        raise ValueError("Steps take part by lengths or by a mask, got both.")
    if lengths is not None:
        found = _array("lengths", lengths, jnp.integer, "integers")
        _fits("lengths", found.shape, tuple(batch), "(*batch)")
        if not is_traced(lengths) and found.size:
            known = np.asarray(lengths)
            if known.min() < 0 or known.max() > length:
                raise ValueError(
                    f"lengths are from 0 to {length}, the number of steps, got {known.min()} to "
                    f"{known.max()}."
                )
        steps = jnp.arange(length).reshape(-1, *(1,) * len(batch))
        return steps < jnp.broadcast_to(found, batch)[None]
    if mask is None:
        return None
    found = _array("mask", mask, jnp.bool_, "booleans")
    axes = (length, *batch) if time_major else (*batch, length)
    _fits("mask", found.shape, axes, "(time, *batch)" if time_major else "(*batch, time)")
    found = jnp.broadcast_to(found, axes)
    return found if time_major else jnp.moveaxis(found, -1, 0)


def _array(name: str, value: ArrayLike, kind: type, words: str) -> Array:
    if not (is_array(value) or is_number(value) or isinstance(value, list)):
        raise TypeError(f"{name} must be {words}, got {described(value)}.")
    found = jnp.asarray(value)
    if not jnp.issubdtype(found.dtype, kind):
        raise TypeError(f"{name} must be {words}, got {described(value)}.")
    return found


def _fits(name: str, got: tuple[int, ...], shape: tuple[int, ...], axes: str) -> None:
    if got not in ((), shape):
        raise ValueError(f"{name} must have the shape {axes}, here {shape}, got {got}.")
