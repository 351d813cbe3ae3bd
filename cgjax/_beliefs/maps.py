"""Linear maps of Gaussians, and complex values: their moments are exact, from the map's matrix.

A complex value is kept as a function of the real Gaussians that it is a linear map of, since its
real and imaginary parts are of the same numbers, until an operation needs its moments. With the
entries J_ij of the map's matrix, y_i has the variance sum_j J_ij^2 v_j: exact, at the cost of one
evaluation for each element of x (of one row, where rows are mapped alike; of one element, where
all are).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.general import General
from cgjax._beliefs.grouped import Grouped, in_full
from cgjax._beliefs.laid import Laid
from cgjax._beliefs.values import Gaussian, Lazy, Value, settle
from cgjax._gaussian.numerics import root, wide

Array = jax.Array
# For each result the sums of `_Squares`.
Totals = list[tuple[Array, Array, Array]]


# Beyond so many evaluations of a map, their cost is said.
LARGEST_MAP = 1 << 12


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Complex(Lazy):
    """A complex Gaussian array, its elements independent of each other.

    Attributes:
        mean: the means.
        real: the variances of the real parts.
        imaginary: those of the imaginary parts.
        covariance: of the real and the imaginary part.
    """

    # Transformations put shapes and placeholders where arrays were.
    mean: Any
    real: Any
    imaginary: Any
    covariance: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the value."""
        return self.mean.dtype

    @property
    def size(self) -> Array:
        """E[|z - E[z]|^2]."""
        return self.real + self.imaginary

    @property
    def square(self) -> Array:
        """E[(z - E[z])^2]."""
        return lax.complex(self.real - self.imaginary, 2 * self.covariance)

    @cached_property
    def linear(self) -> Linear:
        """As a linear map of two real variables for each element: the same ones each time."""
        return _of_complex(self)

    def settled(self, order: int) -> Complex:
        """The moments."""
        return self

    def at_mean(self) -> Array:
        """The means."""
        return self.mean

    @classmethod
    def of(cls, mean: Array, size: Array, square: Array) -> Complex:
        """The value with a mean, E[|z - E[z]|^2] and E[(z - E[z])^2]."""
        real, imaginary = (size + jnp.real(square)) / 2, (size - jnp.real(square)) / 2
        return cls(mean, real, jnp.maximum(imaginary, 0), jnp.imag(square) / 2)

    @classmethod
    def certain(cls, value: Array) -> Complex:
        """A value that is known."""
        nothing = jnp.zeros(value.shape, jnp.finfo(value.dtype).dtype)
        return cls(value, nothing, nothing, nothing)


@dataclass(frozen=True, eq=False)
class Linear(Lazy):
    """A linear map of independent real Gaussians, plus a constant.

    Attributes:
        roots: the Gaussians.
        function: from their values to this one's.
        shape: the value's shape.
        dtype: its dtype.
        alike: along how many leading axes the parts of the value are made of the same parts of the
            roots: all, for an element-wise function.
        made_of: another value that it is a function of, element by element, and the function.
    """

    roots: tuple[Gaussian, ...]
    function: Callable[..., Array]
    shape: tuple[int, ...]
    dtype: np.dtype
    alike: int
    made_of: tuple[Linear | Complex, Callable[[Array], Array]] | None = None

    @property
    def evaluations(self) -> int:
        """How many evaluations the moments take."""
        return sum(math.prod(x.shape[self.alike :]) for x in self.roots)

    def settled(self, order: int) -> Gaussian | Complex:
        """The moments, which are exact, as one variable: the same object for each use."""
        return self._exact

    @cached_property
    def _exact(self) -> Gaussian | Complex:
        (mean,), (squares,) = moments(
            lambda *values: [self.function(*values)], self.roots, self.alike
        )
        if not jnp.issubdtype(self.dtype, jnp.complexfloating):
            return Gaussian(mean, squares.real)
        return Complex(mean, squares.real, squares.imaginary, squares.covariance)

    @property
    def mean(self) -> Array:
        """The means."""
        return self.function(*(x.mean for x in self.roots))


@dataclass(frozen=True)
class _Squares:
    """Sums of squares, and of products, of real and imaginary parts."""

    real: Array
    imaginary: Array
    covariance: Array


def is_complex(value: Value) -> bool:
    """Whether a random value is complex."""
    return jnp.issubdtype(value.dtype, jnp.complexfloating)


def moments(
    function: Callable[..., Sequence[Array]], roots: Sequence[Gaussian], alike: int
) -> tuple[list[Array], list[_Squares]]:
    """First-order moments of functions of independent Gaussians, by all columns of the Jacobian.

    Args:
        function: from values of the roots to results.
        roots: the Gaussians.
        alike: along how many leading axes the parts of each result are made of the same parts of
            the roots only.
    """
    means = [x.mean for x in roots]
    outs, push = jax.linearize(lambda *values: list(function(*values)), *means)
    nothing = [jnp.zeros(jnp.real(o).shape, jnp.real(o).dtype) for o in outs]
    parts: Totals = [(zero, zero, zero) for zero in nothing]
    for k, x in enumerate(roots):
        deviation = root(x.variance)
        outer, inner = (math.prod(n) for n in (x.shape[:alike], x.shape[alike:]))
        columns = deviation.reshape(outer, inner)

        def one(
            total: Totals, j: Array, k: int = k, columns: Array = columns
        ) -> tuple[Totals, None]:
            direction = jnp.where(jnp.arange(columns.shape[1]) == j, columns, 0)
            tangents = [jnp.zeros_like(m) for m in means]
            tangents[k] = direction.reshape(means[k].shape)
            moved = [(jnp.real(d), jnp.imag(d)) for d in push(*tangents)]
            new = [
                (r + a**2, i + b**2, c + a * b)
                for (r, i, c), (a, b) in zip(total, moved, strict=True)
            ]
            return new, None

        if columns.shape[1] > LARGEST_MAP:
            _warn_of_cost(columns.shape[1])
        if columns.size:
            parts, _ = lax.scan(one, parts, jnp.arange(columns.shape[1]))
    return list(outs), [_Squares(*p) for p in parts]


def _warn_of_cost(number: int) -> None:
    warnings.warn(
        f"The exact variance of a linear map of {number:,} uncertain numbers takes as many "
        "evaluations of it. Let the first axis hold examples, which are mapped alike, or register "
        "a rule with `@cgjax.moment_rule(…)` for the function around it.",
        UserWarning,
        stacklevel=2,
    )


def as_linear(value: Value, order: int) -> Linear | None:
    """A random value as a linear map; None for a complex one that is none."""
    if isinstance(value, Linear):
        return value
    if isinstance(value, Complex):
        return value.linear
    inner = value.value if isinstance(value, Laid) else value
    rank = len(value.shape)
    if isinstance(inner, Curve) and inner.affine is not None:
        curve = inner

        def function(x: Array) -> Array:
            out = jnp.broadcast_to(jnp.asarray(curve.function(x), curve.dtype), curve.shape)
            return value.array(out) if isinstance(value, Laid) else out

        alike = rank if inner is value else 0
        return Linear((curve.root,), function, value.shape, value.dtype, alike)
    if isinstance(inner, Curve) and is_complex(inner):
        found = _of_curve(inner, order).linear
        return _laid(found, value) if isinstance(value, Laid) else found
    if isinstance(value, Laid) and isinstance(inner, Gaussian):
        return Linear((inner,), value.array, value.shape, value.dtype, 0)
    if isinstance(value, Grouped) and value.affine:
        of = in_full(value)
        return Linear((value.root,), of, value.shape, value.dtype, 0)
    found = settle(value, order)
    if isinstance(found, Complex):
        return found.linear
    if is_complex(value):
        return None
    return Linear((found,), lambda x: x, found.shape, found.dtype, rank)


def _laid(value: Linear, where: Laid) -> Linear:
    def function(*numbers: Array) -> Array:
        return where.array(value.function(*numbers))

    return Linear(value.roots, function, where.shape, where.dtype, 0)


def _of_complex(value: Complex) -> Linear:
    """A complex Gaussian as a linear map of two real ones for each element."""
    first = root(value.real)
    along = value.covariance / jnp.where(first > 0, first, 1)
    beside = root(value.imaginary - along**2)
    nothing, one = jnp.zeros_like(first), jnp.ones_like(first)

    def function(x: Array, y: Array) -> Array:
        return value.mean + lax.complex(first * x, along * x + beside * y)

    roots = (Gaussian(nothing, one), Gaussian(nothing, one))
    return Linear(roots, function, value.shape, value.dtype, len(value.shape))


def _of_curve(curve: Curve, order: int) -> Complex:
    """The moments of a complex function of a real Gaussian: of its parts, and of their sum."""
    mean, variance = wide(curve.root.mean), wide(curve.root.variance)

    def parts(x: Array) -> tuple[Array, Array]:
        value = jnp.broadcast_to(curve.function(x), mean.shape)
        return jnp.real(value), jnp.imag(value)

    if order == 1:
        means, (a, b) = jax.jvp(parts, (mean,), (jnp.ones_like(mean),))
        squares = (a**2 * variance, b**2 * variance, a * b * variance)
        return Complex(lax.complex(*means), *squares)
    form = General(tuple(curve.form.cuts), tuple(curve.form.domains))
    ways = (lambda x: parts(x)[0], lambda x: parts(x)[1], lambda x: jnp.add(*parts(x)))
    (real, a), (imaginary, b), (_, both) = (form.moments(f, mean, variance) for f in ways)
    return Complex(lax.complex(real, imaginary), a, b, (both - a - b) / 2)
