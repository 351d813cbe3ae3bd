"""What happens to one state at one step: activations, samples, and their slopes.

They are written with the few operations that every kernel language has, so that one table serves
the compiled loop and the kernel for GPUs. Values equal those of `jax.nn` and of the node families.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array

from cgjax.kernels.random_bits import open_uniform, standard_normal


class Activation(NamedTuple):
    """An activation of a recurrence and, if it has one, the sample that may stand for it.

    All functions act element by element on arrays of at least 32 bits.

    Attributes:
        value: `value(e)`, the activation.
        slope: `slope(h)`, its derivative by e as a function of the value h alone.
        sample: `sample(word, e)`, a sample of the node with this activation, from one uniform
            32-bit word an element; none if such nodes are not sampled here.
        sampled_slope: `sampled_slope(e, h)`, the derivative of a value that is the activation or a
            sample; none if it is `slope(h)`.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    sample: Callable[[Array, Array], Array] | None = None
    sampled_slope: Callable[[Array, Array], Array] | None = None


def _step(condition: Array, like: Array) -> Array:
    return lax.select(condition, jnp.ones_like(like), jnp.zeros_like(like))


def _is_negative(h: Array) -> Array:
    """Whether the sign is minus, also that of -0."""
    bits = lax.bitcast_convert_type(h, jnp.int64 if jnp.finfo(h.dtype).bits == 64 else jnp.int32)
    return bits < 0


def _relu_sample(word: Array, e: Array) -> Array:
    # [A] Eq. 11: max(0, y), y ~ N(e, tanh(e)^2).
    y = e + jnp.tanh(e) * standard_normal(word, e.dtype)
    return lax.select(y <= 0, jnp.zeros_like(y), y)


def _relu_sampled_slope(e: Array, h: Array) -> Array:
    # 1 + tanh'(e) n where h > 0, and the standard normal number n is (h - e) / tanh(e).
    scale = jnp.tanh(e)
    number = (h - e) / jnp.where(scale == 0, 1, scale)
    slope = 1 + (1 - scale) * (1 + scale) * number
    return jnp.where(h > 0, slope, jnp.zeros_like(slope))


def _tanh_sample(word: Array, e: Array) -> Array:
    high = 2 * open_uniform(word, e.dtype) - 1 < jnp.tanh(e)
    sample = lax.select(high, jnp.ones_like(e), -jnp.ones_like(e))
    return lax.select(e == e, sample, e)  # a NaN stays one


def _logistic_sample(word: Array, e: Array) -> Array:
    sample = _step(open_uniform(word, e.dtype) < lax.logistic(e), e)
    return lax.select(e == e, sample, e)


def _leaky_relu(leak: float) -> Activation:
    # With a positive leak the value is 0 only where e is, and `jax.nn` has slope 1 there; but
    # where the value is rounded to 0, only its sign tells. So e = -0 has the value +0.
    def value(e: Array) -> Array:
        return jnp.where(e >= 0, jnp.abs(e), leak * e)

    def slope(h: Array) -> Array:
        return jnp.where(_is_negative(h), jnp.full_like(h, leak), jnp.ones_like(h))

    return Activation(value, slope)


_TABLE = {
    "relu": Activation(
        lambda e: jnp.maximum(e, 0),
        lambda h: _step(h > 0, h),
        _relu_sample,
        _relu_sampled_slope,
    ),
    "tanh": Activation(jnp.tanh, lambda h: (1 - h) * (1 + h), _tanh_sample),
    "logistic": Activation(lax.logistic, lambda h: h * (1 - h), _logistic_sample),
    "softplus": Activation(jax.nn.softplus, lambda h: -jnp.expm1(-h)),
}

NAMES = ("relu", "leaky_relu", "tanh", "logistic", "softplus")


def activation(name: str, leak: float) -> Activation:
    """The activation of a name; `leak` is the slope of the negative part of "leaky_relu"."""
    return _leaky_relu(leak) if name == "leaky_relu" else _TABLE[name]


def precise(dtype: DTypeLike) -> np.dtype:
    """The dtype of computations on states of a dtype: its own, but at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def rounded(array: Array, dtype: DTypeLike) -> Array:
    """The array's values rounded to those of a narrower dtype, in the array's own.

    Not two conversions: XLA may leave such a pair out.
    """
    info, wide = jnp.finfo(dtype), jnp.finfo(array.dtype)
    if info.bits >= wide.bits:
        return array
    value = lax.reduce_precision(array, info.nexp, info.nmant)
    if info.smallest_normal == wide.smallest_normal:
        return value
    # The values below, as those of float16 below 6e-5, are equally spaced; XLA makes them 0.
    step = float(info.smallest_subnormal)
    spaced = lax.round(array * (1 / step), lax.RoundingMethod.TO_NEAREST_EVEN) * step
    return jnp.where(jnp.abs(array) < float(info.smallest_normal), spaced, value)
