"""Means and variances of element-wise functions, with their derivatives, block by block.

Everything that is needed of one element is computed at once: the mean and the variance, and their
derivatives by the mean and the variance of the argument. The compiler for CPUs writes intermediate
results that are used more than once to memory; block by block they stay in the cache, and take no
more memory than a block does. On other devices it is one kernel anyway.
"""

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Float

Pair = tuple[Array, Array]
Rule = Callable[[Array, Array], Pair]

# Elements: a block of a quadrature with 16 points takes a megabyte.
_BLOCK = 1 << 13

_T = TypeVar("_T")


class Response(NamedTuple):
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


def whole(
    rule: Rule, mean: Float[Array, "*shape"], variance: Float[Array, "*shape"], slopes: bool
) -> Response:
    """A rule for mean and variance, applied to all elements at once.

    Args:
        rule: an element-wise function of the mean and the variance.
        mean, variance: arrays of one shape.
        slopes: whether the slope and the bend are needed; else they are None.
    """
    values = rule(mean, variance)
    if not slopes:
        return Response(*values)
    # Not the values of `_partials`: those lack the derivative that the rule may have of its own.
    _, by_mean, by_variance = _partials(rule, mean, variance)
    return Response(*values, *map(lax.stop_gradient, (by_mean[0], by_variance[0])))


def in_blocks(
    rule: Callable[..., Pair],
    mean: Float[Array, "*shape"],
    variance: Float[Array, "*shape"],
    slopes: bool,
    *parameters: Float[Array, "*shape"],
) -> Response:
    """The same, block by block where that is faster, for a closed rule; see `is_closed`.

    Args:
        rule: an element-wise function of the mean, the variance and the parameters.
        mean, variance: arrays of one shape.
        slopes: whether the slope and the bend are needed; else they are None.
        parameters: arrays of that shape too.
    """
    return Response(*_evaluated(rule, slopes, mean, variance, *parameters))


def is_closed(function: Callable[..., Array], *arrays: Array) -> bool:
    """Whether an element-wise function depends on nothing but its arguments and fixed numbers."""
    return constants_are_numbers(jax.make_jaxpr(function)(*arrays))


def constants_are_numbers(jaxpr: ClosedJaxpr) -> bool:
    """Whether a program closes over nothing but single numbers that are known while tracing."""
    return all(np.ndim(c) == 0 and not isinstance(c, Tracer) for c in jaxpr.consts)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _evaluated(rule: Callable[..., Pair], slopes: bool, *arrays: Array) -> tuple[Array, ...]:
    if not slopes:
        return by_blocks(lambda *x: tuple(rule(*x)), *arrays)

    def with_slopes(*arrays: Array) -> tuple[Array, ...]:
        values, by_mean, by_variance, *_ = _partials(rule, *arrays)
        return *values, by_mean[0], by_variance[0]

    return by_blocks(with_slopes, *arrays)


@_evaluated.defjvp
def _evaluated_jvp(
    rule: Callable[..., Pair],
    slopes: bool,
    primals: tuple[Array, ...],
    tangents: tuple[Array, ...],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    out, *partials = by_blocks(lambda *arrays: _partials(rule, *arrays), *primals)
    terms = ([p[k] * t for p, t in zip(partials, tangents, strict=True)] for k in (0, 1))
    dout = tuple(reduce(operator.add, parts) for parts in terms)
    if not slopes:
        return out, dout
    constants = partials[0][0], partials[1][0]
    return (*out, *constants), (*dout, *map(jnp.zeros_like, constants))


def _partials(rule: Callable[..., Pair], *arrays: Array) -> tuple[Pair, ...]:
    """The two values, and their derivatives by each of the arguments."""
    values, push = jax.linearize(rule, *arrays)
    one, zero = jnp.ones_like(arrays[0]), jnp.zeros_like(arrays[0])
    directions = [[one if i == k else zero for i in range(len(arrays))] for k in range(len(arrays))]
    return tuple(values), *(tuple(push(*direction)) for direction in directions)


def by_blocks(function: Callable[..., _T], *arrays: Array) -> _T:
    """An element-wise function of arrays of one shape, to a tree of arrays of that shape.

    Args:
        function: it depends on nothing but its arguments and fixed numbers, and is not
            differentiated: what is differentiated computes its derivatives block by block too.
        arrays: of one shape and dtype.
    """
    shape, size = arrays[0].shape, arrays[0].size
    if size < 2 * _BLOCK:
        return function(*arrays)
    number = _number(size)
    width = -(-size // number)

    def blockwise(*arrays: Array) -> _T:
        def split(array: Array) -> Array:
            flat = array.reshape(-1)
            if number * width > size:
                flat = jnp.pad(flat, (0, number * width - size), mode="edge")
            return flat.reshape(number, width)

        out = lax.map(lambda block: function(*block), tuple(map(split, arrays)))
        return jax.tree.map(lambda a: a.reshape(-1)[:size].reshape(shape), out)

    return lax.platform_dependent(*arrays, cpu=blockwise, default=function)


def _number(size: int) -> int:
    """Into how many blocks: of equal size, if there is a number near the best that allows it."""
    best = round(size / _BLOCK)
    near = range(math.ceil(best / 2), 2 * best + 1)
    even = [n for n in near if size % n == 0]
    return min(even, key=lambda n: abs(n - best)) if even else best
