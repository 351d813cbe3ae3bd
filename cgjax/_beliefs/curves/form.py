"""What is known about an element-wise function of one Gaussian variable x: the form of its curve.

A form is one of a few families (`Polynomial`, `Broken`, `Exponential`, `Closed`, `Chosen`,
`General`). Each says in one file

- `after(operation)`: which of its forms an operation makes of forms, or None if it makes none;
- `moments(function, mean, variance)`: the mean and the variance, for x ~ N(mean, variance).

Forms hold numbers where a number is known while tracing, so that `max(x, 0)` costs what it has to,
and arrays of x's shape (or single numbers) elsewhere.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import JaxprEqn, Primitive

from cgjax._gaussian.blocks import Response, whole
from cgjax._gaussian.numerics import root, wide
from cgjax._program.jaxprs import Atom, aval
from cgjax._program.primitives import Facts, facts

Scalar = float | int | complex
Coefficient = Scalar | np.ndarray | np.number | np.bool_ | jax.Array
Function = Callable[[jax.Array], jax.Array]


class Line(NamedTuple):
    """slope * x + offset."""

    slope: Coefficient
    offset: Coefficient

    def of(self, inner: Line) -> Line:
        """This line as a function of what another line is a function of."""
        offset = plus(times(self.slope, inner.offset), self.offset)
        return Line(times(self.slope, inner.slope), offset)

    def at(self, x: Coefficient) -> Coefficient:
        """The value at x."""
        return plus(times(self.slope, x), self.offset)

    def moments(self, mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of the value, for x of a mean and a variance."""
        if self is IDENTITY:
            return mean, variance
        a, b = (jnp.asarray(c, mean.dtype) for c in self)
        return a * mean + b, a**2 * variance

    @property
    def is_level(self) -> bool:
        """Whether the slope is known to be 0."""
        return number(self.slope) == 0


IDENTITY = Line(1.0, 0.0)


# -- coefficients: numbers while they are known, else arrays


def number(x: Coefficient) -> Scalar | None:
    """A single number that is known while tracing."""
    if isinstance(x, float | int | complex):
        return x
    if isinstance(x, Tracer) or np.ndim(x):
        return None
    return complex(x) if jnp.issubdtype(x.dtype, jnp.complexfloating) else float(x)


def equal(a: Coefficient, b: Coefficient) -> bool:
    """Whether two coefficients are known to be the same."""
    known = number(a)
    return a is b or (known is not None and known == number(b))


def same_line(a: Line, b: Line) -> bool:
    """Whether two lines are known to be the same."""
    return a is b or (equal(a.slope, b.slope) and equal(a.offset, b.offset))


def plus(a: Coefficient, b: Coefficient) -> Coefficient:
    """a + b."""
    if number(a) == 0:
        return b
    return a if number(b) == 0 else a + b


def minus(a: Coefficient) -> Coefficient:
    """-a, without a negative zero."""
    return 0.0 if number(a) == 0 else -1 * a


def times(a: Coefficient, b: Coefficient) -> Coefficient:
    """a b; nothing times anything is nothing."""
    if number(a) == 0 or number(b) == 0:
        return 0.0
    if number(a) == 1:
        return b
    return a if number(b) == 1 else a * b


def over(a: Coefficient, b: Coefficient) -> Coefficient:
    """a / b."""
    if number(a) == 0 or number(b) == 1:
        return a
    return jnp.asarray(a) / b if number(b) == 0 else a / b


def pick(which: bool | np.bool_ | jax.Array, yes: Coefficient, no: Coefficient) -> Coefficient:
    """The one if a condition holds, which may be known while tracing, else the other."""
    if isinstance(which, bool | np.bool_):
        return yes if which else no
    return yes if equal(yes, no) else jnp.where(which, yes, no)


def pick_line(which: bool | np.bool_ | jax.Array, yes: Line, no: Line) -> Line:
    """The same of two lines."""
    return Line(*(pick(which, a, b) for a, b in zip(yes, no, strict=True)))


# -- where a function is not smooth


@dataclass(frozen=True, eq=False)
class Crossing:
    """Where two functions cross: where their difference changes its sign.

    Attributes:
        difference: of the variable.
    """

    difference: Function

    def places(self, mean: jax.Array, variance: jax.Array) -> list[jax.Array]:
        """The first and the last crossing within five deviations; the end, if there is none."""
        deviation = root(lax.stop_gradient(variance))
        mean = lax.stop_gradient(mean)

        def sign(t: jax.Array) -> jax.Array:
            return jnp.sign(lax.stop_gradient(self.difference(mean + deviation * t)))

        grid = [jnp.full_like(mean, t) for t in _GRID]
        signs = [sign(t) for t in grid]
        found = []
        for order in (1, -1):
            steps = list(zip(pairwise(grid[::order]), pairwise(signs[::order]), strict=True))
            low = high = grid[::order][0]
            for (start, end), (before, after) in reversed(steps):
                changes = before * after <= 0
                low, high = jnp.where(changes, start, low), jnp.where(changes, end, high)
            at_low = sign(low)
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                stays = sign(middle) == at_low
                low, high = jnp.where(stays, middle, low), jnp.where(stays, high, middle)
            found.append(mean + deviation * high)
        return found


_GRID = np.linspace(-5, 5, 21).tolist()
_HALVINGS = 16  # of half a deviation: to 1e-5 of one

Cut = Coefficient | Crossing


# -- forms and operations


class Form(abc.ABC):
    """The form of an element-wise function of one variable."""

    @classmethod
    @abc.abstractmethod
    def after(cls, operation: Operation) -> Form | None:
        """The form of an operation's result, if this family says it."""

    @abc.abstractmethod
    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The mean and the variance of `function`, which has this form, of x ~ N(mean, variance).

        All arrays are of one shape, and at least float32.
        """

    def evaluated(
        self, function: Function, mean: jax.Array, variance: jax.Array, slopes: bool
    ) -> Response:
        """The same, and where `slopes` are asked for the derivatives of the mean."""
        return whole(lambda m, v: self.moments(function, m, v), mean, variance, slopes)

    @property
    def line(self) -> Line | None:
        """The straight line that it is, if it is one."""
        return None

    @property
    def exponent(self) -> Line | None:
        """The straight line that it is the exponential of, if it is one."""
        return None

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where it is not smooth: values of x, or what finds them."""
        return ()

    @property
    def domains(self) -> tuple[Line, ...]:
        """Lines that have to keep their sign for the function to be defined, as in a logarithm."""
        return ()

    @property
    def resolved(self) -> bool:
        """Whether its moments are in closed form, or those of a smooth function."""
        return True


@dataclass(frozen=True, eq=False)
class Known(Form):
    """A value that is known."""

    value: Coefficient

    @classmethod
    def after(cls, operation: Operation) -> Form | None:
        """Never asked."""
        return None

    def moments(
        self, function: Function, mean: jax.Array, variance: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The value, and 0."""
        value = jnp.broadcast_to(jnp.asarray(self.value, mean.dtype), mean.shape)
        return value, jnp.zeros_like(mean)

    @property
    def line(self) -> Line:
        """A level one."""
        return Line(0.0, self.value)

    @classmethod
    def of(cls, value: Coefficient) -> Known:
        """A known operand: the number, or an array of at least float32."""
        known = number(value)
        if known is not None:
            return cls(known)
        value = jnp.asarray(value)
        return cls(wide(value) if jnp.issubdtype(value.dtype, jnp.floating) else value)


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation on functions of one variable.

    Attributes:
        eqn: the equation.
        operands: the forms of its operands.
        functions: what they are, as functions of the variable.
        shape: of the variable.
    """

    eqn: JaxprEqn
    operands: tuple[Form, ...]
    functions: tuple[Function, ...]
    shape: tuple[int, ...]

    @property
    def primitive(self) -> Primitive:
        """What is done."""
        return self.eqn.primitive

    @property
    def facts(self) -> Facts:
        """What is known about it."""
        return facts(self.eqn)

    @property
    def dtype(self) -> np.dtype:
        """Of the result."""
        return dtype_of(self.eqn.outvars[0])

    @property
    def kinds(self) -> list[np.dtype]:
        """The dtypes of the operands."""
        return [dtype_of(v) for v in self.eqn.invars]

    @property
    def random(self) -> list[Form]:
        """The operands that are not known."""
        return [f for f in self.operands if not isinstance(f, Known)]

    @property
    def is_real(self) -> bool:
        """Whether no number that takes part is complex."""
        variables = (*self.eqn.invars, *self.eqn.outvars)
        return not any(jnp.issubdtype(dtype_of(v), jnp.complexfloating) for v in variables)

    @property
    def rounds(self) -> bool:
        """Whether it turns numbers into whole ones."""
        before = dtype_of(self.eqn.invars[0])
        return self.facts.converts and not is_inexact(self.dtype) and is_inexact(before)

    @property
    def stops(self) -> bool:
        """Whether derivatives end here, though the value goes on."""
        stops = self.facts.converts and not self.facts.linear.of(1)
        return stops and is_inexact(self.dtype)


def is_inexact(dtype: np.dtype) -> bool:
    """Whether numbers are floating point or complex."""
    return jnp.issubdtype(dtype, jnp.inexact)


def dtype_of(variable: Atom) -> np.dtype:
    """The dtype of a variable of a program, or of a literal."""
    return aval(variable).dtype


def shape_of(variable: Atom) -> tuple[int, ...]:
    """The shape of a variable of a program, or of a literal."""
    return tuple(aval(variable).shape)
