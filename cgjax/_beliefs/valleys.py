"""Functions that fall a little and then rise, such as GELU and SiLU: found by looking at them."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from cgjax import _cache
from cgjax._beliefs.curves import Curve, Open
from cgjax._beliefs.largest import EXTREMES
from cgjax._beliefs.values import Value, settle
from cgjax._gaussian.written import Written, constants_are_numbers
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts

# At all scales: a function may be of x / 100.
_BESIDE = np.logspace(-4, 5, 3000)
_POINTS = np.concatenate([-_BESIDE[::-1], [0], _BESIDE]).astype(np.float32)
# Of float32, where a function approaches 0 by a difference of numbers; relative to the largest
# value that is as near to 0.
_ROUNDING = 2e-6


def lowest_point(function: Callable[[jax.Array], jax.Array]) -> float | None:
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
    key, known = Written(jaxpr), _cache.lowest_points
    if key not in known:
        known[key] = _looked_at(function)
    return known[key]


def _looked_at(function: Callable[[jax.Array], jax.Array]) -> float | None:
    with jax.ensure_compile_time_eval():
        y = np.asarray(jnp.asarray(jax.jit(function)(_POINTS), jnp.float32), np.float64)
    if not np.isfinite(y).all():
        return None
    lowest, change = int(y.argmin()), np.diff(y)
    size = np.maximum.accumulate(np.maximum(np.abs(y), np.abs(y[::-1]))[len(_BESIDE) :])
    size = np.concatenate([size[:0:-1], size])
    rounding = _ROUNDING * np.maximum(size[1:], size[:-1])
    if (change[:lowest] > rounding[:lowest]).any() or (change[lowest:] < -rounding[lowest:]).any():
        return None
    height = y[: lowest + 1].max() - y[lowest]
    if height <= _ROUNDING * size[lowest]:
        return -math.inf
    # To the left it may rise by as much as it likes if it is slow: to the right it is as high as
    # it ever gets to the left, nearer by than half of that is to the left. |x| is not.
    right = _POINTS[lowest:][y[lowest:] - y[lowest] >= height]
    left = _POINTS[: lowest + 1][y[: lowest + 1] - y[lowest] >= height / 2]
    at = float(_POINTS[lowest])
    return at if right.size and right[0] - at <= at - left[-1] else None


def largest_of_curve(eqn: JaxprEqn, value: Value, order: int) -> Curve | None:
    """The largest value of a function that rises, or falls a little first: of GELU and SiLU.

    The function of the largest root. Where that may be less than the function of the smallest
    one, since both lie where the function falls, its value at the smallest mean is the least.
    """
    if not isinstance(value, Curve) or value.affine is not None or order == 1:
        return None
    if value.of_line is not None:
        line = settle(value.of_line.line, order)
        return largest_of_curve(eqn, value.of_line.function(line), order)
    if not value.resolved:
        return None
    lowest = -math.inf if value.rises else lowest_point(value.function)
    falls = lowest is not None and lowest > -math.inf
    if lowest is None or (falls and facts(eqn).reduces != "largest"):
        return None
    x = EXTREMES[eqn.primitive.name](eqn, [value.root.without_gain()], order)
    if not falls:
        return value.on(x)
    smallest = -bind(eqn, [-value.root.mean])[0]
    least = value.function(jnp.minimum(smallest, lowest))

    def at_least(x: jax.Array, least: jax.Array) -> jax.Array:
        return jnp.maximum(value.function(x), least)

    return Curve(x, lambda x: at_least(x, least), value.dtype, Open(at_least, (least,)))
