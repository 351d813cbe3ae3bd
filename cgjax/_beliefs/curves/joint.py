"""Sums of independent Gaussians that know what they are made of.

So `x + y - y` is x, a comparison of x and y is a decision about their difference d, and what is
chosen by it is, given d, a line of d and an independent rest,

    x = E[x] + Cov(x, d) (d - E[d]) / Var[d] + e.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._beliefs.curves.curve import Curve, as_curve
from cgjax._beliefs.curves.form import (
    IDENTITY,
    Coefficient,
    Line,
    minus,
    number,
    plus,
    same_line,
    times,
)
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._beliefs.curves.skips import common
from cgjax._beliefs.curves.total import Part, Total, parts_of, same_root
from cgjax._beliefs.values import Gaussian, Lazy, Value, settle
from cgjax._gaussian.numerics import root as deviation
from cgjax._gaussian.numerics import wide

_MOST = 4  # parts of a sum; with more of them a sum is a Gaussian of its own


def summed(
    values: Sequence[Gaussian | Curve], signs: Sequence[int], dtype: np.dtype
) -> Curve | None:
    """The sum of straight lines of Gaussians without shared positions; None for others."""
    weights: dict[int, Part] = {}
    constant: Coefficient = 0.0
    for value, sign in zip(values, signs, strict=True):
        curve = as_curve(value)
        if curve.affine is None or curve.root.axes:
            return None
        line = curve.affine if sign > 0 else Line(*map(minus, curve.affine))
        root = curve.root
        constant = plus(constant, line.offset)
        if isinstance(root, Total):
            constant = plus(constant, times(line.slope, root.constant))
        for part in parts_of(root):
            weight = times(line.slope, part.weight)
            old = weights.get(id(part.root))
            weights[id(part.root)] = Part(
                part.root, weight if old is None else plus(old.weight, weight)
            )
    parts = tuple(p for p in weights.values() if number(p.weight) != 0)
    if len(parts) > _MOST or not parts:
        return None
    if len(parts) == 1:
        ((root, weight),) = parts
    else:
        root, weight, constant = _total(parts, constant), 1.0, 0.0
    return line_on(root, Line(weight, constant), dtype)


def _total(parts: tuple[Part, ...], constant: Coefficient) -> Total:
    mean, variance = constant, 0.0
    for root, weight in parts:
        mean = plus(mean, times(weight, wide(root.mean)))
        square = weight**2
        variance = plus(variance, times(square, wide(root.variance)))
    for one, other in itertools.combinations(parts, 2):
        both = common(one.root, other.root)
        if both is not None:
            twice = times(times(one.weight, other.weight), 2 * both.itself)
            variance = jnp.maximum(plus(variance, twice), 0)
    return Total(jnp.asarray(mean), jnp.asarray(variance), parts=parts, constant=constant)


def covariance(curve: Curve, root: Gaussian) -> jax.Array | None:
    """Of a function of a Gaussian with another Gaussian; None if they are independent."""
    mine = {id(p.root): p for p in parts_of(curve.root)}
    shared = [
        times(times(p.weight, mine[id(p.root)].weight), wide(p.root.variance))
        for p in parts_of(root)
        if id(p.root) in mine
    ]
    if not shared:
        return None
    x = curve.root
    if curve.affine is not None:
        slope = curve.affine.slope
    else:  # Cov(f(x), y) = E[f'(x)] Cov(x, y)
        slope = curve.form.evaluated(curve.function, wide(x.mean), wide(x.variance), True).slope
        assert slope is not None
    return jnp.broadcast_to(times(slope, sum(shared[1:], shared[0])), x.shape)


class Loading(NamedTuple):
    """What an independent standard normal variable contributes.

    Attributes:
        source: which variable it is: one object for each.
        factor: what it is multiplied by, a function of the same Gaussian as the rest.
    """

    source: Gaussian | object
    factor: Curve


@dataclass(frozen=True, eq=False)
class Split(Lazy):
    """f(d) + sum_k g_k(d) e_k, of a Gaussian d and independent standard normal variables.

    Attributes:
        of: f.
        loadings: the others.
        whole: the moments of all, where they have been computed.
    """

    of: Curve
    loadings: tuple[Loading, ...] = ()
    whole: Gaussian | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.of.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.of.dtype

    def at_mean(self) -> jax.Array:
        """The function at the mean."""
        return self.of.at_mean()

    def settled(self, order: int) -> Gaussian:
        """The moments; the same object for each use, so that it is one variable."""
        if self.whole is not None:
            return self.whole
        return self._moments(1) if order == 1 else self._matched

    @functools.cached_property
    def _matched(self) -> Gaussian:
        return self._moments(2)

    def _moments(self, order: int) -> Gaussian:
        """Var[f(d)] + sum_k E[g_k(d)^2]."""
        out = self.of.settled(order)
        assert isinstance(out, Gaussian)  # not a decision
        variance = wide(out.variance)
        for loading in self.loadings:
            factor = loading.factor.settled(order)
            assert isinstance(factor, Gaussian)
            variance = variance + wide(factor.mean) ** 2 + wide(factor.variance)
        return Gaussian(out.mean, jnp.asarray(variance, out.dtype))


def apart(values: Sequence[Value]) -> list[Value]:
    """Values with Gaussians of their own for functions that have nothing in common with others.

    A function of functions of several variables would be as large as all of them together.
    """
    roots = [variables(x) for x in values]
    return [
        settle(x, 2)
        if isinstance(x, Split) and all(mine.isdisjoint(r) for r in roots if r is not mine)
        else x
        for x, mine in zip(values, roots, strict=True)
    ]


def variables(value: Value) -> set[int]:
    """What a value is a function of: the `id` of each variable."""
    if isinstance(value, Split):
        own = {id(p.root) for p in parts_of(value.of.root)}
        return own | {id(loading.source) for loading in value.loadings}
    if isinstance(value, Gaussian | Curve):
        return {id(p.root) for p in parts_of(as_curve(value).root)}
    return set()


def line_on(root: Gaussian, line: Line, dtype: np.dtype) -> Curve:
    """A straight line of a Gaussian."""

    def function(x: jax.Array) -> jax.Array:
        return jnp.asarray(jnp.broadcast_to(line.at(x), x.shape), x.dtype)

    form = Polynomial.straight(IDENTITY, line)
    return Curve(root, function, dtype, form, same_line(line, IDENTITY))


def given(value: Gaussian | Curve | Split, root: Gaussian) -> Split:
    """A random value as a function of a Gaussian, and what is independent of it."""
    if isinstance(value, Split):
        value = value if same_root(value.of.root, root) else value.settled(2)
    if isinstance(value, Split):
        return value
    curve = as_curve(value)
    if same_root(curve.root, root):
        return Split(replace(curve, root=root))
    own, shared = settle(curve, 2), covariance(curve, root)
    mean = wide(own.mean)
    if shared is None:
        loadings = _residual(curve, wide(own.variance))
        line = Line(0.0, mean)
    else:
        total = wide(root.variance)
        slope = jnp.where(total > 0, shared / jnp.where(total > 0, total, 1), 0)
        line = Line(slope, mean - slope * wide(root.mean))
        rest = jnp.maximum(wide(own.variance) - slope * shared, 0)
        loadings = _residual_of_part(curve, root, rest)
    dtype = curve.dtype
    found = [Loading(source, line_on(root, Line(0.0, c), dtype)) for source, c in loadings]
    return Split(line_on(root, line, dtype), tuple(found))


Residuals = list[tuple[object, Coefficient]]


def _residual(curve: Curve, variance: jax.Array) -> Residuals:
    """What a value that has nothing in common with a Gaussian consists of."""
    if curve.affine is None:
        return [(object(), deviation(variance))]
    return [
        (p.root, times(times(curve.affine.slope, p.weight), deviation(wide(p.root.variance))))
        for p in parts_of(curve.root)
    ]


def _residual_of_part(curve: Curve, root: Gaussian, rest: jax.Array) -> Residuals:
    """The same of one that has: of two in a sum d = a x + b y, given d, a (x - E[x | d]) and
    -b (y - E[y | d]) are one number.
    """
    mine = {id(p.root): p for p in parts_of(curve.root)}
    parts = parts_of(root)
    inside = {id(p.root) for p in parts}
    if curve.affine is None or len(parts) > 2:
        return [(object(), deviation(rest))]
    slope = curve.affine.slope
    outside: Residuals = [
        (p.root, times(times(slope, p.weight), deviation(wide(p.root.variance))))
        for p in mine.values()
        if id(p.root) not in inside
    ]
    if len(parts) < 2:
        return outside
    first, second = parts
    weights = [mine[id(p.root)].weight if id(p.root) in mine else 0.0 for p in parts]
    across = plus(times(weights[0], second.weight), minus(times(weights[1], first.weight)))
    product = wide(first.root.variance) * wide(second.root.variance)
    total = wide(root.variance)
    share = deviation(product / jnp.where(total > 0, total, 1))
    return [*outside, (first.root, times(times(slope, across), share))]
