"""Linear maps of Gaussians: exact moments from their matrix; complex values; linearisation.

A complex value is kept as a function of the real Gaussians that it is a linear map of, since its
real and imaginary parts are of the same numbers, until an operation needs its moments. With the
entries J_ij of the map's matrix, y_i has the variance sum_j J_ij^2 v_j: exact, at the cost of one
evaluation for each element of x (of one row, where rows are mapped alike).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.curve import warn_of_decision
from cgjax._beliefs.grouped import Grouped, in_full
from cgjax._beliefs.laid import Laid
from cgjax._beliefs.values import Gaussian, Lazy, Value, is_random, settle
from cgjax._gaussian.numerics import root
from cgjax._program.degrees import wraps_linear
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

Array = jax.Array
# For each result the sums of `_Squares`.
Totals = list[tuple[Array, Array, Array]]


# Beyond so many evaluations of a map, their cost is said.
_MOST_EVALUATIONS = 1 << 12


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

    def settled(self, order: int) -> Complex:
        """The moments."""
        return self

    def at_mean(self) -> Array:
        """The means."""
        return self.mean

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
        rows: whether row i of the value is made of the rows i of the roots.
    """

    roots: tuple[Gaussian, ...]
    function: Callable[..., Array]
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: bool

    def settled(self, order: int) -> Gaussian | Complex:
        """The moments, which are exact."""
        (mean,), (squares,) = moments(
            lambda *values: [self.function(*values)], self.roots, self.rows
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
    function: Callable[..., Sequence[Array]], roots: Sequence[Gaussian], rows: bool
) -> tuple[list[Array], list[_Squares]]:
    """First-order moments of functions of independent Gaussians, by all columns of the Jacobian.

    Args:
        function: from values of the roots to results.
        roots: the Gaussians.
        rows: whether row i of each result is made of the rows i of the roots only.
    """
    means = [x.mean for x in roots]
    outs, push = jax.linearize(lambda *values: list(function(*values)), *means)
    nothing = [jnp.zeros(jnp.real(o).shape, jnp.real(o).dtype) for o in outs]
    parts: Totals = [(zero, zero, zero) for zero in nothing]
    for k, x in enumerate(roots):
        deviation = root(x.variance)
        shape = (deviation.shape[0], -1) if rows else (1, -1)
        columns = deviation.reshape(shape)

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

        if columns.shape[1] > _MOST_EVALUATIONS:
            _warn_of_cost(columns.shape[1])
        if columns.size:
            parts, _ = jax.lax.scan(one, parts, jnp.arange(columns.shape[1]))
    return list(outs), [_Squares(*p) for p in parts]


def _warn_of_cost(number: int) -> None:
    warnings.warn(
        f"The exact variance of a linear map of {number:,} uncertain numbers takes as many "
        "evaluations of it. Let the first axis hold examples, which are mapped alike, or register "
        "a rule with `@cgjax.moment_rule(…)` for the function around it.",
        UserWarning,
        stacklevel=2,
    )


def as_linear(value: Value) -> Linear | None:
    """A random value as a linear map; None for a complex one that is none."""
    if isinstance(value, Linear):
        return value
    if isinstance(value, Complex):
        return _of_complex(value)
    inner = value.value if isinstance(value, Laid) else value
    rows = len(value.shape) > 1
    if isinstance(inner, Curve) and inner.affine is not None:
        curve = inner

        def function(x: Array) -> Array:
            out = jnp.broadcast_to(jnp.asarray(curve.function(x), curve.dtype), curve.shape)
            return value.array(out) if isinstance(value, Laid) else out

        return Linear((curve.root,), function, value.shape, value.dtype, rows and inner is value)
    if isinstance(value, Laid) and isinstance(inner, Gaussian):
        return Linear((inner,), value.array, value.shape, value.dtype, False)
    if isinstance(value, Grouped) and value.affine:
        of = in_full(value)
        return Linear((value.root,), of, value.shape, value.dtype, False)
    if is_complex(value):
        return None
    found = settle(value, 2)
    return Linear((found,), lambda x: x, found.shape, found.dtype, rows)


def _of_complex(value: Complex) -> Linear:
    """A complex Gaussian as a linear map of two real ones for each element."""
    first = root(value.real)
    along = value.covariance / jnp.where(first > 0, first, 1)
    beside = root(value.imaginary - along**2)
    nothing, one = jnp.zeros_like(first), jnp.ones_like(first)

    def function(x: Array, y: Array) -> Array:
        return value.mean + jax.lax.complex(first * x, along * x + beside * y)

    roots = (Gaussian(nothing, one), Gaussian(nothing, one))
    return Linear(roots, function, value.shape, value.dtype, len(value.shape) > 1)


def linear(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value] | None:
    """The results of an operation that is linear in its random operands; None for others.

    Complex results are kept as linear maps; real ones are settled, as those of other products are.
    """
    random = [is_random(x) for x in operands]
    if not (facts(eqn).is_linear(random) or wraps_linear(eqn, random)):
        return None
    values = [as_linear(x) if is_random(x) else None for x in operands]
    known = [v for v in values if v is not None]
    if len(known) < sum(random):
        return None
    roots = list({id(x): x for v in known for x in v.roots}.values())
    place = {id(x): k for k, x in enumerate(roots)}

    def function(*numbers: Array) -> list[Array]:
        arguments = [
            x if v is None else v.function(*(numbers[place[id(r)]] for r in v.roots))
            for x, v in zip(operands, values, strict=True)
        ]
        return bind(eqn, arguments)

    rows = all(v.rows for v in known) and all(
        keeps_rows(eqn, k) for k, v in enumerate(values) if v is not None
    )
    outs: list[Value] = []
    for k, v in enumerate(eqn.outvars):
        out = Linear(
            tuple(roots),
            lambda *numbers, k=k: function(*numbers)[k],
            tuple(aval(v).shape),
            aval(v).dtype,
            rows,
        )
        outs.append(out if is_complex(out) else out.settled(2))
    return outs


def keeps_rows(eqn: JaxprEqn, operand: int) -> bool:
    """Whether row i of the result is made of row i of an operand, as far as can be told."""
    before, after = aval(eqn.invars[operand]).shape, aval(eqn.outvars[0]).shape
    params, known = eqn.params, facts(eqn)
    if len(before) < 2 or not after or before[0] != after[0]:
        return False
    if known.elementwise:
        return before == after
    if "fft_lengths" in params:
        return len(before) > len(params["fft_lengths"])
    if "permutation" in params:
        return params["permutation"][0] == 0
    if "broadcast_dimensions" in params:
        return params["broadcast_dimensions"][0] == 0
    if known.contracts and "dimension_numbers" in params and operand == 0:
        numbers = params["dimension_numbers"]
        return len(numbers) == 2 and 0 not in numbers[0][0] and not numbers[1][0]
    if known.reduces == "sum" and "axes" in params:
        return 0 not in params["axes"]
    return False


# -- first-order moments of what is not linear


def linearised(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> list[Value]:
    """First-order moments of any differentiable primitive: f(m) and the sum of J_ij^2 v_j.

    Results that are whole numbers or decisions are taken at the means.
    """
    values = [as_linear(x) if is_random(x) else None for x in operands]
    roots = list({id(r): r for v in values if v is not None for r in v.roots}.values())
    place = {id(x): k for k, x in enumerate(roots)}
    kept = [k for k, v in enumerate(eqn.outvars) if jnp.issubdtype(aval(v).dtype, jnp.inexact)]

    def function(*numbers: Array) -> list[Array]:
        arguments = [
            x if v is None else v.function(*(numbers[place[id(r)]] for r in v.roots))
            for x, v in zip(operands, values, strict=True)
        ]
        return bind(eqn, arguments)

    results: list[Value] = list(function(*(x.mean for x in roots)))
    if order != 1 and len(kept) < len(results):
        warn_of_decision(eqn, "an index or a decision")
    outs, squares = moments(lambda *v: [function(*v)[k] for k in kept], roots, False)
    for k, mean, square in zip(kept, outs, squares, strict=True):
        if jnp.issubdtype(mean.dtype, jnp.complexfloating):
            results[k] = Complex(mean, square.real, square.imaginary, square.covariance)
        else:
            results[k] = Gaussian(mean, square.real)
    return results
