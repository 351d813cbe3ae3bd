"""Functions whose moments are in closed form: exponentials, logarithms, powers, waves.

What only positive numbers have, such as a logarithm, is that of the log-normal variable with the
moments of its argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    is_inexact,
    minus,
    number,
    over,
    plus,
    times,
)
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._gaussian import closed


@dataclass(frozen=True, eq=False)
class Exponential(Form):
    """factor * exp(u) of a straight line u of the variable.

    Attributes:
        factor: the factor.
        of: u.
    """

    factor: Coefficient
    of: Line

    @property
    def exponent(self) -> Line | None:
        """u, where the factor is 1."""
        return self.of if number(self.factor) == 1 else None

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """Exponentials, their products and powers; and their logarithms, which are lines."""
        rule = _EXPONENTIAL.get(operation.primitive)
        if not operation.is_real or not is_inexact(operation.dtype) or operation.stops:
            return None
        if operation.facts.converts and isinstance(operation.operands[0], Exponential):
            return operation.operands[0]
        return None if rule is None else rule(operation)

    def scaled(self) -> Exponential:
        """The same with the logarithm of the factor, which is above 0, in the line."""
        known = number(self.factor)
        log = jnp.log(self.factor) if known is None else math.log(known.real)
        return Exponential(1.0, Line(self.of.slope, plus(self.of.offset, log)))

    def power(self, exponent: Coefficient) -> Exponential | None:
        """One to a power, where that has no sign to be lost."""
        if number(self.factor) != 1:
            return None
        return Exponential(1.0, Line(exponent, 0.0).of(self.of))

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of a log-normal variable."""
        centre, spread = closed.exponential(*self.of.moments(mean, variance))
        factor = jnp.asarray(self.factor, mean.dtype)
        return factor * centre, factor**2 * spread


def _raised(base: float) -> Callable[[Operation], Form | None]:
    def rule(operation: Operation) -> Form | None:
        line = operation.operands[0].line
        return None if line is None else Exponential(1.0, Line(math.log(base), 0.0).of(line))

    return rule


def _power(operation: Operation) -> Form | None:
    base, exponent = operation.operands
    if isinstance(exponent, Known) and isinstance(base, Exponential):
        return base.power(exponent.value)
    known = number(base.value) if isinstance(base, Known) else None
    line = exponent.line
    if known is None or isinstance(known, complex) or known <= 0 or line is None:
        return None
    return Exponential(1.0, Line(math.log(known), 0.0).of(line))


def _whole_power(operation: Operation) -> Form | None:
    (x,) = operation.operands
    if not isinstance(x, Exponential):
        return None
    y = operation.eqn.params["y"]
    factor = 1.0 if number(x.factor) == 1 else x.factor**y
    return Exponential(factor, Line(float(y), 0.0).of(x.of))


def _fixed_power(exponent: float) -> Callable[[Operation], Form | None]:
    def rule(operation: Operation) -> Form | None:
        (x,) = operation.operands
        return x.power(exponent) if isinstance(x, Exponential) else None

    return rule


def _product(sign: int) -> Callable[[Operation], Form | None]:
    def rule(operation: Operation) -> Form | None:
        parts = [
            Exponential(f.value, Line(0.0, 0.0)) if isinstance(f, Known) else f
            for f in operation.operands
        ]
        a, b = parts
        if not isinstance(a, Exponential) or not isinstance(b, Exponential):
            return None
        factor = times(a.factor, b.factor) if sign > 0 else over(a.factor, b.factor)
        signed = [c if sign > 0 else minus(c) for c in b.of]
        line = Line(*(plus(x, y) for x, y in zip(a.of, signed, strict=True)))
        return Exponential(factor, line)

    return rule


def _negative(operation: Operation) -> Form | None:
    (x,) = operation.operands
    return Exponential(minus(x.factor), x.of) if isinstance(x, Exponential) else None


def _size(operation: Operation) -> Form | None:
    (x,) = operation.operands
    return x if isinstance(x, Exponential) and x.exponent is not None else None


def _logarithm(base: float) -> Callable[[Operation], Form | None]:
    def rule(operation: Operation) -> Form | None:
        (x,) = operation.operands
        if not isinstance(x, Exponential) or x.exponent is None:
            return None
        return Polynomial.straight(x.of, Line(1 / math.log(base), 0.0))

    return rule


_EXPONENTIAL: dict[object, Callable[[Operation], Form | None]] = {
    lax.exp_p: _raised(math.e),
    lax.exp2_p: _raised(2.0),
    lax.pow_p: _power,
    lax.integer_pow_p: _whole_power,
    lax.square_p: _fixed_power(2.0),
    lax.sqrt_p: _fixed_power(0.5),
    lax.rsqrt_p: _fixed_power(-0.5),
    lax.cbrt_p: _fixed_power(1 / 3),
    lax.mul_p: _product(1),
    lax.div_p: _product(-1),
    lax.neg_p: _negative,
    lax.abs_p: _size,
    lax.log_p: _logarithm(math.e),
}


@dataclass(frozen=True, eq=False)
class Closed(Form):
    """outer(g(inner(x))) with straight lines around a function g of known moments.

    Attributes:
        rule: the moments of g.
        inner: the line that g is of.
        outer: the line that is of g.
        keeps_sign: what has to keep its sign for g to be defined.
    """

    rule: closed.Rule
    inner: Line
    outer: Line = IDENTITY
    keeps_sign: tuple[Line, ...] = ()

    @property
    def domains(self) -> tuple[Line, ...]:
        """Lines that have to keep their sign."""
        return self.keeps_sign

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """One of the functions of a line; or a line of one."""
        random = operation.random
        if len(random) != 1 or not operation.is_real or not is_inexact(operation.dtype):
            return None
        if operation.stops:
            return None
        (x,) = random
        if isinstance(x, Closed):
            outer = _line_of(operation, x)
            return None if outer is None else cls(x.rule, x.inner, outer.of(x.outer), x.keeps_sign)
        if x.line is not None and operation.primitive in _CLOSED:
            return _CLOSED[operation.primitive](operation, x.line)
        if isinstance(x, Exponential):
            outer = _line_of(operation, x)
            if outer is not None:
                rule = closed.exponential
                return cls(rule, x.of, outer.of(Line(x.factor, 0.0)))
        return None

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Those of the rule."""
        return self.outer.moments(*self.rule(*self.inner.moments(mean, variance)))


def _line_of(operation: Operation, x: Form) -> Line | None:
    """The line of x that the operation is, if it is one."""
    operands = tuple(Polynomial(IDENTITY, (0.0, 1.0)) if f is x else f for f in operation.operands)
    stand_in = Operation(operation.eqn, operands, operation.functions, operation.shape)
    found = Polynomial.after(stand_in)
    return None if found is None else found.line


ClosedRule = Callable[[Operation, Line], Closed | None]


def _plain(rule: closed.Rule) -> ClosedRule:
    return lambda operation, line: Closed(rule, line)


def _of_positive(rule: closed.Rule, outer: Line = IDENTITY) -> ClosedRule:
    return lambda operation, line: Closed(rule, line, outer, (line,))


def _shifted_logarithm(operation: Operation, line: Line) -> Closed:
    line = Line(line.slope, plus(line.offset, 1.0))
    return Closed(closed.logarithm, line, IDENTITY, (line,))


def _shifted_exponential(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.expm1(mean + variance / 2), closed.exponential(mean, variance)[1]


def _quotient(operation: Operation, line: Line) -> Closed | None:
    above = operation.operands[0]
    if not isinstance(above, Known):
        return None
    return Closed(closed.reciprocal, line, Line(above.value, 0.0), (line,))


def _negative_power(operation: Operation, line: Line) -> Closed | None:
    y = operation.eqn.params["y"]
    if y >= 0:
        return None

    def rule(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        centre, spread = closed.power(mean, variance, float(y))
        return (jnp.abs(centre) if y % 2 == 0 else centre), spread

    return Closed(rule, line, IDENTITY, (line,))


def _to_a_power(operation: Operation, line: Line) -> Closed | None:
    exponent = operation.operands[1]
    if not isinstance(exponent, Known):
        return None

    def rule(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        return closed.power(mean, variance, jnp.asarray(exponent.value, mean.dtype))

    return Closed(rule, line, IDENTITY, (line,))


_CLOSED: dict[object, ClosedRule] = {
    lax.log_p: _of_positive(closed.logarithm),
    lax.log1p_p: _shifted_logarithm,
    lax.expm1_p: _plain(_shifted_exponential),
    lax.sqrt_p: _of_positive(closed.square_root),
    lax.rsqrt_p: _of_positive(closed.reciprocal_square_root),
    lax.div_p: _quotient,
    lax.integer_pow_p: _negative_power,
    lax.pow_p: _to_a_power,
    lax.sin_p: _plain(closed.sine),
    lax.cos_p: _plain(closed.cosine),
}
if (_added_later := getattr(lax, "log2_p", None)) is not None:
    _CLOSED[_added_later] = _of_positive(closed.logarithm, Line(1 / math.log(2), 0.0))
    _EXPONENTIAL[_added_later] = _logarithm(2.0)
