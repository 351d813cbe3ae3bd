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

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs.movement import shared_variance
from cgjax._beliefs.values import (
    Exact,
    Gaussian,
    Value,
    is_random,
    neighbour_products,
    over_even_pairs,
    over_pairs,
    sharing,
    stored,
)
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import Params, bind

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
    x, y = (v.shared()[0].stored() if is_random(v) else v for v in operands)

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
    number = len(batch[0])
    free = [
        [a for a in range(_ndim(o)) if a not in contract[k] and a not in batch[k]]
        for k, o in enumerate((x, y))
    ]
    # The operand that is applied to many positions holds examples along its first axis.
    for k, (data, other) in enumerate(((x, y), (y, x))):
        steps = [a for a in free[k] if a != 0] if _ndim(data) > 2 and not batch[0] else []
        own = [a for a in free[k] if a in data.axes] if is_random(data) else []
        along = tuple(steps if is_random(other) else own)
        if own and is_random(other):
            along = tuple(a for a in steps if a in own)
        if not along:
            continue
        first = number + (len(free[0]) if k == 1 else 0)
        out_axes = tuple(first + free[k].index(a) for a in along)
        pairs = over_pairs(_mean_of(data), along)

        def pooled(pairs: Array, b: Exact, k: int = k) -> Array:
            return jnp.stack([dot(a, b) if k == 0 else dot(b, a) for a in pairs])

        shared = jnp.zeros((), mean.dtype)
        if own:
            together = _broadcast_but(shared_variance(data, along), _shape(data), along)
            shared = shared + pooled(together, _mean_of(other) ** 2)
            pairs = pairs + together
        gain = None
        if is_random(other):
            shared = shared + pooled(pairs, other.variance)
            ones = stored(jnp.ones_like(pairs[:1]))
            gain = mean * root(_inverse(pooled(ones, _precision(other))[0]))
        return sharing(mean, variance, shared, out_axes, gain)
    return _contracted(dot, x, y, mean, variance, contract)


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


def _contracted(
    dot: Product,
    x: Value,
    y: Value,
    mean: Array,
    variance: Array,
    contract: Sequence[Sequence[int]],
) -> Gaussian:
    """Positions that are summed (attention's averages over time) add up with what they share."""
    for k, (data, other) in enumerate(((x, y), (y, x))):
        if is_random(data) and data.correlation is not None:
            if not set(contract[k]) <= set(data.axes) or is_random(other):
                continue
            shared = jnp.maximum(data.correlation[0], 0) * data.variance
            loading, own = root(shared), data.variance - shared
            square = other**2
            parts = [(own, square), (loading, other)]
            own, together = (dot(a, b) if k == 0 else dot(b, a) for a, b in parts)
            return Gaussian(mean, own + together**2)
    return Gaussian(mean, variance)


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
    x, kernel = (v.shared()[0].stored() if is_random(v) else v for v in operands)
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

    window = _Window(p, x.shape, kernel.shape, mean.shape)
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
        edge = window.taps(jnp.ones_like(x.mean)).mean(1)[None] ** 2
        inside = common * edge
        shared = jnp.einsum("cngi,igo->cngo", inside, weights.sum(0) ** 2)
        pairs = pairs + (common * edge)[:, :, None]
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


class _Window:
    """A convolution's geometry: which inputs each of its taps sees."""

    def __init__(self, params: Params, lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int]):
        self.numbers = params["dimension_numbers"]
        self.groups = params["feature_group_count"]
        self.out = out
        lhs_spec, rhs_spec, out_spec = self.numbers
        self.lhs_spec, self.rhs_spec, self.out_spec = lhs_spec, rhs_spec, out_spec
        self.steps = [
            max(s // d, 1)
            for s, d in zip(params["window_strides"], params["lhs_dilation"], strict=True)
        ]
        self.dilations = params["rhs_dilation"]
        self.spread = any(d > 1 for d in params["lhs_dilation"])
        self.masks = []
        for d, (i, k, o) in enumerate(zip(lhs_spec[2:], rhs_spec[2:], out_spec[2:], strict=True)):
            low, _ = params["padding"][d]
            place = (
                np.arange(out[o])[:, None] * params["window_strides"][d]
                - low
                + np.arange(rhs[k])[None] * params["rhs_dilation"][d]
            )
            index, left = np.divmod(place, params["lhs_dilation"][d])
            seen = (left == 0) & (index >= 0) & (index < lhs[i])
            mask = np.zeros((lhs[i], rhs[k]), np.float32)
            np.add.at(mask, (np.where(seen, index, 0), np.arange(rhs[k])[None] + 0 * index), seen)
            self.masks.append(mask / out[o])

    @property
    def overlap(self) -> bool:
        """Whether neighbours see the same inputs."""
        return not self.spread and any(
            step % dilation == 0 and step // dilation < mask.shape[1] and len(mask) > step
            for step, dilation, mask in zip(self.steps, self.dilations, self.masks, strict=True)
        )

    def taps(self, x: Exact) -> Array:
        """For each tap the average, over all windows, of the input it sees: (n, taps, g, i)."""
        x = jnp.transpose(x, (self.lhs_spec[0], *self.lhs_spec[2:], self.lhs_spec[1]))
        for mask in self.masks:
            # The next spatial axis is always axis 1; its taps go last.
            x = jnp.tensordot(x, jnp.asarray(mask, x.dtype), ((1,), (0,)))
        x = jnp.swapaxes(x.reshape(*x.shape[:2], -1), 1, 2)
        return x.reshape(*x.shape[:2], self.groups, -1)

    def pairs(self, x: Exact) -> Array:
        """For each tap the average product of the inputs that two windows see: any, neighbours."""
        number = math.prod(self.out[a] for a in self.out_spec[2:])
        anywhere = (number * self.taps(x) ** 2 - self.taps(x**2)) / (number - 1)
        axes = self.lhs_spec[2:]
        near = [
            self.channels(neighbour_products(x, axis, step).mean(axes, keepdims=True))
            * (x.shape[axis] / (x.shape[axis] - step))
            for axis, out, step in zip(axes, self.out_spec[2:], self.steps, strict=True)
            if self.out[out] > 1 and x.shape[axis] > step
        ]
        if not near:
            return jnp.stack([anywhere, anywhere])
        # That of all neighbours, in the share of windows in which the tap is inside the image.
        seen = functools.reduce(np.multiply.outer, [m.sum(0) for m in self.masks]).reshape(-1)
        neighbours = functools.reduce(jnp.add, near)[:, None] / len(near)
        return jnp.stack([anywhere, neighbours * jnp.asarray(seen, x.dtype)[None, :, None, None]])

    def overlaps(self, level: Array, weights: Array) -> Array:
        """The covariances that inputs of such variances give to any two windows, to neighbours."""
        if self.spread:
            return jnp.zeros((), weights.dtype)
        grid = weights.reshape(*(m.shape[1] for m in self.masks), *weights.shape[1:])
        spatial = tuple(range(len(self.masks)))
        number = math.prod(self.out[a] for a in self.out_spec[2:])
        near, classes = [], [grid]
        for axis, (step, dilation) in enumerate(zip(self.steps, self.dilations, strict=True)):
            # Windows one step apart see an input by taps `shift` apart, or after some more steps.
            shift, size = step // math.gcd(step, dilation), grid.shape[axis]
            if self.out[self.out_spec[2 + axis]] > 1:
                apart = shift if step % dilation == 0 and shift < size else size
                parts = [
                    lax.slice_in_dim(grid, *ends, axis=axis)
                    for ends in ((apart, size), (0, size - apart))
                ]
                near.append((parts[0] * parts[1]).sum(spatial))
            classes = [
                lax.slice_in_dim(c, start, size, shift, axis)
                for c in classes
                for start in range(min(shift, size))
            ]
        anywhere = functools.reduce(jnp.add, [c.sum(spatial) ** 2 for c in classes])
        anywhere = (anywhere - (grid**2).sum(spatial)) / (number - 1)
        both = jnp.stack([anywhere, functools.reduce(jnp.add, near) / len(near)])
        # At the edges windows see fewer inputs.
        inside = math.prod(float(m.sum(0).mean()) for m in self.masks)
        return inside * jnp.einsum("ngi,cigo->cngo", level, both)

    def spaced(self, x: Gaussian, axes: tuple[int, ...]) -> Array:
        """The covariances of x's positions, where neighbours are one stride apart."""
        assert x.correlation is not None
        near, far = x.correlation[1], x.correlation[0]
        # What neighbours have in common beyond any two fades within a few steps.
        faded = far + (near - far) / max(self.steps)
        return jnp.stack([far, faded]) * over_even_pairs(root(x.variance), axes)

    def kernel(self, kernel: Exact) -> Array:
        """The kernel as (taps, inputs, groups, outputs)."""
        output, inputs, *taps = self.rhs_spec
        kernel = jnp.transpose(kernel, (*taps, inputs, output))
        *_, inputs, outputs = kernel.shape
        return kernel.reshape(-1, inputs, self.groups, outputs // self.groups)

    def channels(self, x: Array) -> Array:
        """An array of size 1 along the positions, as (examples, groups, inputs)."""
        x = jnp.transpose(x, self.lhs_spec)
        return x.reshape(x.shape[0], self.groups, -1)

    def outputs(self, x: Array) -> Array:
        """(examples, groups, outputs) laid out as the result, of size 1 along the positions."""
        shape = (x.shape[0], x.shape[1] * x.shape[2], *(1,) * len(self.masks))
        return jnp.transpose(x.reshape(shape), [int(a) for a in np.argsort(self.out_spec)])
