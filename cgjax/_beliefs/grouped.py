"""Functions of sums over a group: normalisation, softmax, log-sum-exp, however they are written.

A sum over some axes of an element-wise function of a Gaussian x, and everything computed from x and
such sums element by element, is kept as one function of x until an operation needs its moments. So
`(x - x.mean()) / x.std()` knows that numerator and denominator are made of the same numbers, also
where the statistics were dropped to fewer axes, repeated, or transposed in between.

For y_i = G(x_i, R_1, R_2, …) with sums R_r over groups, and w_ri = dR_r / dx_i,

    Var[y_i] = Var[G(x_i, R)] + 2 E[G'] sum_r G_r w_ri v_i + sum_rs G_r G_s Cov(R_r, R_s),

with G_r = dG / dR_r: exact in x_i, to first order in what the sums contribute, which is small when
the group is large, and exact where y is an affine function of x. The mean is exact in x_i and of
second order in the sums.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._beliefs import layouts, of_one_sum, small
from cgjax._beliefs.curves import Curve
from cgjax._beliefs.group_sums import Function, Sum
from cgjax._beliefs.laid import Laid, laid_gaussian
from cgjax._beliefs.layouts import Layout, Shape
from cgjax._beliefs.scaled import Derivatives, Scaled
from cgjax._beliefs.values import Gaussian, Lazy, kept, settle, sharing
from cgjax._gaussian.closed import squared
from cgjax._gaussian.curve import curve_moments
from cgjax._gaussian.numerics import wide

# Points of quadrature lie at least so far apart, relative to the mean, that rounding is small.
_ROUNDED = 2.0**-10

# What a value is known to be: just a sum; 1 / a sum of exponentials; the logarithm of a sum of
# exponentials; an exponential divided by such a sum, as in softmax; the logarithm of that.
Form = Literal["sum", "inverse", "log sum", "share", "log share"]


@dataclass(frozen=True, eq=False)
class Grouped(Lazy):
    """A function of a Gaussian and of sums of it over groups.

    Attributes:
        root: the Gaussian.
        fine: its shape, cut so fine that groups are axes.
        sums: the sums, each after those it needs.
        function: from (root, values of the sums), all of the refined shape or of size 1 where they
            do not vary, to the value.
        sizes: the size of the function's value along each axis of the refined shape.
        layout: where the value's elements stand in the root.
        own: the layouts in which the root took part.
        dtype: the value's dtype.
        alone: whether the value is a function of the sums only.
        straight: whether it is affine in the root for given sums.
        affine: whether it is affine in the root altogether.
        form: what it is known to be.
        offset: what is added to that, of the refined shape; None for nothing.
        known: its mean and variance in the refined shape, where they are known.
        total: the same in its layout, with what positions share.
        of_one: the value as a function of the last of the sums alone; None if it is more.
        scaled: the value as a product; None if it is none.
        square_of: the affine value whose square it is; None for none.
        undivided: of shares, of their sums, and of what these divide, the same before the shares
            were divided by the first of the sums: functions of the root, and their sums.
    """

    root: Gaussian
    fine: Shape
    sums: tuple[Sum, ...]
    function: Function
    sizes: Shape
    layout: Layout
    own: tuple[Layout, ...]
    dtype: np.dtype
    alone: bool
    straight: bool
    affine: bool
    form: Form | None = None
    offset: jax.Array | None = None
    known: tuple[jax.Array, jax.Array] | None = None
    total: Gaussian | Curve | None = None
    of_one: of_one_sum.OfOneSum | None = None
    scaled: Scaled | None = None
    square_of: Grouped | None = None
    undivided: Gaussian | Curve | Laid | Grouped | None = None

    @property
    def shape(self) -> Shape:
        """The value's shape."""
        return self.layout.shape

    def settled(self, order: int) -> Gaussian:
        """The moments: matched, or to first order."""
        total = self.total
        if total is None:
            return self._moments(order)
        return total if isinstance(total, Gaussian) else settle(total, order)

    @kept
    def _moments(self, order: int) -> Gaussian:
        return settled(self, order)

    def moved(self, layout: Layout) -> Grouped | None:
        """The value in another layout; None if some of it is missing there, or axes are cut."""
        varies = frozenset(k for k, n in enumerate(self.sizes) if n > 1)
        kept = layouts.axes_of(layout.digits, self.fine)
        whole = layouts.is_of_axes(layout, self.fine)
        if kept != varies or not whole or layouts.has_twice(layout):
            return None
        return replace(self, layout=layout, total=None)


def at_root(group: Grouped, x: jax.Array) -> jax.Array:
    """The value at values of the root, both in the refined shape."""
    known: dict[Sum, jax.Array] = {}
    for one in group.sums:
        known[one] = one.of(x, known)
    return jnp.broadcast_to(group.function(x, known), group.sizes)


def is_integrated(group: Grouped, over: frozenset[int]) -> bool:
    """Whether all elements of a group of so many axes are integrated over at once."""
    return small.is_small(group.fine, over) and not group.root.axes


def in_full(group: Grouped) -> Callable[[jax.Array], jax.Array]:
    """A value in its layout as a function of the root alone."""

    def function(x: jax.Array) -> jax.Array:
        out = at_root(group, x.reshape(group.fine))
        return layouts.laid(jnp.asarray(out, group.dtype), group.layout, group.fine)

    return function


# -- moments


def mean_in(group: Grouped) -> jax.Array:
    return wide(group.root.mean).reshape(group.fine)


def variance_in(group: Grouped) -> jax.Array:
    return wide(group.root.variance).reshape(group.fine)


def slope_of(of: Function, needs: Sequence[Sum], mean: jax.Array) -> jax.Array:
    """How a sum changes with each element of the root, at the mean."""

    def total(x: jax.Array) -> jax.Array:
        known: dict[Sum, jax.Array] = {}
        for need in needs:
            known[need] = need.of(x, known)
        return of(x, known)

    value, pull = jax.vjp(total, mean)
    return pull(jnp.ones_like(value))[0]


@dataclass(frozen=True)
class _Expansion:
    """A grouped value near the means of its sums.

    Attributes:
        group: the value.
        order: 1 for the first-order rule.
        values: the sums at which it is expanded.
        slopes: how each sum changes with each element of the root.
    """

    group: Grouped
    order: int
    values: tuple[jax.Array, ...]
    slopes: tuple[jax.Array, ...]

    @classmethod
    def of(cls, group: Grouped, order: int) -> _Expansion:
        mean = mean_in(group)
        at: dict[Sum, jax.Array] = {}
        for one in group.sums:
            at[one] = wide(one.summary[0]) if order != 1 else one.of(mean, at)
        slopes = tuple(slope_of(one.of, one.needs, mean) for one in group.sums)
        return cls(group, order, tuple(at[s] for s in group.sums), slopes)

    def covariance(self, r: int, s: int) -> jax.Array:
        """Cov(R_r, R_s), where both are at one element."""
        one, other = self.group.sums[r], self.group.sums[s]
        if r == s and self.order != 1:
            return wide(one.summary[1])
        product = self.slopes[r] * self.slopes[s] * variance_in(self.group)
        return product.sum(tuple(one.over & other.over), keepdims=True)

    def function(self, x: jax.Array, values: Sequence[jax.Array]) -> jax.Array:
        """G as a function of the root and the sums."""
        return self.group.function(x, dict(zip(self.group.sums, values, strict=True)))

    @functools.cached_property
    def product(self) -> Derivatives | None:
        """The derivatives of a product."""
        of = self.group.scaled
        if of is None:
            return None
        return Derivatives(of, mean_in(self.group), self.group.sums, self.values)

    def partial(self, r: int) -> jax.Array:
        """dG / dR_r."""
        if self.product is not None:
            return self.product.partial(r)
        return self._partial(r, mean_in(self.group), self.values)

    def bend(self, r: int, s: int) -> jax.Array:
        """d^2 G / dR_r dR_s."""
        if self.product is not None:
            return self.product.bend(r, s)
        mean, values = mean_in(self.group), self.values
        return _slope(lambda v: self._partial(r, mean, _put(values, s, v)), values[s])

    def mixed(self, r: int) -> jax.Array:
        """d^2 G / dx dR_r."""
        if self.product is not None:
            return self.product.mixed(r)
        return _slope(lambda x: self._partial(r, x, self.values), mean_in(self.group))

    def _partial(self, r: int, x: jax.Array, values: tuple[jax.Array, ...]) -> jax.Array:
        return _slope(lambda v: self.function(x, _put(values, r, v)), values[r])


def _slope(function: Callable[[jax.Array], jax.Array], at: jax.Array) -> jax.Array:
    return jax.jvp(function, (at,), (jnp.ones_like(at),))[1]


def _put(values: tuple[jax.Array, ...], at: int, value: jax.Array) -> tuple[jax.Array, ...]:
    return (*values[:at], value, *values[at + 1 :])


def moments(group: Grouped, order: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance in the refined shape."""
    if group.known is not None:
        return group.known
    if group.of_one is not None and order != 1:
        mean, variance = map(wide, group.sums[-1].summary)
        found = of_one_sum.moments(group.of_one, mean, variance, group.sizes)
        if found is not None:
            return found
    if group.square_of is not None and order != 1:
        return squared(*moments(group.square_of, order))
    over = frozenset(k for s in group.sums for k in s.over)
    if order != 1 and not group.affine and is_integrated(group, over):
        return small.moments(lambda x: at_root(group, x), mean_in(group), variance_in(group), over)
    at = _Expansion.of(group, order)
    mean, variance, values = mean_in(group), variance_in(group), at.values
    # A sum that varies where the value does not is what other sums are made of.
    sizes = group.sizes
    numbers = [r for r, v in enumerate(values) if jnp.broadcast_shapes(v.shape, sizes) == sizes]
    by_sum = {r: at.partial(r) for r in numbers}
    # Each pair of sums once: two of them are there twice.
    pairs = {
        (r, s): at.covariance(r, s) * (1 if r == s else 2)
        for k, r in enumerate(numbers)
        for s in numbers[k:]
    }
    out_variance = sum(
        (by_sum[r] * by_sum[s] * covariance for (r, s), covariance in pairs.items()),
        jnp.zeros((), mean.dtype),
    )
    if group.alone:
        out_mean = at.function(mean, values)
    else:
        out_mean, spread, steepness = _of_root(at, group.straight or order == 1)
        mixed = sum((by_sum[r] * at.slopes[r] for r in numbers), jnp.zeros((), mean.dtype))
        out_variance = out_variance + spread + 2 * steepness * mixed * variance
    if order != 1 and not group.affine:
        for (r, s), covariance in pairs.items():
            out_mean = out_mean + at.bend(r, s) * covariance / 2
        for r in [] if group.alone else numbers:
            out_mean = out_mean + at.mixed(r) * at.slopes[r] * variance
    return out_mean, jnp.maximum(out_variance, 0)


def _of_root(at: _Expansion, linear: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance as a function of the root alone, and its slope."""
    mean, variance = mean_in(at.group), variance_in(at.group)
    if at.product is not None:
        steepness = at.product.by_root()
        return at.product.value, steepness**2 * variance, steepness

    def given(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(at.function(x, at.values), mean.shape)

    out_mean, steepness = jax.jvp(given, (mean,), (jnp.ones_like(mean),))
    if linear:
        return out_mean, steepness**2 * variance, steepness
    # Points lie around the mean, not around 0: values may lie far from 0 and close together.
    center = lax.stop_gradient(mean)
    unit = 1 + _ROUNDED * jnp.abs(center)
    centered = (mean - center) / unit, variance / unit**2
    return *curve_moments(lambda z: given(center + unit * z), *centered), steepness


def apart_from_common(group: Grouped, over: frozenset[int]) -> Gaussian:
    """The root, without what the elements of a group over some axes have in common."""
    x = group.root
    if not over or not _axes(group, x.axes) == over:
        return x
    own = x.variance - x.covariance()[0]
    return Gaussian(x.mean, jnp.maximum(own, 0))


def _axes(group: Grouped, axes: Sequence[int]) -> frozenset[int]:
    """Axes of the root in the refined shape."""
    digits = layouts.identity(group.root.shape).axes
    return layouts.axes_of([d for a in axes for d in digits[a]], group.fine)


def settled(group: Grouped, order: int) -> Gaussian:
    """The moments in the value's layout."""
    found = [
        jnp.asarray(jnp.broadcast_to(a, group.sizes), group.dtype) for a in moments(group, order)
    ]
    x, over = group.root, frozenset(k for s in group.sums for k in s.over)
    kept = _axes(group, x.axes)
    if x.axes and not kept & over and not group.alone:
        x = x.without_gain()
        mean, variance = (a.reshape(x.shape) for a in found)
        return laid_gaussian(replace(x, mean=mean, variance=variance), group.layout)
    mean, variance = (layouts.laid(a, group.layout, group.fine) for a in found)
    out = Gaussian(mean, variance)
    return _of_constant_sum(out, group, over) if group.form == "share" and order != 1 else out


def _of_constant_sum(x: Gaussian, group: Grouped, over: frozenset[int]) -> Gaussian:
    """Shares of a whole, of which one grows by as much as the others fall."""
    inside = [k for k, d in enumerate(group.layout.axes) if d]
    axes = tuple(k for k in inside if layouts.axes_of(group.layout.axes[k], group.fine) <= over)
    number = math.prod(x.shape[a] for a in axes)
    whole = number == math.prod(group.fine[k] for k in over) and number > 1
    if group.offset is not None or not whole or any(one.beside for one in group.sums):
        return x
    total = -x.variance.sum(axes, keepdims=True) / (number * (number - 1))
    return sharing(x.mean, x.variance, jnp.stack([total, total]), axes)
