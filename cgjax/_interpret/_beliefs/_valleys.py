"""Functions that fall a little and then rise, such as GELU and SiLU: found by looking at them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._interpret._beliefs._blocks import constants_are_numbers

_POINTS = np.linspace(-30, 30, 6001, dtype=np.float32)
# Of what it rises by, to the right, a valley falls by at most so much, to the left. GELU falls by
# 0.006 of it on these points, x^2 by all of it.
_LEFT = 0.05
# Of float32, where a function approaches 0 by a difference of numbers; relative to the rise.
_ROUNDING = 1e-6
_known: dict[tuple[str, tuple[float, ...]], float | None] = {}


def lowest_point(function: Callable[[Any], Any]) -> float | None:
    """From where on an element-wise function rises, if it falls a little or not at all before.

    The largest of its values is then that of the largest argument or that of the smallest, and the
    latter is near the function's lowest value. A function is looked at when it is traced, so it has
    to depend on nothing but its argument and fixed numbers.

    Args:
        function: of arrays of any shape.

    Returns:
        Where the function is lowest; minus infinity if it never falls; None for other functions.
    """
    try:
        jaxpr = jax.make_jaxpr(function)(_POINTS)
    except (TypeError, ValueError):
        return None  # of arrays of one shape only
    if not constants_are_numbers(jaxpr):
        return None
    # Not `lru_cache`: it would keep the function, and with it arrays that the function came from.
    key = str(jaxpr), tuple(map(float, jaxpr.consts))
    if key not in _known:
        _known[key] = _looked_at(function)
    return _known[key]


def _looked_at(function: Callable[[Any], Any]) -> float | None:
    with jax.ensure_compile_time_eval():
        y = np.asarray(jnp.asarray(jax.jit(function)(_POINTS), jnp.float32), np.float64)
    if not np.isfinite(y).all():
        return None
    lowest, change = y.argmin(), np.diff(y)
    left, right = y[: lowest + 1].max() - y[lowest], y[lowest:].max() - y[lowest]
    falls = (change[:lowest] <= _ROUNDING * right).all()
    rises = (change[lowest:] >= -_ROUNDING * right).all()
    if not (falls and rises and left <= _LEFT * right):
        return None
    return float(_POINTS[lowest]) if left > _ROUNDING * right else -math.inf
