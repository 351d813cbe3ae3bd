"""Means and variances of element-wise functions, with their derivatives, block by block.

Everything that is needed of one element is computed at once: the mean and the variance, and their
derivatives by the mean and the variance of the argument. The compiler for CPUs writes intermediate
results that are used more than once to memory; block by block they stay in the cache, and take no
more memory than a block does. It has no loop with two results either, but complex numbers have two
parts: results leave a block in pairs. What is made of few kinds of operations is a single loop
(`loop`). On other devices it is one kernel anyway.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import eval_jaxpr
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cgjax._gaussian.device import by_device
from cgjax._gaussian.loop import in_one_loop

Pair = tuple[Array, Array]
Rule = Callable[[Array, Array], Pair]


@runtime_checkable
class DifferentiatedRule(Hashable, Protocol):
    """A mean and a variance by those of the argument and by parameters, and their derivatives.

    It holds no arrays, and equals another that says the same.
    """

    def __call__(self, mean: Array, variance: Array, *parameters: Array) -> Pair:
        """The mean and the variance."""
        ...

    def partials(self, mean: Array, variance: Array, *parameters: Array) -> tuple[Pair, Pair, Pair]:
        """The mean and the variance; their derivatives by the mean; by the variance."""
        ...


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
    # Not the values of `_pushed`: those lack the derivative that the rule may have of its own.
    _, by_mean, by_variance = _pushed(rule, mean, variance)
    return Response(*values, *map(lax.stop_gradient, (by_mean[0], by_variance[0])))


@partial(jax.jit, static_argnums=(0, 3), inline=True)
def in_blocks(
    rule: DifferentiatedRule,
    mean: Float[Array, "*shape"],
    variance: Float[Array, "*shape"],
    slopes: bool,
    *parameters: Float[Array, "*shape"],
) -> Response:
    """The same, block by block where that is faster.

    Traced once for all rules that are equal, and for arrays of one shape: the layers of a network
    have few functions between them.

    Args:
        rule: an element-wise function of the mean, the variance and the parameters.
        mean, variance: arrays of one shape.
        slopes: whether the slope and the bend are needed; else they are None.
        parameters: arrays of that shape too.
    """
    return Response(*_evaluated(rule, slopes, mean, variance, *parameters))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _evaluated(rule: DifferentiatedRule, slopes: bool, *arrays: Array) -> tuple[Array, ...]:
    if not slopes:
        return _values(rule, *arrays)
    values, *slopes_of = _values_and_slopes(rule, (0, 1), *arrays)
    return *values, *(slope[0] for slope in slopes_of)


@partial(_evaluated.defjvp, symbolic_zeros=True)
def _evaluated_jvp(
    rule: DifferentiatedRule,
    slopes: bool,
    primals: tuple[Array, ...],
    tangents: tuple[Array | SymbolicZero, ...],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    moving = [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]
    used = [k for k in range(len(tangents)) if k in moving or (slopes and k < 2)]
    out, *slopes_of = _values_and_slopes(rule, tuple(used), *primals)
    dout = [jnp.zeros_like(value) for value in out]
    for k, slope in zip(used, slopes_of, strict=True):
        tangent = tangents[k]
        if not isinstance(tangent, SymbolicZero):
            dout = [d + s * tangent for d, s in zip(dout, slope, strict=True)]
    if not slopes:
        return out, tuple(dout)
    constants = slopes_of[0][0], slopes_of[1][0]
    return (*out, *constants), (*dout, *map(jnp.zeros_like, constants))


# Layers with equal rules and shapes share one function of the program that is compiled: without a
# call of its own, each layer would hold a copy of all its operations.
@partial(jax.jit, static_argnums=0)
def _values(rule: DifferentiatedRule, *arrays: Array) -> Pair:
    return together(rule, *arrays)


@partial(jax.jit, static_argnums=(0, 1))
def _values_and_slopes(
    rule: DifferentiatedRule, used: tuple[int, ...], *arrays: Array
) -> tuple[Pair, ...]:
    """The mean and the variance, and their derivatives by some arrays."""

    def partials(*arrays: Array) -> tuple[Pair, ...]:
        values, *found = rule.partials(*arrays)
        if used[-1] > 1:
            found += _by_parameters(rule, [k for k in used if k > 1], *arrays)
        return values, *(found[k] for k in range(len(found)) if k > 1 or k in used)

    return together(partials, *arrays)


def _by_parameters(rule: DifferentiatedRule, moving: Sequence[int], *arrays: Array) -> list[Pair]:
    """The derivatives of a rule's values by some of its parameters."""

    def of_some(*some: Array) -> Pair:
        given = list(arrays)
        for k, array in zip(moving, some, strict=True):
            given[k] = array
        return rule(*given)

    return _pushed(of_some, *(arrays[k] for k in moving))[1:]


def _pushed(function: Callable[..., Pair], *arrays: Array) -> list[Pair]:
    """The two values of an element-wise function, and their derivatives by each argument."""
    values, push = jax.linearize(function, *arrays)
    one, zero = jnp.ones_like(arrays[0]), jnp.zeros_like(arrays[0])
    numbers = range(len(arrays))
    return [values, *(tuple(push(*(one if i == k else zero for i in numbers))) for k in numbers)]


def together(function: Callable[..., _T], *arrays: Array) -> _T:
    """The same as `by_blocks`, for a function that may fit into one loop.

    That needs no memory for intermediate results, and all cores share it.
    """
    if arrays[0].size < 2 * _BLOCK:
        return function(*arrays)
    loop = in_one_loop(function, *arrays)
    if loop is None:
        return by_blocks(function, *arrays)
    return by_device(*arrays, cpu=loop, default=function)


def by_blocks(
    function: Callable[..., _T], *arrays: Array, within: Callable[..., _T] | None = None
) -> _T:
    """An element-wise function of arrays of one shape, to a tree of arrays of that shape.

    Args:
        function: it depends on nothing but its arguments and fixed numbers, and is not
            differentiated: what is differentiated computes its derivatives block by block too.
        arrays: of one shape and dtype, which is that of the results too.
        within: what is computed in its place where there are blocks, such as what depends on what
            is true of all elements of a block.
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

        def joined(array: Array) -> Array:
            return array.reshape(-1)[:size].reshape(shape)

        blocks = tuple(map(split, arrays))
        one = (jax.ShapeDtypeStruct(block.shape[1:], block.dtype) for block in blocks)
        traced, out = jax.make_jaxpr(within or function, return_shape=True)(*one)

        def packed(block: tuple[Array, ...]) -> tuple[list[Array], list[Array]]:
            leaves = eval_jaxpr(traced.jaxpr, traced.consts, *block)
            pairs = zip(leaves[::2], leaves[1::2], strict=False)
            return [lax.complex(*pair) for pair in pairs], leaves[len(leaves) // 2 * 2 :]

        pairs, rest = lax.map(packed, blocks)
        leaves = [part(joined(pair)) for pair in pairs for part in (lax.real, lax.imag)]
        return jax.tree.unflatten(jax.tree.structure(out), leaves + [joined(one) for one in rest])

    return by_device(*arrays, cpu=blockwise, default=function)


def _number(size: int) -> int:
    """Into how many blocks: of equal size, if there is a number near the best that allows it."""
    best = round(size / _BLOCK)
    near = range(math.ceil(best / 2), 2 * best + 1)
    even = [n for n in near if size % n == 0]
    return min(even, key=lambda n: abs(n - best)) if even else best
