"""Where the axes of arrays go: which axis holds the examples, and along which a weight's axis runs.

The leading axis of a network's data holds the examples. From there it is followed through the
program, so that `w.T @ x.T` is seen for what `x @ w` is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Literal, Primitive, Var

from cgjax import _static
from cgjax._program.control import Call, Cond, Control, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, Atom, aval, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._walk.evaluate import Value

# Data whose axis of examples is not known, for example since it was merged with another.
LOST = -1
# Data without an axis of examples: one example, or a sum over all.
GONE = -2


def argument_names(program: Program) -> list[tuple[bool, str]]:
    """For each flat argument, whether it belongs to the function's first, and a name for it."""
    structure = program.in_structure.treedef
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    found = []
    for path, number in jax.tree_util.tree_flatten_with_path(numbered)[0]:
        if _is_hole(program, number):
            first = path[:2] == (jax.tree_util.SequenceKey(0), jax.tree_util.SequenceKey(0))
            name = jax.tree_util.keystr(path[2:]) if first else jax.tree_util.keystr(path[1:])
            found.append((first, name or "the first argument"))
    return found


def _is_hole(program: Program, leaf: int) -> bool:
    return _static.is_hole(program.in_structure.leaves[leaf])


def shape_of(variable: Atom) -> tuple[int, ...]:
    """The shape of a variable or a literal."""
    return tuple(aval(variable).shape)


def dtype_of(variable: Atom) -> np.dtype:
    """The dtype of a variable or a literal."""
    return aval(variable).dtype


# -- one operation


def is_paired(eqn: JaxprEqn) -> bool:
    """Whether each result is made of the operand at its place alone."""
    return facts(eqn).paired and len(eqn.invars) == len(eqn.outvars)


def axis_after(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    """The axis of the results that an axis of an operand becomes; None where it is no axis there.

    Of a movement of data, of a sum, of a product, or of any function that keeps the rank.
    """
    rule = _AXES.get(eqn.primitive)
    if rule is not None:
        return rule(eqn, operand, axis)
    known, rank = facts(eqn), len(shape_of(eqn.invars[operand]))
    if known.reduces is not None and not (known.running or known.windowed):
        gone = eqn.params.get("axes", range(rank))
        return None if axis in gone else axis - sum(a < axis for a in gone)
    return axis if len(shape_of(eqn.outvars[0])) == rank else None


def keeps_order(eqn: JaxprEqn) -> bool:
    """Whether what lies along an axis that is kept is the same, in the same order."""
    return eqn.primitive in _KEEP or not facts(eqn).moves or facts(eqn).converts


def of_integers(eqn: JaxprEqn) -> JaxprEqn:
    """A movement of numbers, for numbers that are integers: what is filled in has their type."""
    if eqn.params.get("fill_value") is None:
        return eqn
    return eqn.replace(params={**eqn.params, "fill_value": -1})


def _reshape(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    old, new = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    before = math.prod(old[:axis])
    fits = [b for b, n in enumerate(new) if n == old[axis] and math.prod(new[:b]) == before]
    # Of several axes of size 1 one is as good as another.
    return fits[0] if fits and (eqn.params.get("dimensions") is None) else None


def _squeeze(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    gone = [d % len(shape_of(eqn.invars[0])) for d in eqn.params["dimensions"]]
    return None if axis in gone else axis - sum(d < axis for d in gone)


def _gather(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    offset = numbers.offset_dims
    if operand == 1:
        batch = [d for d in range(len(shape_of(eqn.outvars[0]))) if d not in offset]
        return batch[axis] if axis < len(batch) else None
    shape = shape_of(eqn.invars[0])
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    if axis in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(axis)
        return _gather(eqn, 1, numbers.start_indices_batching_dims[place])
    kept = [d for d in range(len(shape)) if d not in dropped]
    whole = axis in kept and sizes[axis] == shape[axis]
    return offset[kept.index(axis)] if whole else None


def _scatter(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    if operand == 0:
        return axis
    numbers = eqn.params["dimension_numbers"]
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape_of(eqn.invars[0]))) if d not in dropped]
    windows = numbers.update_window_dims
    return kept[windows.index(axis)] if operand == 2 and axis in windows else None


def _dot(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    contract, batch = eqn.params["dimension_numbers"]
    if axis in contract[operand]:
        return None
    if axis in batch[operand]:
        return batch[operand].index(axis)
    free = [
        [a for a in range(len(shape_of(v))) if a not in contract[k] and a not in batch[k]]
        for k, v in enumerate(eqn.invars)
    ]
    first = len(batch[0]) + (len(free[0]) if operand else 0)
    return first + free[operand].index(axis)


def _convolution(eqn: JaxprEqn, operand: int, axis: int) -> int | None:
    numbers = eqn.params["dimension_numbers"]
    spec = numbers.rhs_spec if operand else numbers.lhs_spec
    if axis == spec[0]:
        return numbers.out_spec[1 if operand else 0]
    return None


_AXES: dict[Primitive, Callable[[JaxprEqn, int, int], int | None]] = {
    lax.transpose_p: lambda eqn, _, axis: eqn.params["permutation"].index(axis),
    lax.broadcast_in_dim_p: lambda eqn, k, axis: (
        None if k else eqn.params["broadcast_dimensions"][axis]
    ),
    lax.reshape_p: _reshape,
    lax.squeeze_p: _squeeze,
    lax.gather_p: _gather,
    lax.scatter_p: _scatter,
    lax.scatter_add_p: _scatter,
    lax.scatter_sub_p: _scatter,
    lax.dot_general_p: _dot,
    lax.conv_general_dilated_p: _convolution,
}
_KEEP = (lax.transpose_p, lax.broadcast_in_dim_p, lax.reshape_p, lax.squeeze_p, lax.select_n_p)


# -- a program


@dataclass(frozen=True)
class Examples:
    """What data is part of, and where its axis of examples is.

    Attributes:
        axes: for each variable that depends on data the axis of the examples, `LOST` or `GONE`.
    """

    axes: Mapping[Var, int]

    def is_data(self, variable: Atom) -> bool:
        """Whether a variable depends on data."""
        return not isinstance(variable, Literal) and variable in self.axes

    def axis(self, variable: Atom) -> int | None:
        """The axis of the examples, if there is one; the first, where it was lost on the way."""
        known = GONE if isinstance(variable, Literal) else self.axes.get(variable, GONE)
        rank = len(shape_of(variable))
        return None if known == GONE or not rank else max(known, 0)

    def are_turns(self, eqn: JaxprEqn | None) -> bool:
        """Whether an equation is a loop over the examples, one at a turn."""
        part = None if eqn is None else control(eqn, eqn.invars)
        return isinstance(part, Scan) and any(self.axis(v) == 0 for v in part.xs)


def examples_of(program: Program) -> Examples:
    """Follows the data: all arguments of the network but the first, which holds its weights."""
    inner = open_jaxpr(program.jaxpr)
    first = [is_first for is_first, _ in argument_names(program)]
    start = {
        v: 0 if shape_of(v) else GONE
        for v, is_first in zip(inner.invars, first, strict=True)
        if not is_first
    }
    while True:  # until nothing is new: around loops, and into functions that are called twice
        follow = _Follow(dict(start))
        follow.jaxpr(program.jaxpr)
        if follow.axes == start:
            return Examples(start)
        start = follow.axes


@dataclass
class _Follow:
    """One pass over a program."""

    axes: dict[Var, int] = field(default_factory=dict)

    def of(self, variable: Atom) -> int | None:
        return None if isinstance(variable, Literal) else self.axes.get(variable)

    def join(self, variable: Atom, axis: int | None) -> None:
        """What is known about a variable on one more way."""
        if axis is not None and not isinstance(variable, Literal):
            known = self.axes.get(variable, GONE)
            if GONE in (known, axis):
                self.axes[variable] = max(known, axis)
            else:
                self.axes[variable] = axis if known == axis else LOST

    def joined(self, variables: Sequence[Atom], others: Sequence[Atom], shift: int = 0) -> None:
        for variable, other in zip(variables, others, strict=True):
            axis = self.of(other)
            if axis is not None and axis >= 0 and shift:
                axis = axis + shift if axis + shift >= 0 else GONE
            self.join(variable, axis)

    def jaxpr(self, jaxpr: AnyJaxpr) -> None:
        for eqn in open_jaxpr(jaxpr).eqns:
            part = control(eqn, eqn.invars)
            if part is not None:
                self.enter(eqn, part)
                continue
            if is_paired(eqn):
                self.joined(eqn.outvars, eqn.invars)
                continue
            axis = self.result(eqn)
            for v in eqn.outvars:
                fits = axis is None or axis < len(shape_of(v))
                self.join(v, axis if fits else LOST)

    def result(self, eqn: JaxprEqn) -> int | None:
        """The axis of the examples in an operation's results; None if no data is part of them."""
        found = [(k, self.of(v)) for k, v in enumerate(eqn.invars)]
        data = [(k, axis) for k, axis in found if axis is not None]
        after = [axis_after(eqn, k, axis) for k, axis in data if axis >= 0]
        known = [axis for axis in after if axis is not None]
        if not data:
            return None
        gone = facts(eqn).contracts or facts(eqn).reduces or all(a == GONE for _, a in data)
        return known[0] if known else GONE if gone else LOST

    def enter(self, eqn: JaxprEqn, part: Control[Atom]) -> None:
        if isinstance(part, Cond):
            if self.of(part.index) is not None:
                for v in eqn.outvars:
                    self.axes.setdefault(v, GONE)
            for branch in part.branches:
                self.call(branch, part.operands, eqn.outvars)
        elif isinstance(part, Call):
            self.call(part.body, part.operands, eqn.outvars)
        elif isinstance(part, While):
            self.call(part.cond, [*part.cond_consts, *part.carry], None)
            self.call(part.body, [*part.body_consts, *part.carry], eqn.outvars)
            self.joined(open_jaxpr(part.body).invars[len(part.body_consts) :], eqn.outvars)
            self.joined(open_jaxpr(part.cond).invars[len(part.cond_consts) :], eqn.outvars)
            self.joined(eqn.outvars, part.carry)
        elif isinstance(part, Scan):
            self.scan(eqn, part)

    def call(
        self, jaxpr: AnyJaxpr, operands: Sequence[Value], outs: Sequence[Value] | None
    ) -> None:
        inner = open_jaxpr(jaxpr)
        self.joined(inner.invars, operands)
        self.jaxpr(jaxpr)
        if outs is not None:
            self.joined(outs, inner.outvars)

    def scan(self, eqn: JaxprEqn, part: Scan[Atom]) -> None:
        inner = open_jaxpr(part.body)
        rows, fixed = part.row_variables, len(part.consts)
        self.joined(inner.invars[: len(inner.invars) - len(rows)], [*part.consts, *part.carry])
        self.joined(rows, part.xs, -1)
        self.jaxpr(part.body)
        (carry, ys), (carried, stacked) = part.split(inner.outvars), part.split(eqn.outvars)
        self.joined(carried, carry)
        self.joined(stacked, ys, 1)
        if any(self.of(v) == 0 for v in part.xs):  # a loop over the examples
            for v in stacked:
                if self.of(v) == GONE:
                    self.join(v, 0)
        self.joined(inner.invars[fixed : fixed + len(carry)], carry)


def used_again(program: Program) -> frozenset[Var]:
    """The variables that a program uses more than once."""
    found: set[Var] = set()

    def visit(jaxpr: AnyJaxpr) -> None:
        inner = open_jaxpr(jaxpr)
        seen: set[Var] = set()
        for v in [*(v for eqn in inner.eqns for v in eqn.invars), *inner.outvars]:
            if not isinstance(v, Literal):
                (found if v in seen else seen).add(v)
        for eqn in inner.eqns:
            for sub in sub_jaxprs(eqn):
                visit(sub)

    visit(program.jaxpr)
    return frozenset(found)
