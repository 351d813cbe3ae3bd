"""Recognising activations: templates, traced like any function, unified with a program.

A template matches a value if both have one form for some x: the same operations, backwards from the
result, whichever way around commutative operands are written.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from math import isclose

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from cgjax._lift.forms import Form, Forms
from cgjax._lift.templates import PARAMETRIC, SLOPE, Pattern, Template, pattern, roots
from cgjax._node import node_p
from cgjax._program.axes import after, before, own
from cgjax._program.operations import Flat, Operation


@dataclass(frozen=True)
class Parameter:
    """The natural parameter of an activation.

    Attributes:
        values: values that are equal to it, up to their precision and sign, earliest first.
        negated: whether it is the negative of these.
    """

    values: tuple[int, ...]
    negated: bool = False


@dataclass(frozen=True)
class Slope:
    """A slope that is no constant: the values that hold it."""

    values: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An operation that is recognised as an activation.

    Attributes:
        function: its name, one of `templates.FUNCTIONS`.
        e: what it is applied to, the natural parameter.
        result: the value it computes.
        root: the operation that makes the result.
        inside: all operations that belong to it.
        slope: the number of a function that has one: a leaky ReLU's slope, alpha or beta.
        axis: for softmax the class axis, negative.
        shape: the result's shape.
    """

    function: str
    e: Parameter
    result: int
    root: Operation
    inside: frozenset[int] = field(repr=False)
    slope: float | Slope | None = None
    axis: int | None = None
    shape: tuple[int, ...] = ()

    @property
    def x(self) -> int:
        """One of the values that it is applied to."""
        return self.e.values[0]


class _Unifier:
    """One attempt to unify a template with a form of a program."""

    def __init__(self, template: Pattern, forms: Forms, strict: bool, tolerance: float):
        self.template, self.forms, self.strict = template, forms, strict
        self.tolerance = tolerance
        self.bound: dict[int, Form] = {}
        self.slope: float | None = None
        self.matched: dict[int, int] = {}

    def form(self, p: Form, a: Form) -> bool:
        if p.core is None:
            if a.core is None and _close(p.shift, SLOPE):
                return self._is_slope(a.shift)
            return a.core is None and self._close(p.shift, a.shift)
        if a.core is None:
            return False
        if p.core in self.template.variables:
            return self._variable(p, a)
        if p.axes != a.axes:
            return False
        if _is_sloped(p):
            slope = a.scale * SLOPE / p.scale
            shifted = self._close(a.shift, p.shift * slope / SLOPE)
            return shifted and self._is_slope(slope) and self.core(p, a)
        if _close(abs(p.scale), 1 / SLOPE):
            same = p.shift == a.shift and self._is_slope(p.scale * SLOPE / a.scale)
            return same and self.core(p, a)
        scales = self._close(p.scale, a.scale) and self._close(p.shift, a.shift)
        return scales and self.core(p, a)

    def _close(self, a: float, b: float) -> bool:
        return _close(a, b, self.tolerance)

    def core(self, p: Form, a: Form) -> bool:
        """Unifies the cores of two forms."""
        assert p.core is not None and a.core is not None
        wanted, found = self.template.forms.cores[p.core], self.forms.cores[a.core]
        same = wanted.name == found.name and wanted.params == found.params
        if not wanted.name or not same or len(wanted.inputs) != len(found.inputs):
            return False
        start = dict(self.bound), self.slope, dict(self.matched)
        for order in (found.inputs, found.inputs[::-1]) if found.commutes else (found.inputs,):
            # What fixes x comes before what depends on x and a slope.
            pairs = sorted(zip(wanted.inputs, order, strict=True), key=lambda pair: _rank(pair[0]))
            if all(self.form(*pair) for pair in pairs):
                self.matched[p.core] = a.core
                return True
            self.bound, self.slope, self.matched = dict(start[0]), start[1], dict(start[2])
        return False

    def _variable(self, p: Form, a: Form) -> bool:
        """Binds a variable to a form, or holds it to the one that it is bound to."""
        assert p.core is not None
        known, axes = self.bound.get(p.core), before(p.axes, a.axes)
        if axes is None:
            return False
        if _is_sloped(p):
            # A multiple of x, which tells the slope.
            if known is None or known.core != a.core or known.axes != axes:
                return False
            slope = a.scale / known.scale * (SLOPE / p.scale)
            shift = slope * known.shift * (p.scale / SLOPE)
            return self._close(a.shift, shift) and self._is_slope(slope)
        new = Form(a.core, axes, a.scale / p.scale, (a.shift - p.shift) / p.scale)
        if known is None or new.key == known.key:
            self.bound[p.core] = new
            return True
        same = (known.core, known.axes) == (new.core, new.axes)
        same = same and self._close(known.scale, new.scale) and self._close(known.shift, new.shift)
        if same and new.key in self.forms.values:
            self.bound[p.core] = new  # the other one is off by the rounding of a constant
        return same

    def _is_slope(self, slope: float) -> bool:
        if self.strict and not 0 <= slope <= 1:
            return False
        self.slope = slope if self.slope is None else self.slope
        return self._close(self.slope, slope)

    def found(self, p: Form) -> Form:
        """What a form of the template is in the program."""
        assert p.core is not None
        if p.core in self.bound:
            return self.bound[p.core]
        return replace(p, core=self.matched[p.core])


def _close(a: float, b: float, tolerance: float = 1e-4) -> bool:
    return a == b or isclose(a, b, rel_tol=tolerance)


def _tolerance(dtype: DTypeLike) -> float:
    """How far constants may be off that were rounded to a dtype, each of a product by itself."""
    return max(1e-4, 2 * float(jnp.finfo(dtype).eps))


def _is_sloped(p: Form) -> bool:
    return _close(abs(p.scale), SLOPE)


def _rank(p: Form) -> int:
    """Where a form stands in the order of unification."""
    if p.core is None:
        return 0
    return 2 if _is_sloped(p) else 1


class _Matcher:
    """Finds the activations of a program."""

    def __init__(self, forms: Forms):
        self.forms, self.flat = forms, forms.flat

    def candidate(self, op: Operation) -> Candidate | None:
        """The activation whose result an operation makes, if it makes one."""
        result, aval = op.outputs[0], self.flat.avals[op.outputs[0]]
        form = self.forms.of[result]
        if form.core is None or not jnp.issubdtype(aval.dtype, jnp.floating):
            return None
        if any(self.forms.of[v].core == form.core and v < result for v in op.inputs):
            if any(self.forms.is_same(v, result) for v in op.inputs):
                return None  # moved only
        for template in roots().get(self.forms.cores[form.core].name, ()):
            if template.function != "softmax":
                if found := self._match(template, _shape(form), 0, op):
                    return found
                continue
            turned = form.axes != own(aval.shape)
            shape = _shape(form) if turned else tuple(min(size, 2) or 2 for size in aval.shape)
            places = {place: axis for axis, place in form.axes}
            for axis in range(len(shape)):
                if turned and axis not in places:
                    continue
                if found := self._match(template, shape, axis, op):
                    return replace(found, axis=places.get(axis, axis) - len(aval.shape))
        return None

    def is_moved(self, candidate: Candidate, known: Iterable[Candidate]) -> bool:
        """Whether a candidate is one that is known, which operations have only moved since.

        The node is where the activation is computed, or uses of it that are not moved would have
        none.
        """
        results = {c.result for c in known if c.function == candidate.function}
        form, pending = self.forms.of[candidate.result], list(candidate.root.inputs)
        seen: set[int] = set()
        while pending:
            value = pending.pop()
            other = self.forms.of[value]
            if candidate.function != "softmax":  # whose node is where its axis was meant
                other = replace(other, axes=form.axes)
            if value in seen or other.key != form.key:
                continue
            if value in results:
                return True
            seen.add(value)
            if (op := self.flat.producer.get(value)) is not None:
                pending += op.inputs
        return False

    def _match(
        self, template: Template, sizes: tuple[int, ...], axis: int, op: Operation
    ) -> Candidate | None:
        result = op.outputs[0]
        form, wanted = self.forms.of[result], pattern(template, sizes, axis)
        assert form.core is not None
        tolerance = _tolerance(self.flat.avals[result].dtype)
        close = partial(_close, tolerance=tolerance)
        scaled, shifted = (form.scale, wanted.result.scale), (form.shift, wanted.result.shift)
        if not (close(*scaled) and close(*shifted)):
            return None
        # The larger of x and a multiple is a leaky ReLU for slopes in [0, 1] alone.
        largest = self.forms.cores[form.core].name == lax.max_p.name
        for strict in (True,) if largest else (True, False):
            attempt = _Unifier(wanted, self.forms, strict, tolerance)
            if attempt.core(wanted.result, form) and (e := self._parameter(attempt, op)):
                slope = self._slope(attempt, result)
                if template.function in PARAMETRIC and slope is None:
                    return None
                inside = self._inside(op, set(attempt.matched.values()))
                shape = tuple(self.flat.avals[result].shape)
                return Candidate(template.function, e, result, op, inside, slope, None, shape)
        return None

    def _parameter(self, attempt: _Unifier, op: Operation) -> Parameter | None:
        """The natural parameter among the program's values."""
        result, wanted = op.outputs[0], attempt.template.e
        if wanted.core in attempt.template.variables and wanted.core not in attempt.bound:
            return None
        form = attempt.found(wanted)
        form = replace(form, axes=after(form.axes, self.forms.of[result].axes))
        for negated in (False, True):
            key = form.times(-1).key if negated else form.key
            if values := self._values(key, result):
                return Parameter(values, negated)
        return None

    def _values(self, key: Hashable, result: int) -> tuple[int, ...]:
        """The values of a form before a result, and of its shape."""
        avals = self.flat.avals

        def fits(v: int) -> bool:
            floating = jnp.issubdtype(avals[v].dtype, jnp.floating)
            return v < result and floating and avals[v].shape == avals[result].shape

        found = filter(fits, self.forms.values.get(key, ()))
        return tuple(sorted(found, key=lambda v: avals[v].dtype != avals[result].dtype))

    def _slope(self, attempt: _Unifier, result: int) -> float | Slope | None:
        if attempt.slope is not None:
            return attempt.slope
        variables = attempt.template.variables
        form = next(
            (attempt.bound.get(c) for c, kind in variables.items() if kind == "slope"), None
        )
        if form is None:
            return None
        found = self.forms.values.get(form.key, ())
        scalars = tuple(v for v in found if v < result and self.flat.avals[v].shape == ())
        return Slope(scalars) if scalars else None

    def _inside(self, root: Operation, cores: set[int]) -> frozenset[int]:
        """The operations that compute some cores, backwards from the last."""
        inside, pending = {id(root)}, list(root.inputs)
        while pending:
            value = pending.pop()
            op = self.flat.producer.get(value)
            if op is not None and self.forms.of[value].core in cores and id(op) not in inside:
                inside.add(id(op))
                pending += op.inputs
        return frozenset(inside)


def _shape(form: Form) -> tuple[int, ...]:
    """The shape of the core's axes, for a template."""
    axes = {origin for _, origin in form.axes}
    return tuple(2 if k in axes else 1 for k in range(max(axes, default=-1) + 1))


def marked(flat: Flat) -> set[int]:
    """The operations that compute the activations of nodes which are marked already."""
    inside: set[int] = set()
    for op in flat.operations:
        if op.name != node_p.name:
            continue
        activation, *rest = op.inputs
        stop, pending = set(rest), [activation]
        while pending:
            value = pending.pop()
            made_by = flat.producer.get(value)
            if value not in stop and made_by is not None and id(made_by) not in inside:
                inside.add(id(made_by))
                pending.extend(made_by.inputs)
    return inside


def candidates(forms: Forms) -> list[Candidate]:
    """All activations of a program, those inside larger ones left out, in walking order."""
    matcher, flat = _Matcher(forms), forms.flat
    found: list[Candidate] = []
    for op in flat.operations:
        c = matcher.candidate(op)
        if c is not None and not matcher.is_moved(c, found):
            found.append(c)
    roots_of = {id(c.root) for c in found}
    # One of the negative of a value is recognised only where it is made of no other.
    found = [c for c in found if not (c.e.negated and roots_of & (c.inside - {id(c.root)}))]
    taken = marked(flat)
    for candidate in found:
        taken |= candidate.inside - {id(candidate.root)}
    return [c for c in found if id(c.root) not in taken]
