"""Exponentials of a Gaussian or of a function of one, and the sums that hold them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.closed import Exponential
from cgjax._beliefs.curves.form import Coefficient, Line
from cgjax._beliefs.group_sums import Sum
from cgjax._beliefs.grouped import Form, Grouped, is_integrated
from cgjax._beliefs.laid import Laid
from cgjax._beliefs.values import Exact, Gaussian, Value


def is_same(a: Coefficient, b: Coefficient) -> bool:
    """Whether two slopes are one, as far as can be told."""
    return a is b or (isinstance(a, int | float) and isinstance(b, int | float) and a == b)


class Exponent(NamedTuple):
    """The exponential of a line of a value, or where a mask says so known numbers from 0 on.

    Attributes:
        value: the Gaussian, or the function of one.
        line: the line.
        mask: where it is the exponential, and the numbers; None if it is that everywhere.
    """

    value: Gaussian | Curve
    line: Line
    mask: tuple[jax.Array, Exact] | None

    @property
    def line_inside(self) -> Line | None:
        """The line, minus infinity where a mask has 0; None where a mask may have more."""
        if self.mask is None:
            return self.line
        inside, beside = self.mask
        if isinstance(beside, Tracer) or np.any(np.asarray(beside)):
            return None
        return Line(self.line.slope, jnp.where(inside, self.line.offset, -jnp.inf))

    def has_slope_of(self, value: Gaussian | Curve, line: Line) -> bool:
        """Whether a line is one of the same value with the same slope."""
        return value is self.value and is_same(line.slope, self.line.slope)


def exponent_of(curve: Curve) -> Exponent | None:
    """What a curve is the exponential of."""
    found = curve.exponent
    if found is None or found.form.exponent is None:
        return None
    return Exponent(found.value, found.form.exponent, found.mask)


def not_negative(value: Value) -> Value:
    """A value that is known not to fall below 0.

    So is the factor, if it is a multiple of an exponential, and what a mask put in its place.
    """
    if isinstance(value, Laid):
        known = not_negative(value.value)
        return value if known is value.value else Laid(known, value.layout)
    if isinstance(value, Grouped) and value.undivided is not None:
        return replace(value, undivided=not_negative(value.undivided))
    if not isinstance(value, Curve) or value.least >= 0:
        return value
    is_exponential = isinstance(value.inner.form, Exponential)
    return replace(value, least=0.0) if is_exponential else value


def exponent_in(value: Value, form: Form) -> Exponent | None:
    """The exponent of the exponentials that a value of some form sums.

    None where the value is integrated over all elements of its groups, and the exponent is no line
    of a Gaussian, which says less.
    """
    if not isinstance(value, Grouped) or value.form != form or len(value.sums) != 1:
        return None
    (one,) = value.sums
    found = None if one.summand is None else exponent_of(one.summand)
    if found is None or (found.value is not value.root and is_integrated(value, one.over)):
        return None
    return found


def exponent_summed(one: Sum) -> Exponent:
    """The exponent of what a sum sums, which is known to have one."""
    found = None if one.summand is None else exponent_of(one.summand)
    assert found is not None
    return found
