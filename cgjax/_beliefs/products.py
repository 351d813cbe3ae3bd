"""Matrix products and convolutions of values with beliefs.

The variance of a product of independent entries, `(m1^2 + v1)(m2^2 + v2) - m1^2 m2^2`, sums to

    dot(v1, m2^2 + v2) + dot(m1^2, v2) = dot(v1, m2^2) + dot(m1^2 + v1, v2),

exactly for each element of the result. The noise of one weight, though, is the same at all
positions that the weight is applied to (of an image, of a sequence), so they are correlated:

    Cov(y_p, y_q) = sum_i E[x_pi x_qi] Var[w_i] + sum_i Cov(x_pi, x_qi) m_i^2   (p != q),

which is followed on average over all pairs of positions, one number for each example and output.
Noise along the mean weights m themselves scales all positions by one factor, in proportion to their
means. Its variance, 1 / sum_i (m_i^2 / Var[w_i]), and the rest are independent, so this part, the
gain, is followed position by position: at it the activations that come next bend differently.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs.movement import shared_variance
from cgjax._beliefs.pairs import over_pairs
from cgjax._beliefs.spacing import grid_of_rest, in_parts, within
from cgjax._beliefs.values import Exact, Gaussian, Value, is_random, sharing, stored
from cgjax._beliefs.windows import Window
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import bind

# Of two operands, and linear in both.
Product = Callable[[Exact, Exact], Array]


def dot_general(
    eqn: JaxprEqn,
    operands: Sequence[Value],
    order: int,
    positions: bool,
    same: Sequence[int] | None = None,
) -> Gaussian:
    """The rule of `dot_general`.

    Args:
        eqn: the equation.
        operands: arrays and Gaussians.
        order: 1 for the first-order rule.
        positions: whether what positions share is followed.
        same: where the operands are one variable, the axis of the first that each axis of the
            second is.
    """
    x, y = (v.without_gain().stored() if is_random(v) else v for v in operands)

    def dot(a: Exact, b: Exact) -> Array:
        return bind(eqn, [a, b])[0]

    mean, variance = bilinear(dot, x, y, order)
    if same is not None and (met := _meetings(eqn, x, same, mean.shape)) is not None:
        # The sum of squares m^2 + v, whose variances 4 m^2 v + 2 v^2 are twice those of products.
        squares = mean if order == 1 else mean + dot(x.variance, stored(jnp.ones_like(y.mean)))
        return Gaussian(jnp.where(met, squares, mean), jnp.where(met, 2 * variance, variance))
    if not positions or order == 1:
        return Gaussian(mean, variance)
    (contract, batch) = eqn.params["dimension_numbers"]
    variance, extras = _contracted(dot, (x, y), variance, contract)
    number = len(batch[0])
    free = [
        [a for a in range(_ndim(o)) if a not in contract[k] and a not in batch[k]]
        for k, o in enumerate((x, y))
    ]
    for k, along in _applied(free, (x, y), contract, batch):
        data, other = ((x, y), (y, x))[k]
        first = number + (len(free[0]) if k == 1 else 0)
        out_axes = tuple(first + free[k].index(a) for a in along)
        pairs = over_pairs(_mean_of(data), along)

        def pooled(pairs: Array, b: Exact, k: int = k) -> Array:
            return jnp.stack([dot(a, b) if k == 0 else dot(b, a) for a in pairs])

        shared, gain, grid = jnp.zeros((), mean.dtype), None, None
        if is_random(data) and set(along) <= set(data.axes):
            together = _broadcast_but(shared_variance(data, along), _shape(data), along)
            shared = shared + pooled(together, _mean_of(other) ** 2)
            grid = grid_of_rest(data, along)
            if (extra := extras[k]) is not None and extra.apart is not None:
                alone = _broadcast_but(over_pairs(root(data.variance), along), data.shape, along)
                alone = pooled(alone, _mean_of(other) ** 2)
                apart = extra.apart.mean([a + 1 for a in out_axes], keepdims=True)
                shared = shared + apart * (over_pairs(extra.together, out_axes) - alone)
            pairs = pairs + together
        if is_random(other):
            own = other.variance
            if (extra := extras[1 - k]) is not None:
                # What different elements of a sum have in common, for any two positions.
                own = own - jnp.broadcast_to(other.correlation[0], other.shape) * own
                common = extra.correlation.mean(out_axes, keepdims=True)
                shared = shared + common * over_pairs(extra.together, out_axes)
            shared = shared + pooled(pairs, own)
            ones = stored(jnp.ones_like(pairs[:1]))
            gain = mean * root(_inverse(pooled(ones, _precision(other))[0]))
        return sharing(mean, variance, shared, out_axes, gain).on(grid)
    return Gaussian(mean, variance)


def _applied(
    free: Sequence[Sequence[int]],
    operands: Sequence[Value],
    contract: Sequence[Sequence[int]],
    batch: Sequence[Sequence[int]],
) -> list[tuple[int, tuple[int, ...]]]:
    """The operands that are applied to at many positions, and their axes of these.

    Features come last: what follows the axes summed over, in products with axes of examples of
    their own, are outputs, as of the values of attention. Elsewhere the operand that is applied at
    many positions holds examples along its first axis.
    """
    found = []
    for k, data in enumerate(operands):
        other = operands[1 - k]
        if batch[0]:
            steps = [a for a in free[k] if a < max(contract[k], default=0)]
        else:
            steps = [a for a in free[k] if a != 0] if _ndim(data) > 2 else []
        own = [a for a in free[k] if a in data.axes] if is_random(data) else []
        along = steps if is_random(other) else own
        if own and is_random(other):
            along = [a for a in steps if a in own]
        if along:
            found.append((k, tuple(along)))
    # Of two, as in the scores of attention, that of the result's last axis, which a softmax sums.
    return found[::-1] if batch[0] else found


def _meetings(eqn: JaxprEqn, x: Value, same: Sequence[int], shape: Sequence[int]) -> Array | None:
    """Where a product of a variable with itself sums squares; None where nowhere, or not only."""
    (contract, other), (batch, other_batch) = eqn.params["dimension_numbers"]
    if tuple(contract) != tuple(same[a] for a in other):
        return None
    if tuple(batch) != tuple(same[a] for a in other_batch):
        return None
    free = [a for a in range(_ndim(x)) if a not in contract and a not in batch]
    others = [same[a] for a in range(_ndim(x)) if a not in other and a not in other_batch]
    met = jnp.ones(shape, bool)
    for k, a in enumerate(free):
        first, second = len(batch) + k, len(batch) + len(free) + others.index(a)
        index = [lax.broadcasted_iota(int, shape, axis) for axis in (first, second)]
        met = met & (index[0] == index[1])
    return met


class _Together(NamedTuple):
    """What the elements of a sum have in common.

    Attributes:
        correlation: their correlation, in the shape of the result.
        together: the sum of their deviations, times what they are multiplied by.
        apart: the correlations of elements of two sums, of any two and of neighbours, that are
            multiplied by different numbers; None where no position is left.
    """

    correlation: Array
    together: Array
    apart: Array | None = None


def _contracted(
    dot: Product, operands: Sequence[Value], variance: Array, contract: Sequence[Sequence[int]]
) -> tuple[Array, list[_Together | None]]:
    """Positions that are summed (attention's averages over time) add up with what they share."""
    extras: list[_Together | None] = [None, None]
    for k, data in enumerate(operands):
        if not is_random(data) or data.correlation is None or not contract[k]:
            continue
        if not set(contract[k]) <= set(data.axes):
            continue
        other = _mean_of(operands[1 - k])

        def sums(a: Array, b: Exact, k: int = k) -> Array:
            return dot(a, b) if k == 0 else dot(b, a)

        add = functools.partial(sums, b=stored(jnp.ones_like(other)))
        correlation, apart = _in_sums(data, contract[k], add)
        together = sums(root(data.variance), other)
        alone = sums(data.variance, other**2)
        variance = jnp.maximum(variance + correlation * (together**2 - alone), 0)
        extras[k] = _Together(correlation, together, apart)
    return variance, extras


def _in_sums(
    data: Gaussian, contract: Sequence[int], add: Callable[[Array], Array]
) -> tuple[Array, Array | None]:
    """The correlations of what is added up, and of elements of two sums; see `_Together`."""
    number = math.prod(data.shape[a] for a in contract)
    parts = in_parts(data, contract)

    def of_result(correlation: Array) -> Array:
        return add(jnp.broadcast_to(correlation, data.shape) / number)

    left = [a for a in data.axes if a not in contract]
    if not left or number < 2:
        return of_result(parts.inside), None
    others = (number * parts.between - within(data, left)) / (number - 1)
    return of_result(parts.inside), jnp.stack(list(map(of_result, others)))


def bilinear(product: Product, x: Value, y: Value, order: int) -> tuple[Array, Array]:
    """Mean and variance of a product that is linear in both operands, at least one random."""
    mean = product(_mean_of(x), _mean_of(y))
    if not is_random(y):
        return mean, product(x.variance, y**2)
    if not is_random(x):
        return mean, product(x**2, y.variance)
    second = x.mean**2 if order == 1 else x.mean**2 + x.variance
    return mean, product(x.variance, y.mean**2) + product(second, y.variance)


def _precision(weights: Gaussian) -> Array:
    """m^2 / v of each weight; a weight that is (almost) known counts as hardly uncertain."""
    smallest = jnp.finfo(weights.dtype).tiny ** 0.5
    return weights.mean**2 / jnp.maximum(weights.variance, smallest)


def _inverse(x: Array) -> Array:
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


def _mean_of(x: Value) -> Exact:
    return x.mean if is_random(x) else x


def _ndim(x: Value) -> int:
    return len(_shape(x))


def _shape(x: Value) -> tuple[int, ...]:
    return tuple(x.shape)


def _broadcast_but(a: Array, shape: Sequence[int], axes: Sequence[int]) -> Array:
    return jnp.broadcast_to(a, [2, *(1 if k in axes else n for k, n in enumerate(shape))])


def convolution(eqn: JaxprEqn, operands: Sequence[Value], order: int, positions: bool) -> Gaussian:
    """The rule of `conv_general_dilated`."""
    x, kernel = (v.without_gain().stored() if is_random(v) else v for v in operands)
    p = eqn.params

    def convolve(a: Exact, b: Exact) -> Array:
        return bind(eqn, [a, b])[0]

    numbers = p["dimension_numbers"]
    spatial = tuple(numbers.out_spec[2:])
    mean = convolve(_mean_of(x), _mean_of(kernel))
    correlated = is_random(x) and set(numbers.lhs_spec[2:]) <= set(x.axes)
    follow = positions and order != 1 and p["batch_group_count"] == 1 and bool(spatial)
    follow = follow and math.prod(mean.shape[a] for a in spatial) > 1
    if not follow:
        return Gaussian(mean, bilinear(convolve, x, kernel, order)[1])

    window = Window(p, x.shape, kernel.shape, mean.shape)
    if not (correlated or is_random(kernel) or window.overlap):
        return Gaussian(mean, bilinear(convolve, x, kernel, order)[1])
    weights = window.kernel(_mean_of(kernel))  # (taps, inputs, groups, outputs)
    # For any two windows, and for neighbours: (2, examples, taps, groups, inputs).
    pairs = window.pairs(_mean_of(x))
    shared = common = jnp.zeros((), mean.dtype)
    if correlated:
        # One number for each example and input: what its positions share.
        between = window.spaced(x, tuple(numbers.lhs_spec[2:]))
        common = jnp.stack([window.channels(c) for c in between])
        inside = common * window.inside**2
        shared = jnp.einsum("cngi,igo->cngo", inside, weights.sum(0) ** 2)
        pairs = pairs + inside[:, :, None]
    parts, gain = [], None
    if is_random(x):
        spread = convolve(x.variance, _mean_of(kernel) ** 2)
        level = window.channels(x.variance.mean(tuple(numbers.lhs_spec[2:]), keepdims=True))
        # Windows that overlap have the noise in common that an input has for itself.
        own = jnp.maximum(level - common[1], 0) if correlated else level
        shared = shared + window.overlaps(own, weights)
        if correlated and len(weights) > 1:
            # The taps of one window, which are neighbours, add up with what they share.
            level = jnp.broadcast_to(level, common.shape[1:])
            squares = (weights**2).sum(0)
            alone = jnp.einsum("ngi,igo->ngo", level, squares)
            extra = jnp.einsum("ngi,igo->ngo", common[1], weights.sum(0) ** 2 - squares)
            factor = 1 + extra / jnp.where(alone > 0, alone, 1)
            spread = spread * window.outputs(jnp.maximum(factor, 0))
        parts.append(spread)
    if is_random(kernel):
        second = _mean_of(x) ** 2 + (x.variance if is_random(x) else 0)
        parts.append(convolve(second, kernel.variance))
        shared = shared + jnp.einsum("cntgi,tigo->cngo", pairs, window.kernel(kernel.variance))
        precision = window.kernel(_precision(kernel)).sum((0, 1))
        gain = mean * window.outputs(root(_inverse(precision))[None])
    shared = jnp.stack([window.outputs(c) for c in shared])
    return sharing(mean, functools.reduce(operator.add, parts), shared, spatial, gain)
