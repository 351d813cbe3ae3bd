"""Sums of independent Gaussians that know what they are made of.

So `x + y - y` is x, a comparison of x and y is a decision about their difference d, and what is
chosen by it is, given d, a line of d and an independent rest,

    x = E[x] + Cov(x, d) (d - E[d]) / Var[d] + e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from cgjax._beliefs.values import Gaussian, Lazy
from cgjax._gaussian.numerics import wide

_MOST = 4  # parts of a sum; with more of them a sum is a Gaussian of its own


class Part(NamedTuple):
    """A Gaussian, and how much of it is in a sum.

    Attributes:
        root: the Gaussian.
        weight: what it is multiplied by.
    """

    root: Gaussian
    weight: Coefficient


@dataclass(frozen=True, eq=False)
class Total(Gaussian):
    """A sum of independent Gaussians. It is only ever the root of a curve.

    Attributes:
        parts: what is summed.
        constant: what is added.
    """

    parts: tuple[Part, ...] = ()
    constant: Coefficient = 0.0

    def same(self, other: Gaussian) -> bool:
        """Whether another is the same sum."""
        if self is other:
            return True
        if not isinstance(other, Total) or len(other.parts) != len(self.parts):
            return False
        lines = [Line(part.weight, self.constant) for part in self.parts]
        others = [Line(part.weight, other.constant) for part in other.parts]
        roots = zip(self.parts, other.parts, strict=True)
        return all(a.root is b.root for a, b in roots) and all(map(same_line, lines, others))


def same_root(a: Gaussian, b: Gaussian) -> bool:
    """Whether two Gaussians are known to be one variable."""
    return a is b or (isinstance(a, Total) and a.same(b))


def parts_of(root: Gaussian) -> tuple[Part, ...]:
    """What a Gaussian is a sum of."""
    return root.parts if isinstance(root, Total) else (Part(root, 1.0),)


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
    form = Polynomial.straight(IDENTITY, Line(weight, constant))
    line = Line(weight, constant)

    def function(x: jax.Array) -> jax.Array:
        return jnp.asarray(line.at(x), x.dtype)

    return Curve(root, function, dtype, form, line == IDENTITY)


def _total(parts: tuple[Part, ...], constant: Coefficient) -> Total:
    mean, variance = constant, 0.0
    for root, weight in parts:
        mean = plus(mean, times(weight, wide(root.mean)))
        square = weight**2
        variance = plus(variance, times(square, wide(root.variance)))
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


@dataclass(frozen=True, eq=False)
class Split(Lazy):
    """A function of a sum, and an independent rest.

    Attributes:
        of: the function.
        rest: the variance of the rest.
        whole: the moments of the two, where they have been computed.
    """

    of: Curve
    rest: jax.Array
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
        """The function at the mean of the sum."""
        return self.of.at_mean()

    def settled(self, order: int) -> Gaussian:
        """The moments."""
        if self.whole is not None:
            return self.whole
        out = self.of.settled(order)
        return Gaussian(out.mean, out.variance + jnp.asarray(self.rest, out.dtype))


def given(curve: Curve, root: Gaussian) -> tuple[Curve, jax.Array]:
    """A random value as a function of a Gaussian, and the variance of the independent rest."""
    if same_root(curve.root, root):
        return Curve(root, curve.function, curve.dtype, curve.form, curve.rises), jnp.zeros(())
    own = curve.settled(2)
    mean, variance = wide(own.mean), wide(own.variance)
    shared = covariance(curve, root)
    if shared is None:
        line, rest = Line(0.0, mean), variance
    else:
        total = wide(root.variance)
        slope = jnp.where(total > 0, shared / jnp.where(total > 0, total, 1), 0)
        line = Line(slope, mean - slope * wide(root.mean))
        rest = jnp.maximum(variance - slope * shared, 0)
    form = Polynomial.straight(IDENTITY, line)

    def function(x: jax.Array) -> jax.Array:
        return jnp.asarray(jnp.broadcast_to(line.at(x), x.shape), x.dtype)

    return Curve(root, function, curve.dtype, form), rest
