"""Checks of parameters, and values that are impossible or unknown: what families share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float


def require_parameter(
    family: object,
    name: str,
    condition: Callable[[np.ndarray], np.ndarray | np.bool_],
    expected: str,
) -> None:
    """Raise ValueError unless a parameter whose value is already known satisfies a condition."""
    value = getattr(family, name)
    if isinstance(value, Tracer):
        return
    if not isinstance(value, int | float | np.ndarray | np.generic | jax.Array):
        raise TypeError(
            f"{type(family).__name__}.{name} must be a number or an array, got "
            f"{type(value).__name__}: {value!r}"
        )
    if not np.all(condition(np.asarray(value, np.float64))):
        raise ValueError(f"{type(family).__name__}.{name} must be {expected}, got {value!r}")


def possible_or_minus_infinity(
    x: Float[Array, "*nodes"], possible: Bool[Array, "*nodes"], log_prob: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    """The log-probability of possible values, and -inf (a constant: zero gradient) elsewhere.

    A value x that is NaN has the log-probability NaN.
    """
    return jnp.where(jnp.isnan(x), jnp.nan, jnp.where(possible, log_prob, -jnp.inf))


def with_slope(
    value: Float[Array, "*nodes"], x: Float[Array, "*nodes"], slope: Float[Array, "*nodes"]
) -> Float[Array, "*nodes"]:
    """A value with a derivative by x: that of the log-probability between the states of a node.

    Straight-through estimators differentiate values that are one of the states.
    """
    x, slope = (jnp.where(jnp.isfinite(a), a, 0) for a in (x, slope))
    return value + slope * (x - lax.stop_gradient(x))


def or_nan(known: Bool[Array, "..."], array: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """The array where its parameter is one, else NaN."""
    return jnp.where(known, array, jnp.nan)
