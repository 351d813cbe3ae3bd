"""Choices between values by conditions, in one form however they are nested.

`jnp.piecewise(x, [x < 0, x >= 0], [f, g])`, which looks for the last condition that holds, and
`jnp.where(x >= 0, g(x), jnp.where(x < 0, f(x), 0))` are `jnp.where(x >= 0, g(x), f(x))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jax import lax

from cgjax._program.axes import after
from cgjax._program.operations import Flat, Operation

if TYPE_CHECKING:
    from cgjax._lift.forms import Core, Form

_GREATER, _AT_LEAST, _SELECT = lax.gt_p.name, lax.ge_p.name, lax.select_n_p.name
_DECISIONS = (_GREATER, _AT_LEAST, lax.eq_p.name, lax.ne_p.name)


# -- the conditions among which an index is sought


def sought(flat: Flat, op: Operation) -> tuple[str, list[int], int] | None:
    """What a search for an index searches: for the "first" or the "last" condition that holds.

    Args:
        flat: the program.
        op: the search, such as `argmax`.

    Returns:
        Which one, the values that are stacked, and the axis along which they are.
    """
    if len(op.params["axes"]) != 1:
        return None
    axis, which, value = int(op.params["axes"][0]), "first", op.inputs[0]
    count = _producer(flat, value)
    if count is not None and count.eqn.primitive is lax.cumsum_p:
        # Where the number of those that hold is largest for the first time.
        if count.params["axis"] != axis or count.params["reverse"]:
            return None
        which, value = "last", count.inputs[0]
    found = _stacked(flat, value, axis)
    return None if found is None else (which, found, axis)


def _stacked(flat: Flat, value: int, axis: int) -> list[int] | None:
    """The values along an axis of an array that stacks them, each with or without that axis."""
    op = _producer(flat, value)
    if op is None or not op.inputs:
        return None
    if op.eqn.primitive is lax.concatenate_p and op.params["dimension"] == axis:
        parts: list[int] = []
        for v in op.inputs:
            inner = [v] if flat.avals[v].shape[axis] == 1 else _stacked(flat, v, axis)
            if inner is None:
                return None
            parts += inner
        return parts
    ranks = [len(flat.avals[v].shape) for v in (op.inputs[0], op.outputs[0])]
    stacks = op.facts.moves and ranks[0] < ranks[1] and op.params.get("axis") == axis
    return list(op.inputs) if stacks else None


def _producer(flat: Flat, value: int) -> Operation | None:
    """The operation that makes a value, but for conversions."""
    op = flat.producer.get(value)
    while op is not None and op.facts.converts and op.facts.paired and len(op.inputs) == 1:
        op = flat.producer.get(op.inputs[0])
    return op


# -- nested choices


def cases_of(
    cores: Sequence[Core], index: Form, cases: Sequence[Form]
) -> list[tuple[Form, Form]] | None:
    """The conditions of a choice by the index of the last that holds, each with its case."""
    if index.core is None:
        return None
    core, axes = cores[index.core], index.axes
    if core.params != "last" or len(core.inputs) != len(cases):
        return None
    conditions = [replace(form, axes=after(form.axes, axes)) for form in core.inputs]
    return list(zip(conditions, cases, strict=True))


def unclamped(cores: Sequence[Core], index: Form, number: int) -> Form:
    """An index or a condition that is held between 0 and the last case, as `switch` does."""
    core = None if index.core is None else cores[index.core]
    if core is None or core.name != lax.clamp_p.name or core.inputs[1].core is None:
        return index
    low, inner, high = core.inputs
    is_search = cores[core.inputs[1].core].params in ("first", "last")
    decides = is_search or cores[core.inputs[1].core].name in _DECISIONS
    around = (low.core, low.shift, high.core) == (None, 0, None) and high.shift >= number - 1
    return replace(inner, axes=after(inner.axes, index.axes)) if decides and around else index


def plain(cores: Sequence[Core], condition: Form, no: Form, yes: Form) -> tuple[Form, Form]:
    """The cases of a choice, without choices inside that are decided by then."""
    return _inside(cores, condition, False, no), _inside(cores, condition, True, yes)


def _inside(cores: Sequence[Core], condition: Form, holds: bool, case: Form) -> Form:
    while case.core is not None and cores[case.core].name == _SELECT:
        core = cores[case.core]
        if len(core.inputs) != 3:
            break
        inner, *cases = (replace(f, axes=after(f.axes, case.axes)) for f in core.inputs)
        chosen = _decided(cores, condition, holds, inner, cases[0])
        if chosen is None:
            break
        found = cases[chosen]
        case = replace(
            found, scale=case.scale * found.scale, shift=case.scale * found.shift + case.shift
        )
    return case


def _decided(
    cores: Sequence[Core], condition: Form, holds: bool, inner: Form, otherwise: Form
) -> bool | None:
    """Whether a condition holds where another does or does not; None if that says nothing.

    Where `x > 0` does not hold, `x < 0` is taken to do so if there is nothing but 0 at 0.
    """
    if condition.core is None or inner.core is None:
        return None
    if condition.key == inner.key:
        return holds
    one, other = cores[condition.core], cores[inner.core]
    if {one.name, other.name} - {_GREATER, _AT_LEAST}:
        return None
    mine, theirs = (
        [replace(f, axes=after(f.axes, at.axes)).key for f in core.inputs]
        for at, core in ((condition, one), (inner, other))
    )
    if mine == theirs:
        follows = holds == (one.name == _GREATER)
        return holds if follows else None
    if mine != theirs[::-1]:
        return None
    if one.name != other.name:
        return not holds
    if one.name == _GREATER:
        nothing = otherwise.core is None and otherwise.shift == 0
        return False if holds else (True if nothing else None)
    return None if holds else True
