"""Means and variances of element-wise functions, with their derivatives, block by block.

Everything that is needed of one element is computed at once: the mean and the variance, and their
derivatives by the mean and the variance of the argument; see `cgjax.kernels._blocks`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from cgjax.kernels._blocks import by_blocks

Rule = Callable[[Any, Any], tuple[Any, Any]]


class Moments(NamedTuple):
    """Of an element-wise function of a Gaussian.

    Attributes:
        mean: the mean of the function.
        variance: its variance.
        slope: the derivative of the mean by the Gaussian's mean, as a constant.
        bend: the derivative of the mean by the Gaussian's variance, as a constant.
    """

    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]
    slope: Float[Array, "*shape"] | None = None
    bend: Float[Array, "*shape"] | None = None


def whole(rule: Rule, mean: Any, variance: Any, slopes: bool) -> Moments:
    """A rule for mean and variance, applied to all elements at once.

    Args:
        rule: an element-wise function of the mean and the variance.
        mean, variance: arrays of one shape.
        slopes: whether the slope and the bend are needed; else they are None.
    """
    values = rule(mean, variance)
    if not slopes:
        return Moments(*values)
    # Not the values of `_partials`: those lack the derivative that the rule may have of its own.
    _, by_mean, by_variance = _partials(rule, mean, variance)
    return Moments(*values, *map(lax.stop_gradient, (by_mean[0], by_variance[0])))


def in_blocks(rule: Rule, mean: Any, variance: Any, slopes: bool) -> Moments:
    """The same, block by block where that is faster, for a closed rule; see `is_closed`."""
    return Moments(*_evaluated(rule, slopes, mean, variance))


def is_closed(function: Callable[..., Any], *arrays: Any) -> bool:
    """Whether an element-wise function depends on nothing but its arguments and fixed numbers."""
    return constants_are_numbers(jax.make_jaxpr(function)(*arrays))


def constants_are_numbers(jaxpr: Any) -> bool:
    """Whether a program closes over nothing but single numbers that are known while tracing."""
    return all(np.ndim(c) == 0 and not isinstance(c, Tracer) for c in jaxpr.consts)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _evaluated(rule: Rule, slopes: bool, mean: Any, variance: Any) -> tuple[Any, ...]:
    if not slopes:
        return by_blocks(lambda *x: tuple(rule(*x)), mean, variance)

    def with_slopes(mean: Any, variance: Any) -> tuple[Any, ...]:
        values, by_mean, by_variance = _partials(rule, mean, variance)
        return *values, by_mean[0], by_variance[0]

    return by_blocks(with_slopes, mean, variance)


@_evaluated.defjvp
def _evaluated_jvp(rule: Rule, slopes: bool, primals: Any, tangents: Any) -> Any:
    def all_of(mean: Any, variance: Any) -> tuple[Any, ...]:
        values, by_mean, by_variance = _partials(rule, mean, variance)
        return *values, *by_mean, *by_variance

    a, b, a_mean, b_mean, a_variance, b_variance = by_blocks(all_of, *primals)
    dmean, dvariance = tangents
    out = (a, b)
    dout = a_mean * dmean + a_variance * dvariance, b_mean * dmean + b_variance * dvariance
    if not slopes:
        return out, dout
    constants = a_mean, a_variance
    return (*out, *constants), (*dout, *map(jnp.zeros_like, constants))


def _partials(rule: Rule, mean: Any, variance: Any) -> tuple[Any, Any, Any]:
    """The values, and their derivatives by the mean and by the variance."""
    values, push = jax.linearize(rule, mean, variance)
    one, zero = jnp.ones_like(mean), jnp.zeros_like(mean)
    return values, push(one, zero), push(zero, one)
