"""The values of a program, up to how they are written.

Every value is `scale * core + shift`, spread over its axes, where the core is an operation on other
values. Equal computations have equal forms, whichever conversions, copies, broadcasts, barriers or
kept axes stand between their operations, and whether a constant is added or subtracted, multiplied
or divided by.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._lift import choices
from cgjax._node import node_p
from cgjax._program.axes import Axes, after, own, spread
from cgjax._program.jaxprs import Aval, Parameter, aval
from cgjax._program.operations import Flat, Operation

# Parameters that say nothing about the value.
_IGNORED = frozenset(
    "sharding out_sharding accuracy weak_type name preferred_element_type index_dtype "
    "out_dtype".split()
)


@dataclass(frozen=True)
class Form:
    """How a value is computed.

    Attributes:
        core: the number of an operation without constant scale and shift; None of a constant.
        axes: where the core's axes lie in the value; axes of size 1 don't count.
        scale, shift: the value is `scale * core + shift`.
    """

    core: int | None
    axes: Axes = ()
    scale: float = 1.0
    shift: float = 0.0

    @property
    def key(self) -> Hashable:
        """Equal for values that differ by the rounding of constants alone."""
        return (self.core, self.axes, float(f"{self.scale:.5g}"), float(f"{self.shift:.5g}"))

    def times(self, factor: float | int) -> Form:
        """The form of the product with a constant."""
        return replace(self, scale=self.scale * factor, shift=self.shift * factor)


@dataclass(frozen=True)
class Core:
    """An operation on values.

    Attributes:
        name: the primitive's name.
        params: what else decides the result; a number of its own for what is never the same.
        inputs: the forms of its operands.
        commutes: whether its operands may change places.
        sizes: the shapes of the operands where they count, and which result it is.
    """

    name: str
    params: Hashable
    inputs: tuple[Form, ...] = ()
    commutes: bool = False
    sizes: Hashable = ()


_ZERO, _ONE = (Form(None, scale=0.0, shift=number) for number in (0.0, 1.0))


class Forms:
    """The forms of a program's values.

    Args:
        flat: the program.
    """

    def __init__(self, flat: Flat):
        self.flat = flat
        self.cores: list[Core] = []
        self.of: list[Form] = [Form(None)] * len(flat.avals)
        self._known: dict[Hashable, int] = {}
        made = {v for op in flat.operations for v in op.outputs}
        for value in range(len(flat.avals)):
            if value not in made:
                self.of[value] = self._constant(value) or self._leaf(value)
        for op in flat.operations:
            for k, value in enumerate(op.outputs):
                made_of = self._operation(op, k, value) if _is_pure(op) else self._leaf(value)
                self.of[value] = self._constant(value) or made_of
        self.values: dict[Hashable, list[int]] = {}
        for value, form in enumerate(self.of):
            self.values.setdefault(form.key, []).append(value)

    def is_same(self, a: int, b: int) -> bool:
        """Whether two values are computed in the same way from the same values."""
        return self.of[a].key == self.of[b].key

    # -- from operations to forms

    def _new(self, core: Core, axes: Axes) -> Form:
        key = (core.name, core.params, core.sizes, tuple(form.key for form in core.inputs))
        if key not in self._known:
            self._known[key] = len(self.cores)
            self.cores.append(core)
        return Form(self._known[key], axes)

    def _constant(self, value: int) -> Form | None:
        """The form of a number."""
        number = self.flat.constants.get(value)
        if number is None or np.iscomplexobj(number):
            return None
        # The shortest number that rounds to it: 0.01, not 0.009999999776482582.
        exact = np.asarray(number).dtype.kind in "biu"
        return Form(None, scale=0.0, shift=float(number if exact else str(number)))

    def _leaf(self, value: int) -> Form:
        """The form of what is the same as nothing else."""
        shape = getattr(self.flat.avals[value], "shape", ())
        return self._new(Core("", value), own(shape))

    def _operation(self, op: Operation, k: int, value: int) -> Form:
        known, avals = op.facts, self.flat.avals
        inputs = [self.of[v] for v in op.inputs]
        moved = k if len(op.outputs) > 1 else 0
        if known.moves and known.converts and not _rounds(avals[op.inputs[moved]], avals[value]):
            return inputs[moved]
        if known.moves and not known.mixes and len(known.data.of(len(inputs))) == 1:
            axes = spread(op.eqn, avals[op.inputs[0]].shape, avals[value].shape)
            if axes is not None:
                return replace(inputs[0], axes=after(inputs[0].axes, axes))
        number = jnp.issubdtype(avals[value].dtype, jnp.floating)
        if known.elementwise and number:
            form = _computed(op, inputs) or _affine(op, inputs)
            if form is not None:
                return form
        return self._core(op, k, value, inputs)

    def _core(self, op: Operation, k: int, value: int, inputs: list[Form]) -> Form:
        known, shape = op.facts, self.flat.avals[value].shape
        if known.reduces == "index" and (stacked := choices.sought(self.flat, op)) is not None:
            which, values, axis = stacked
            forms = [self._along(v, axis, len(shape)) for v in values]
            return self._elementwise(Core(op.name, which, tuple(forms)), shape)
        if op.eqn.primitive is lax.select_n_p:
            index, *cases = inputs
            inputs = [choices.unclamped(self.cores, index, len(cases)), *cases]
            nested = choices.cases_of(self.cores, inputs[0], cases)
            if nested is not None:
                (_, form), *others = nested
                for condition, case in others:
                    form = self._choice(condition, form, case, shape)
                return form
            if len(inputs) == 3:
                return self._choice(inputs[0], inputs[1], inputs[2], shape)
        if known.reduces and "axes" in op.params and inputs[0].core is not None:
            if (reduced := self._reduction(op, inputs[0])) is not None:
                return reduced
        if not known.elementwise:
            sizes = (*(self.flat.avals[v].shape for v in op.inputs), k)
            core = Core(op.name, _parameters(op), tuple(inputs), sizes=sizes)
            return self._new(core, own(shape))
        name, params, inputs, commutes = self._written(op, inputs)
        if commutes:
            inputs = sorted(inputs, key=lambda form: repr(form.key))
        return self._elementwise(Core(name, params, tuple(inputs), commutes), shape)

    def _along(self, value: int, axis: int, rank: int) -> Form:
        """The form of a value in a stack, without the axis along which it was stacked."""
        form = self.of[value]
        if len(self.flat.avals[value].shape) == rank:
            return form
        return replace(form, axes=tuple((a - (a > axis), place) for a, place in form.axes))

    def _choice(self, condition: Form, no: Form, yes: Form, shape: tuple[int, ...]) -> Form:
        """A choice between two values."""
        condition, no, yes = self._positive(condition, no, yes)
        no, yes = choices.plain(self.cores, condition, no, yes)
        if condition.core is None:
            return yes if condition.shift else no
        if no.key == yes.key and self.cores[condition.core].name == lax.eq_p.name:
            return no  # one operand of several branches
        if (no.key, yes.key) == (_ZERO.key, _ONE.key):
            return condition  # as a number
        return self._elementwise(Core(lax.select_n_p.name, (), (condition, no, yes)), shape)

    def _elementwise(self, core: Core, shape: tuple[int, ...]) -> Form:
        """The form of an element-wise function of arrays that are spread alike, or not."""
        inputs = list(core.inputs)
        varying = [form for form in inputs if form.core is not None]
        placed = max((form.axes for form in varying), key=len, default=())
        whole = dict(placed)
        if all(axis in whole for form in varying for axis, _ in form.axes):
            # A function of spread or turned values is the spread or turned function.
            inputs = [
                replace(form, axes=tuple(sorted((whole[axis], k) for axis, k in form.axes)))
                for form in inputs
            ]
        else:
            placed = own(shape)
        return self._new(replace(core, inputs=tuple(inputs)), placed)

    def _reduction(self, op: Operation, form: Form) -> Form | None:
        """A reduction over axes of a core, wherever they lie; None where the core is repeated."""
        shape, places = self.flat.avals[op.inputs[0]].shape, dict(form.axes)
        if set(places) != {axis for axis, _ in own(shape)}:
            return None
        over = {int(axis) for axis in op.params["axes"]}
        kept = [axis for axis in range(len(shape)) if axis not in over]
        order = sorted(places[axis] for axis in kept if axis in places)
        params = tuple(sorted(places[axis] for axis in over if axis in places))
        sizes = tuple(sorted((place, shape[axis]) for axis, place in places.items()))
        inner = replace(form, axes=tuple(sorted((place, place) for place in places.values())))
        placed = tuple(
            (k, order.index(places[axis])) for k, axis in enumerate(kept) if axis in places
        )
        return self._new(Core(op.name, params, (inner,), sizes=sizes), placed)

    def _written(self, op: Operation, inputs: list[Form]) -> tuple[str, Hashable, list[Form], bool]:
        """An element-wise operation in the way that stands for all of writing it."""
        known, primitive, power = op.facts, op.eqn.primitive, op.params.get("y")
        if known.mirror:
            return known.mirror, (), inputs[::-1], False
        if primitive is lax.square_p or (primitive is lax.integer_pow_p and power == 2):
            return lax.mul_p.name, (), inputs * 2, True
        if primitive is lax.integer_pow_p and power == -1:
            return lax.div_p.name, (), [_ONE, *inputs], False
        if known.adds:
            terms = [form.times(s) for form, s in zip(inputs, known.signs, strict=True)]
            return lax.add_p.name, (), terms, True
        return op.name, _parameters(op), inputs, known.commutes

    def _positive(self, condition: Form, no: Form, yes: Form) -> list[Form]:
        """The operands of a selection whose condition is no negation."""
        if condition.core is not None and self.cores[condition.core].name == lax.not_p.name:
            (inner,) = self.cores[condition.core].inputs
            condition = replace(inner, axes=after(inner.axes, condition.axes))
            return [condition, yes, no]
        return [condition, no, yes]


def _is_pure(op: Operation) -> bool:
    """Whether an operation gives the same results for the same operands."""
    # The equation of an operation that marks a loop is the loop's.
    marks = op.name == node_p.name or op.name != op.eqn.primitive.name
    return not (marks or op.facts.random or op.facts.opaque)


def _rounds(origin: Aval, result: Aval) -> bool:
    """Whether a conversion changes numbers by more than their precision."""
    kinds = [jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating]
    before, now = (
        next((k for k, kind in enumerate(kinds) if jnp.issubdtype(aval.dtype, kind)), 9)
        for aval in (origin, result)
    )
    return now < before


def _computed(op: Operation, inputs: list[Form]) -> Form | None:
    """The form of a function of numbers, such as the root of 2."""
    if not inputs or any(form.core is not None for form in inputs):
        return None
    dtypes = [aval(v).dtype for v in op.eqn.invars]
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        return None
    with jax.ensure_compile_time_eval():
        numbers = [
            jnp.asarray(form.shift, dtype) for form, dtype in zip(inputs, dtypes, strict=True)
        ]
        found = op.eqn.primitive.bind(*numbers, **op.params)
    return Form(None, scale=0.0, shift=float(str(np.asarray(found))))


def _affine(op: Operation, inputs: list[Form]) -> Form | None:
    """The form of a sum, a product or a quotient with constants."""
    known = op.facts
    if known.signs:
        terms = [form.times(s) for form, s in zip(inputs, known.signs, strict=True)]
        varying = [form for form in terms if form.core is not None]
        if len(varying) == 1:
            constant = sum(form.shift for form in terms if form.core is None)
            return replace(varying[0], shift=varying[0].shift + constant)
        return None
    constants = [form.core is None for form in inputs]
    if len(inputs) != 2 or sum(constants) != 1:
        return None
    form, constant = inputs if constants[1] else inputs[::-1]
    if known.multiplies and _is_factor(constant.shift):
        return form.times(constant.shift)
    if known.divides and constants[1] and _is_factor(constant.shift):
        return form.times(1 / constant.shift)
    return None


def _is_factor(number: float) -> bool:
    return bool(np.isfinite(number)) and number != 0


def _parameters(op: Operation) -> Hashable:
    def plain(value: Parameter) -> Parameter:
        if isinstance(value, tuple | list):
            return tuple(map(plain, value))
        return int(value) if isinstance(value, np.integer) else value

    params = tuple((k, plain(v)) for k, v in sorted(op.params.items()) if k not in _IGNORED)
    try:
        hash(params)
    except TypeError:
        return op.outputs[0]
    return params
