"""The moments of a line, slope x + offset, of a Gaussian, with what its positions share."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from cgjax._beliefs.curves.form import Line, number
from cgjax._beliefs.movement import shared_variance
from cgjax._beliefs.values import Gaussian, sharing
from cgjax._gaussian.numerics import wide


def of_line(x: Gaussian, line: Line, dtype: np.dtype) -> Gaussian:
    """The moments of a line, which may be another one for each element."""
    slope, offset = (c if number(c) is not None else _wide_if_real(jnp.asarray(c)) for c in line)
    mean, variance = wide(x.mean), wide(x.variance)
    if number(line.slope) is None:
        mean = jnp.where(slope == 0, 0, mean)  # of infinite values a choice takes nothing
    mean = jnp.asarray(jnp.broadcast_to(slope * mean + offset, x.shape), dtype)
    scaled = jnp.abs(slope) ** 2 * variance
    variance = real_part_of(jnp.broadcast_to(scaled, x.shape), dtype)
    gain = None if x.gain is None else jnp.asarray(slope * x.gain, dtype)
    if not _differs(slope, x) or jnp.iscomplexobj(slope):
        return Gaussian(mean, variance, x.axes, x.correlation, gain, grid=x.grid)
    # Slopes of either sign take from what positions share.
    shared = jnp.asarray(shared_variance(x, x.axes, jnp.asarray(slope)), variance.dtype)
    return sharing(mean, variance, shared, x.axes, gain).on(x.grid)


def real_part_of(variance: jax.Array, dtype: np.dtype) -> jax.Array:
    """A variance in the dtype of the value, or of its parts where that is complex."""
    return jnp.asarray(variance, jnp.finfo(dtype).dtype)


def _differs(slope: ArrayLike, x: Gaussian) -> bool:
    """Whether a slope differs from position to position."""
    shape = jnp.shape(slope)
    before = len(x.shape) - len(shape)
    return any(axis >= before and shape[axis - before] > 1 for axis in x.axes)


def _wide_if_real(array: jax.Array) -> jax.Array:
    """An array in at least float32, or as it is."""
    return wide(array) if jnp.issubdtype(array.dtype, jnp.floating) else array
