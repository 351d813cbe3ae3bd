"""Parts of a program that are one function of different numbers, which are evaluated together.

A network of some hundred nodes has nodes of a few forms. A form is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._program.jaxprs import Operand, aval, open_jaxpr, same_code
from cgjax._program.parts import Part

T = TypeVar("T")


class Call(NamedTuple):
    """A part of a program at some arguments.

    Attributes:
        part: the part.
        operands: the arguments, and other arrays that go in.
        form: what else two calls have in common if they are of one form.
    """

    part: Part
    operands: Sequence[Operand]
    form: Hashable


def alike(calls: Sequence[Call]) -> list[list[int]]:
    """The numbers of calls of one form."""
    by_key: dict[Hashable, list[list[int]]] = {}
    for k, call in enumerate(calls):
        groups = by_key.setdefault((call.form, *_outline(call)), [])
        code = call.part.program.jaxpr
        for group in groups:
            if same_code(calls[group[0]].part.program.jaxpr, code):
                group.append(k)
                break
        else:
            groups.append([k])
    return [group for groups in by_key.values() for group in groups]


def _outline(call: Call) -> tuple[Hashable, ...]:
    """What is cheaply seen of a call: its operations and the shapes of what goes in."""
    inner = open_jaxpr(call.part.program.jaxpr)
    operations = tuple(eqn.primitive for eqn in inner.eqns)
    shapes = tuple((np.shape(x), jnp.result_type(x)) for x in call.operands)
    return operations, shapes, tuple(aval(v) for v in inner.outvars)


def together(
    function: Callable[..., T],
    operands: Sequence[Sequence[Operand]],
    rows: Mapping[int, jax.Array] | None = None,
) -> T:
    """A function of arrays at several operands: results with one more axis in front.

    Args:
        function: the function.
        operands: of each call.
        rows: for some operands, by their places, those of all calls as one array.
    """
    rows = rows or {}
    if len(operands) == 1:
        return jax.tree.map(lambda x: x[None], function(*operands[0]))
    columns = list(zip(*operands, strict=True))
    axes = [None if k not in rows and _one(c) else 0 for k, c in enumerate(columns)]
    if all(axis is None for axis in axes):
        found = function(*operands[0])
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (len(operands), *x.shape)), found)
    given = [
        rows[k] if k in rows else column[0] if axis is None else _stacked(column)
        for k, (column, axis) in enumerate(zip(columns, axes, strict=True))
    ]
    return jax.vmap(function, axes)(*given)


def _one(column: Sequence[Operand]) -> bool:
    """Whether operands are the same array, or known and equal."""
    first = column[0]
    if all(x is first for x in column):
        return True
    known = all(isinstance(x, np.ndarray) and x.size < 64 for x in column)
    return known and all(x.tobytes() == first.tobytes() for x in column)


def _stacked(arrays: Sequence[Any]) -> Any:
    """Arrays of one shape behind each other."""
    if all(isinstance(x, np.ndarray) for x in arrays):
        return np.stack(arrays)
    return jnp.concatenate([jnp.reshape(x, (1, *np.shape(x))) for x in arrays])
