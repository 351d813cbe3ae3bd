"""Functions of one complex Gaussian, kept as functions until their moments are needed.

So that in `(exp(t z) - 1) / z` numerator and denominator are made of the same z. The moments are
integrals over the real and the imaginary part, by quadrature along the axes of their ellipse; a
quotient of two values is one over the denominator, given which the numerator is Gaussian.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.maps import Array, Complex, Linear, is_complex
from cgjax._beliefs.values import Gaussian, Lazy, Value, is_random, settle
from cgjax._gaussian.numerics import root
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

_POINTS = 24
Function = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class OfComplex(Lazy):
    """A function of one complex value, element by element.

    Attributes:
        base: the value.
        function: from its values to this one's.
        dtype: the dtype of the results, which may be real.
        known: a value of the same moments, where these are known.
    """

    base: Linear | Complex
    function: Function
    dtype: np.dtype
    known: Value = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.base.shape

    @functools.cached_property
    def matched(self) -> Complex | Gaussian:
        """The moments, the same object for each use, so that it is one variable."""
        return _integrated(self) if self.known is None else settle(self.known, 2)

    def settled(self, order: int) -> Complex | Gaussian:
        """The moments."""
        return self.matched if order != 1 else _to_first_order(self)

    def at_mean(self) -> Array:
        """The value at the mean."""
        return self.function(self.base.mean)


def composed(eqn: JaxprEqn, operands: Sequence[Value]) -> OfComplex | None:
    """An element-wise operation on functions of one complex value; None for all others."""
    known = facts(eqn)
    if not known.elementwise or len(eqn.outvars) != 1 or known.decides:
        return None
    out = aval(eqn.outvars[0])
    found = [as_function(x) if is_random(x) else None for x in operands]
    functions = [f for x, f in zip(operands, found, strict=True) if is_random(x)]
    bases = {id(f.base): f.base for f in functions if f is not None}
    if any(f is None for f in functions) or len(bases) != 1:
        return None
    (base,) = bases.values()
    if base.shape != tuple(out.shape) or not jnp.issubdtype(out.dtype, jnp.inexact):
        return None

    def function(z: Array) -> Array:
        return bind(
            eqn, [x if f is None else f.function(z) for x, f in zip(operands, found, strict=True)]
        )[0]

    return OfComplex(base, function, out.dtype)


def as_function(value: Value) -> OfComplex | None:
    """A random value as a function of a complex one; None if it is none."""
    if isinstance(value, OfComplex):
        return value
    if not isinstance(value, Linear | Complex) or not is_complex(value):
        return None
    if isinstance(value, Linear) and value.made_of is not None:
        return OfComplex(*value.made_of, value.dtype)
    return OfComplex(value, lambda z: z, value.dtype)


@dataclass(frozen=True)
class _Ellipse:
    """A complex Gaussian as mean + first x + 1j (along x + beside y) of two standard ones.

    Attributes:
        mean: the mean.
        first, along, beside: the factors.
    """

    mean: Array
    first: Array
    along: Array
    beside: Array

    @classmethod
    def of(cls, value: Linear | Complex) -> _Ellipse:
        """That of a value's moments."""
        known = value.settled(2)
        assert isinstance(known, Complex)
        first = root(known.real)
        along = known.covariance / jnp.where(first > 0, first, 1)
        return cls(known.mean, first, along, root(known.imaginary - along**2))

    def at(self, x: Array, y: Array) -> Array:
        """The value for those of the standard variables."""
        return self.mean + lax.complex(self.first * x, self.along * x + self.beside * y)


def _over_plane(function: Callable[[Array, Array], tuple[Array, ...]]) -> tuple[Array, ...]:
    """The expectations of functions of two standard Gaussian variables."""
    points, weights = _hermite(_POINTS)

    def add(total: tuple[Array, ...], k: Array) -> tuple[tuple[Array, ...], None]:
        weight = weights[k // _POINTS] * weights[k % _POINTS]
        values = function(points[k // _POINTS], points[k % _POINTS])
        return tuple(t + weight * v for t, v in zip(total, values, strict=True)), None

    shapes = jax.eval_shape(function, points[0], points[0])
    nothing = tuple(jnp.zeros(s.shape, s.dtype) for s in shapes)
    return lax.scan(add, nothing, jnp.arange(_POINTS**2))[0]


def _integrated(value: OfComplex) -> Complex | Gaussian:
    around = _Ellipse.of(value.base)
    centre = value.function(around.mean)
    centre = jnp.where(jnp.isfinite(centre), centre, 0)

    def powers(x: Array, y: Array) -> tuple[Array, Array, Array]:
        off = value.function(around.at(x, y)) - centre
        return off, jnp.abs(off) ** 2, off**2

    return _with_moments(centre, *_over_plane(powers))


def _with_moments(centre: Array, off: Array, size: Array, square: Array) -> Complex | Gaussian:
    """The value with E[z - c], E[|z - c|^2] and E[(z - c)^2]."""
    size = jnp.maximum(size - jnp.abs(off) ** 2, 0)
    if not jnp.iscomplexobj(off):
        return Gaussian(centre + off, size)
    return Complex.of(centre + off, size, square - off**2)


def _to_first_order(value: OfComplex) -> Complex | Gaussian:
    around = _Ellipse.of(value.base)

    def on_plane(x: Array, y: Array) -> Array:
        return value.function(around.at(x, y))

    zero = jnp.zeros_like(around.first)
    one = jnp.ones_like(zero)
    at, by_x = jax.jvp(lambda x: on_plane(x, zero), (zero,), (one,))
    _, by_y = jax.jvp(lambda y: on_plane(zero, y), (zero,), (one,))
    size = jnp.abs(by_x) ** 2 + jnp.abs(by_y) ** 2
    if not jnp.iscomplexobj(at):
        return Gaussian(at, size)
    return Complex.of(at, size, by_x**2 + by_y**2)


def quotient(above: Complex, below: Complex, product: Array, turned: Array) -> Complex:
    """The moments of z / w, for z and w jointly Gaussian.

    Given w, z is Gaussian, of mean linear in w and of known variance: E[z / w | w], and so on, are
    integrated over w. Where w may be near 0 the true variance is infinite.

    Args:
        above, below: z and w.
        product, turned: E[a b] and E[a b*], of a = z - E[z] and b = w - E[w].
    """
    around = _Ellipse.of(below)
    # Of a with the real and the imaginary part of b.
    real, imaginary = (product + turned) / 2, (product - turned) / 2j
    first, beside = around.first, around.beside
    by_x = jnp.where(first > 0, real / jnp.where(first > 0, first, 1), 0)
    by_y = (imaginary - by_x * around.along) / jnp.where(beside > 0, beside, 1)
    by_y = jnp.where(beside > 0, by_y, 0)
    size = jnp.maximum(above.size - jnp.abs(by_x) ** 2 - jnp.abs(by_y) ** 2, 0)
    square = above.square - by_x**2 - by_y**2
    centre = above.mean / below.mean
    centre = jnp.where(jnp.isfinite(centre), centre, 0)

    def powers(x: Array, y: Array) -> tuple[Array, Array, Array]:
        w = around.at(x, y)
        off = (above.mean + by_x * x + by_y * y) / w - centre
        return off, jnp.abs(off) ** 2 + size / jnp.abs(w) ** 2, off**2 + square / w**2

    found = _with_moments(centre, *_over_plane(powers))
    assert isinstance(found, Complex)
    return found


def _hermite(number: int) -> tuple[Array, Array]:
    points, weights = np.polynomial.hermite_e.hermegauss(number)
    weights = weights / math.sqrt(2 * math.pi)
    return jnp.asarray(points, jnp.float32), jnp.asarray(weights, jnp.float32)
