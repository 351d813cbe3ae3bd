"""An element-wise function of one Gaussian, kept as a function until its moments are needed."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.closed import Exponential
from cgjax._beliefs.curves.compose import evaluator, formed
from cgjax._beliefs.curves.correlated import correlated
from cgjax._beliefs.curves.form import (
    IDENTITY,
    Coefficient,
    Form,
    Function,
    Known,
    Line,
    Operation,
    is_inexact,
    number,
)
from cgjax._beliefs.curves.general import General
from cgjax._beliefs.curves.lines import of_line, real_part_of
from cgjax._beliefs.curves.polynomial import Polynomial
from cgjax._beliefs.values import Exact, Gaussian, Lazy, Value, is_random, kept
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import source
from cgjax._program.primitives import facts


class Inner(NamedTuple):
    """What a curve is a function of: the Gaussian, or another curve.

    Attributes:
        value: the Gaussian or the curve.
        form: what the curve is of it: a line, or a multiple of the exponential of one.
        mask: where the curve is that, and what it is elsewhere; None if it is that everywhere.
    """

    value: Gaussian | Curve
    form: Form
    mask: tuple[jax.Array, Exact] | None = None


class OfLine(NamedTuple):
    """A curve as one function, the same everywhere, of a line that is not.

    Attributes:
        line: the line, such as a layer to which known offsets were added.
        function: from a Gaussian to the curve of it.
    """

    line: Curve
    function: Callable[[Gaussian], Value]


@dataclass(frozen=True, eq=False)
class Curve(Lazy):
    """An element-wise function of one Gaussian.

    Attributes:
        root: the Gaussian.
        function: from values of the root (of its shape, of at least float32) to those of the curve.
        dtype: the dtype of the values.
        form: what is known about the function.
        rises: whether the function is the same everywhere and never falls, so that the largest
            value is the function of the largest root.
        eqn: the operation that it is the result of, for messages.
        made_of: another curve that it is a line of, or a multiple of whose exponential; or None.
        of_line: the same as a function of a line; None where there is none, or it is a line.
        least: a number that no value falls below.
    """

    root: Gaussian
    function: Function
    dtype: np.dtype
    form: Form
    rises: bool = False
    eqn: JaxprEqn | None = None
    made_of: Inner | None = None
    of_line: OfLine | None = None
    least: float = -math.inf

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.root.shape

    @property
    def affine(self) -> Line | None:
        """(slope, offset) if the curve is `slope * root + offset`."""
        return self.form.line

    @property
    def inner(self) -> Inner:
        """What it is a line of, or a multiple of the exponential of one: at least of itself."""
        if self.form.line is not None or isinstance(self.form, Exponential):
            return Inner(self.root, self.form)
        return Inner(self, _IDENTITY) if self.made_of is None else self.made_of

    @functools.cached_property
    def exponent(self) -> Inner | None:
        """What it is the exponential of, or 0 or more where a mask says so; None if of nothing.

        A factor f above 0 is part of it, f exp(u) = exp(u + log f), and 0 is what a mask says.
        """
        value, form, mask = self.inner
        if not isinstance(form, Exponential):
            return None
        if mask is None and form.exponent is not None:
            return self.inner
        if self.least < 0:
            return None
        if number(form.factor) == 0:
            return None
        if number(form.factor) is not None:
            return Inner(value, form.scaled(), mask)
        inside = jnp.asarray(form.factor) > 0
        form = replace(form, factor=jnp.where(inside, form.factor, 1)).scaled()
        if mask is None:
            return Inner(value, form, (inside, np.zeros(())))
        beside = jnp.where(mask[0], 0, mask[1])
        return Inner(value, form, (inside & mask[0], beside))

    @property
    def resolved(self) -> bool:
        """Whether its moments are in closed form, or those of a smooth function."""
        return self.form.resolved

    @property
    def is_decision(self) -> bool:
        """Whether its values are no numbers that a Gaussian could stand for."""
        return not is_inexact(self.dtype)

    def on(self, root: Gaussian) -> Curve:
        """The same function of another Gaussian, for one that is the same everywhere."""
        return replace(self, root=root, rises=True, made_of=None, of_line=None)

    def smoothed(self, operands: Sequence[Value]) -> Curve:
        """The same, known to be smooth where the operands that it was computed from are."""
        if self.form.resolved:
            return self
        cuts = [c for x in operands if isinstance(x, Curve) for c in x.form.cuts]
        return replace(self, form=General(tuple(cuts), self.form.domains))

    def at_mean(self) -> jax.Array:
        """The value at the root's mean."""
        return jnp.asarray(self.function(wide(self.root.mean)), self.dtype)

    def settled(self, order: int) -> Gaussian | jax.Array:
        """The moments: matched, or to first order."""
        if self.is_decision:
            if order != 1 and not _is_certain(self.form):
                warn_of_decision(self.eqn, "a decision or a whole number")
            return self.at_mean()
        return self._moments(order)

    @kept
    def _moments(self, order: int) -> Gaussian | jax.Array:
        x = self.root
        if self.form.line is not None:
            return of_line(x, self.form.line, self.dtype)
        if order == 1:
            mean, slope = jax.jvp(self.function, (wide(x.mean),), (jnp.ones_like(wide(x.mean)),))
            variance = jnp.abs(slope) ** 2 * x.variance
            return Gaussian(jnp.asarray(mean, self.dtype), real_part_of(variance, self.dtype))
        found = self.form.evaluated(self.function, wide(x.mean), wide(x.variance), bool(x.axes))
        mean = jnp.asarray(found.mean, self.dtype)
        out = Gaussian(mean, real_part_of(found.variance, self.dtype))
        return correlated(x, out, found.slope, found.bend) if x.axes else out


def _is_certain(form: Form) -> bool:
    line = form.line
    return line is not None and number(line.slope) == 0


def as_curve(value: Gaussian | Curve) -> Curve:
    """A random value as a function of its root."""
    if isinstance(value, Curve):
        return value
    return Curve(value, lambda x: x, value.dtype, _IDENTITY, True)


_IDENTITY = Polynomial(IDENTITY, (0.0, 1.0))


def warn_of_decision(eqn: JaxprEqn | None, what: str) -> None:
    """Says that something is taken at the means."""
    name, where = ("it", "") if eqn is None else (f"`{eqn.primitive.name}`", source(eqn))
    warnings.warn(
        f"{name} at {where or 'an unknown line'} makes {what} of an uncertain value, which "
        "`moments` takes at the mean: what follows does not know that it could be another. Compute "
        "what is needed with `jnp.where`, `jnp.maximum` or a smooth function, register a rule with "
        "`@cgjax.moment_rule(…)` for the function around it, or sample with `cgjax.monte_carlo`.",
        UserWarning,
        stacklevel=2,
    )


def composed(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> Value:
    """An operation on functions of one Gaussian, and on arrays."""
    curves = [as_curve(x) if is_random(x) else None for x in operands]
    random = [c for c in curves if c is not None]
    forms = [Known.of(x) if c is None else c.form for c, x in zip(curves, operands, strict=True)]
    functions = [
        _constant(x) if c is None else c.function for c, x in zip(curves, operands, strict=True)
    ]
    operation = Operation(eqn, tuple(forms), tuple(functions), random[0].shape)
    form = formed(operation)
    out = Curve(
        random[0].root,
        evaluator(operation),
        operation.dtype,
        form,
        _rises(eqn, operands, curves),
        eqn,
        None if form.line or isinstance(form, Exponential) else _inner(operation, random),
        _of_line_of(eqn, operands, curves, order),
    )
    # Positive for two reasons: no points do justice to both.
    return out.settled(order) if order != 1 and len(form.domains) > 1 else out


def _of_line_of(
    eqn: JaxprEqn, operands: Sequence[Value], curves: Sequence[Curve | None], order: int
) -> OfLine | None:
    """An operation on functions of one line, and on numbers, as a function of that line."""
    known: list[OfLine | None] = []
    for curve, x in zip(curves, operands, strict=True):
        if curve is None:
            if jnp.ndim(x):
                return None
            known.append(None)
        elif curve.of_line is not None:
            known.append(curve.of_line)
        elif curve.affine is not None and not curve.rises:
            known.append(OfLine(curve, lambda root: root))
        else:
            return None
    lines = [k.line for k in known if k is not None]
    if any(line is not lines[0] for line in lines):
        return None

    def function(root: Gaussian) -> Value:
        pairs = zip(known, operands, strict=True)
        return composed(eqn, [x if k is None else k.function(root) for k, x in pairs], order)

    return OfLine(lines[0], function)


def _inner(operation: Operation, curves: Sequence[Curve]) -> Inner | None:
    """What an operation makes of lines of one curve, and of their exponentials."""
    found = _of_inner(operation, [c.inner for c in curves])
    return found or _of_inner(operation, [Inner(c, _IDENTITY) for c in curves])


def _of_inner(operation: Operation, found: Sequence[Inner]) -> Inner | None:
    (value, form, mask), *others = found
    if any(one.value is not value or one.mask is not mask for one in others):
        return None
    exponential = isinstance(form, Exponential)
    if operation.primitive is lax.select_n_p and len(found) == 1 and exponential:
        new = _mask(operation)
        if new is None or mask is None:
            return None if new is None else Inner(value, form, new)
        return Inner(value, form, (new[0] & mask[0], jnp.where(new[0], mask[1], new[1])))
    remaining = iter(one.form for one in found)
    forms = tuple(f if isinstance(f, Known) else next(remaining) for f in operation.operands)
    inner = replace(operation, operands=forms)
    form = Polynomial.after(inner) or Exponential.after(inner)
    exponential = isinstance(form, Exponential)
    if form is None or (form.line is None and not exponential):
        return None
    if mask is None:
        return Inner(value, form)
    return Inner(value, form, (mask[0], _beside(operation, mask[1]))) if exponential else None


def _beside(operation: Operation, beside: Exact) -> jax.Array:
    """What an operation makes of the numbers that a mask has put in place of what is random."""
    functions = tuple(
        f if isinstance(form, Known) else lambda x: jnp.asarray(beside)
        for form, f in zip(operation.operands, operation.functions, strict=True)
    )
    return evaluator(replace(operation, functions=functions))(jnp.zeros(operation.shape))


def _mask(operation: Operation) -> tuple[jax.Array, jax.Array] | None:
    """Where a choice by a known mask chooses what is random, and what it chooses elsewhere."""
    which, *cases = operation.operands
    if not isinstance(which, Known) or len(cases) != 2:
        return None
    (k,) = (k for k, form in enumerate(cases) if not isinstance(form, Known))
    other = cases[1 - k]
    assert isinstance(other, Known)
    return jnp.asarray(which.value, bool) == bool(k), jnp.asarray(other.value)


def _constant(value: Coefficient) -> Function:
    known = Known.of(value).value
    return lambda x: jnp.asarray(known)


def _rises(eqn: JaxprEqn, operands: Sequence[Value], curves: Sequence[Curve | None]) -> bool:
    """Whether the result is one non-decreasing function of each element of the root."""
    known = facts(eqn)
    random = [c for c in curves if c is not None]
    fixed = [x for x, c in zip(operands, curves, strict=True) if c is None]
    return (
        (known.rises or known.converts)
        and len(random) == 1
        and random[0].rises
        and all(jnp.ndim(x) == 0 for x in fixed)
    )
