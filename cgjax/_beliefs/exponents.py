"""Exponentials of a Gaussian or of a function of one, and the sums that hold them."""

from __future__ import annotations

from typing import NamedTuple

import jax

from cgjax._beliefs.curves import Curve
from cgjax._beliefs.curves.form import Coefficient, Line
from cgjax._beliefs.group_sums import Sum
from cgjax._beliefs.grouped import Form, Grouped, is_integrated
from cgjax._beliefs.values import Gaussian, Value


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
    mask: tuple[jax.Array, jax.Array] | None

    def has_slope_of(self, value: Gaussian | Curve, line: Line) -> bool:
        """Whether a line is one of the same value with the same slope."""
        return value is self.value and is_same(line.slope, self.line.slope)


def exponent_of(curve: Curve) -> Exponent | None:
    """What a curve is the exponential of."""
    value, form, mask = curve.inner
    return None if form.exponent is None else Exponent(value, form.exponent, mask)


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
