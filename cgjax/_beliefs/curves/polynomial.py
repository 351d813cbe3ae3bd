"""Polynomials of one Gaussian variable, of which straight lines are the simplest.

With D_n the n-th derivative of p at the mean m of u ~ N(m, v), and

    E_n = E[p^(n)(u)] = sum_k D_(n + 2k) v^k / (2^k k!),

the mean is E_0 and the variance sum_(n >= 1) v^n E_n^2 / n!: no term is negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._beliefs.curves.form import (
    IDENTITY,
    Coefficient,
    Form,
    Function,
    Known,
    Line,
    Operation,
    dtype_of,
    is_inexact,
    minus,
    number,
    over,
    pick,
    plus,
    same_line,
    times,
)
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import Facts

_HIGHEST = 6  # power: of 1, x, x^2, ... in float32

Coefficients = Sequence[Coefficient]


@dataclass(frozen=True, eq=False)
class Polynomial(Form):
    """sum_k c_k u^k of a straight line u of the variable.

    Attributes:
        unit: u.
        coefficients: c_0, c_1, ….
    """

    unit: Line
    coefficients: tuple[Coefficient, ...]

    @classmethod
    def straight(cls, unit: Line, own: Line) -> Polynomial:
        """A line of a line; coefficients that are arrays go into the unit."""
        if number(own.slope) is None or number(own.offset) is None:
            return cls(own.of(unit), (0.0, 1.0))
        return cls(unit, (own.offset, own.slope))

    @property
    def own(self) -> Line | None:
        """The line that it is of the unit, if it is one."""
        offset, *rest = self.coefficients
        return None if len(rest) > 1 else Line(rest[0] if rest else 0.0, offset)

    @property
    def line(self) -> Line | None:
        """The line that it is of the variable, if it is one."""
        own = self.own
        return None if own is None else own.of(self.unit)

    @classmethod
    def after(cls, operation: Operation) -> Polynomial | None:
        """Sums, products, whole powers, and everything that is linear."""
        operands = operation.operands
        if not all(isinstance(f, Known | Polynomial) for f in operands):
            return None
        if operation.rounds or operation.stops or not is_inexact(operation.dtype):
            return None
        rule = _RULES.get(operation.primitive, _linear)
        unit, known = _over_one_unit(operation)
        found = rule(operation, known)
        if found is None or len(found) > _HIGHEST + 1:
            return None
        if len(found) <= 2:
            return cls.straight(unit, Line(found[1] if len(found) > 1 else 0.0, found[0]))
        return cls(unit, tuple(found))

    def over(self, unit: Line) -> Coefficients | None:
        """The coefficients as a polynomial of another line, if it can be one."""
        if same_line(unit, self.unit):
            return self.coefficients
        if same_line(unit, IDENTITY):
            inner = self.unit
        else:
            slope = number(unit.slope)
            if slope is None or slope == 0:
                return None
            a, b = self.unit
            inner = Line(over(a, slope), plus(b, minus(times(a, over(unit.offset, slope)))))
        out: Coefficients = (self.coefficients[-1],)
        for c in reversed(self.coefficients[:-1]):
            out = _sum([_product(out, (inner.offset, inner.slope)), (c,)], (1, 1))
        return out

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """In closed form."""
        dtype = jnp.result_type(mean.dtype, *filter(_is_complex, (*self.unit, *self.coefficients)))
        slope, offset = (jnp.asarray(c, dtype) for c in self.unit)
        m, v, spread = slope * mean + offset, slope**2 * variance, jnp.abs(slope) ** 2 * variance
        degree = len(self.coefficients) - 1
        powers = [_value(_derived(self.coefficients, n), m) for n in range(degree + 1)]
        expected = [
            sum(
                powers[n + 2 * k] * v**k / (2**k * math.factorial(k))
                for k in range((degree - n) // 2 + 1)
            )
            for n in range(degree + 1)
        ]
        out = sum(
            (
                spread**n * jnp.abs(expected[n]) ** 2 / math.factorial(n)
                for n in range(1, degree + 1)
            ),
            jnp.zeros_like(mean),
        )
        return jnp.broadcast_to(expected[0], mean.shape), jnp.broadcast_to(out, mean.shape)


def _is_complex(x: Coefficient) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.complexfloating)


def _value(coefficients: Coefficients, at: jax.Array) -> jax.Array:
    out = jnp.asarray(coefficients[-1], at.dtype)
    for c in reversed(coefficients[:-1]):
        out = out * at + jnp.asarray(c, at.dtype)
    return out


def _derived(coefficients: Coefficients, times_: int) -> Coefficients:
    for _ in range(times_):
        coefficients = tuple(times(k, c) for k, c in enumerate(coefficients))[1:]
    return coefficients


def _over_one_unit(operation: Operation) -> tuple[Line, list[Coefficients]]:
    """The operands as polynomials of one line: of that of the highest one, if that can be.

    So that `(x - 10000)^2 + x` is one of `x - 10000`, and nothing cancels.
    """
    curved = [f for f in operation.operands if isinstance(f, Polynomial)]
    first = max(curved, key=lambda f: len(f.coefficients))
    unit = first.unit
    if len(first.coefficients) == 2 and not operation.facts.is_linear(
        [isinstance(f, Polynomial) for f in operation.operands]
    ):
        assert first.line is not None
        unit = first.line
    # Of complex numbers, not everything that is linear is so in a complex line.
    for one in (unit, IDENTITY) if operation.is_real else (IDENTITY,):
        found = [
            (f.value,) if isinstance(f, Known) else f.over(one)
            for f in operation.operands
            if isinstance(f, Known | Polynomial)
        ]
        if None not in found:
            return one, [c for c in found if c is not None]
    raise AssertionError("every polynomial is one of the variable")


def _sum(terms: Sequence[Coefficients], signs: Sequence[int]) -> Coefficients:
    out = []
    for k in range(max(map(len, terms))):
        total: Coefficient = 0.0
        for term, sign in zip(terms, signs, strict=True):
            if k < len(term):
                total = plus(total, term[k] if sign > 0 else minus(term[k]))
        out.append(total)
    return tuple(out)


def _product(a: Coefficients, b: Coefficients) -> Coefficients:
    out: list[Coefficient] = [0.0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] = plus(out[i + j], times(x, y))
    return tuple(out)


def _power(a: Coefficients, exponent: int) -> Coefficients | None:
    if exponent < 0 or (len(a) - 1) * exponent > _HIGHEST:
        return None
    out: Coefficients = (1.0,)
    for _ in range(exponent):
        out = _product(out, a)
    return out


def _linear(operation: Operation, operands: Sequence[Coefficients]) -> Coefficients | None:
    """Of an operation that is linear in what is random: the same of each coefficient."""
    known: Facts = operation.facts
    if not known.is_linear([not isinstance(f, Known) for f in operation.operands]):
        return None
    if known.signs:
        return _sum(operands, known.signs)
    if known.converts and operation.is_real:
        return operands[0]
    inside = known.linear.of(len(operands))

    def one(k: int) -> Coefficient:
        """The coefficients of u^k, with the other operands as they are."""
        values = [
            c[k] if k < len(c) and i in inside else c[0] if i not in inside else 0.0
            for i, c in enumerate(operands)
        ]
        return applied(operation, values)

    return tuple(one(k) for k in range(max(map(len, operands))))


def applied(operation: Operation, values: Sequence[Coefficient]) -> Coefficient:
    """An operation on coefficients; a number stays one where the operation is division."""
    if operation.primitive is lax.div_p:
        return over(*values)
    if operation.primitive is lax.select_n_p and len(values) == 3:
        known = number(values[0])
        which = jnp.asarray(values[0], bool) if known is None else bool(known)
        return pick(which, values[2], values[1])
    variables = operation.eqn.invars
    arrays = [
        jnp.broadcast_to(jnp.asarray(x, dtype_of(v)), operation.shape)
        for x, v in zip(values, variables, strict=True)
    ]
    return bind(operation.eqn, arrays)[0]


def _multiplied(operation: Operation, operands: Sequence[Coefficients]) -> Coefficients:
    return _product(*operands)


def _whole_power(operation: Operation, operands: Sequence[Coefficients]) -> Coefficients | None:
    return _power(operands[0], operation.eqn.params["y"])


def _squared(operation: Operation, operands: Sequence[Coefficients]) -> Coefficients | None:
    return _power(operands[0], 2)


def _one_minus_square(
    operation: Operation, operands: Sequence[Coefficients]
) -> Coefficients | None:
    square = _power(operands[0], 2)
    return None if square is None else _sum([(1.0,), square], (1, -1))


Rule = Callable[[Operation, Sequence[Coefficients]], Coefficients | None]
_RULES: dict[object, Rule] = {
    lax.mul_p: _multiplied,
    lax.integer_pow_p: _whole_power,
    lax.square_p: _squared,
}
if (_added_later := getattr(lax, "one_minus_square_p", None)) is not None:
    _RULES[_added_later] = _one_minus_square
