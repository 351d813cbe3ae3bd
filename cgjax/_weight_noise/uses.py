"""How often a network uses a weight: a plan before the computation, so that a warning is true.

A use is where a weight meets data, or is drawn. Parts of a weight, as `split` and slices make them,
are told apart element by element, but only where counting the parts says that it may be needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var
from jaxtyping import Array

from cgjax._cache import once
from cgjax._node import node_p
from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, Atom, Operand, bind, consts, open_jaxpr
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import (
    Examples,
    is_paired,
    of_integers,
    shape_of,
)
from cgjax._weight_noise.shared import carried, passage, passes

# Which of a weight's elements stand where: numbers, -1 for none; None where that is not known.
Elements = Callable[[], np.ndarray | None]
# A value that is known without data, computed if it is asked for.
Known = Callable[[], Operand]
_SEVERAL = 2  # turns of a loop whose number is not known


def _unknown() -> None:
    return None


@dataclass(frozen=True, eq=False)
class Piece:
    """Some elements of a weight, as a value of a program.

    Attributes:
        weight: the number of the argument.
        times: how often each element is used where the value is used once.
        rows: how many scans the value is a row of; the elements have a leading axis for each.
        elements: which elements stand where in the value.
        mixed: whether the value's elements are made of several.
    """

    weight: int
    times: int
    rows: int
    elements: Elements
    mixed: bool = False


Pieces = tuple[Piece, ...]


@dataclass(frozen=True, eq=False)
class Either:
    """Uses in branches, of which one is taken."""

    branches: tuple[list[Use], ...]


Use = Piece | Either


def used_more_than_once(
    program: Program, weights: Iterable[int], examples: Examples
) -> frozenset[int]:
    """The weights of which an element is used more than once.

    Args:
        program: the traced function.
        weights: the numbers of its flat arguments that are uncertain weights.
        examples: what data is part of.
    """
    shapes = {k: shape_of(open_jaxpr(program.jaxpr).invars[k]) for k in weights}

    def whole(weight: int) -> Pieces:
        shape = shapes[weight]
        numbers = lambda: np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)  # noqa: E731
        return (Piece(weight, 1, 0, numbers),)

    invars = open_jaxpr(program.jaxpr).invars
    arguments = [whole(k) if k in shapes else () for k in range(len(invars))]
    _, uses = _Counting(examples).run(program.jaxpr, arguments)
    return frozenset(
        k
        for k, shape in shapes.items()
        if _at_most(uses, k) > 1 and _most(uses, k, int(np.prod(shape, dtype=int))) > 1
    )


def _at_most(uses: Sequence[Use], weight: int) -> int:
    """A bound on the uses of an element, without looking which elements they are of."""
    return sum(
        max((_at_most(b, weight) for b in use.branches), default=0)
        if isinstance(use, Either)
        else use.times * (use.weight == weight)
        for use in uses
    )


def _most(uses: Sequence[Use], weight: int, size: int) -> int:
    """The uses of the element that is used most."""
    return int(_times(uses, weight, size).max(initial=0))


def _times(uses: Sequence[Use], weight: int, size: int) -> np.ndarray:
    found = np.zeros(size, int)
    for use in uses:
        if isinstance(use, Either):
            found += np.max([_times(b, weight, size) for b in use.branches], axis=0)
        elif use.weight == weight:
            elements = use.elements()
            chosen = slice(None) if elements is None else np.unique(elements[elements >= 0])
            found[chosen] += use.times
    return found


@dataclass(frozen=True)
class _Counting:
    """A pass over a program with pieces of weights for values."""

    examples: Examples

    def run(
        self, jaxpr: AnyJaxpr, arguments: Sequence[Pieces], given: Sequence[Known | None] = ()
    ) -> tuple[list[Pieces], list[Use]]:
        """The pieces that a program's results are, and its uses.

        Args:
            jaxpr: the program.
            arguments: the pieces that its arguments are.
            given: the values of its first arguments, as far as they are known.
        """
        inner = open_jaxpr(jaxpr)
        env: dict[Var, Pieces] = dict(zip(inner.invars, arguments, strict=True))
        known: dict[Var, Known] = {
            v: functools.partial(np.asarray, c)
            for v, c in zip(inner.constvars, consts(jaxpr), strict=True)
        }
        known.update((v, x) for v, x in zip(inner.invars, given, strict=False) if x is not None)
        uses: list[Use] = []

        def read(v: Atom) -> Pieces:
            return () if isinstance(v, Literal) else env.get(v, ())

        for eqn in inner.eqns:
            operands = [read(v) for v in eqn.invars]
            if any(operands):
                outs, used = self.equation(eqn, operands, known)
                env.update(zip(eqn.outvars, outs, strict=True))
                uses += used
            elif all(isinstance(v, Literal) or v in known for v in eqn.invars):
                known.update(_computed(eqn, known))
        return [read(v) for v in inner.outvars], uses

    def equation(
        self, eqn: JaxprEqn, operands: Sequence[Pieces], known: Mapping[Var, Known]
    ) -> tuple[list[Pieces], list[Use]]:
        part = control(eqn, operands)
        every: list[Use] = [p for pieces in operands for p in pieces]
        nothing: list[Pieces] = [()] * len(eqn.outvars)
        values = [_known(v, known) for v in eqn.invars]
        if isinstance(part, Scan | While):
            return self.loop(eqn, part, values)
        if isinstance(part, Cond):
            found = [self.run(branch, part.operands, values[1:]) for branch in part.branches]
            outs = [_one_of(pieces) for pieces in zip(*(outs for outs, _ in found), strict=True)]
            return outs, [Either(tuple(uses for _, uses in found))]
        if isinstance(part, Call) and (part.kind != "custom" or passes(part.body)):
            return self.run(part.body, part.operands, values)
        way = None if eqn.primitive is node_p else passage(eqn, list(map(bool, operands)))
        if way in (None, "product") or self.examples.is_data(eqn.outvars[0]):
            return nothing, every
        if is_paired(eqn):
            return list(operands), []
        return [
            tuple(
                _after(eqn, way, k, piece, out, known)
                for k, pieces in enumerate(operands)
                for piece in pieces
            )
            for out in range(len(eqn.outvars))
        ], []

    def loop(
        self, eqn: JaxprEqn, part: Scan[Pieces] | While[Pieces], values: Sequence[Known | None]
    ) -> tuple[list[Pieces], list[Use]]:
        length = part.length if isinstance(part, Scan) else _SEVERAL
        if self.examples.are_turns(eqn):
            length = 1  # each example has a turn, and noise of its own

        def at_all_turns(pieces: Pieces) -> Pieces:
            return tuple(replace(p, times=p.times * length) for p in pieces)

        changes = [changed for _, changed in carried(eqn)]
        carry = [() if c else at_all_turns(p) for p, c in zip(part.carry, changes, strict=True)]
        uses: list[Use] = [
            p for pieces, c in zip(part.carry, changes, strict=True) if c for p in pieces
        ]
        if isinstance(part, While):
            number, fixed = len(part.cond_consts), list(map(at_all_turns, part.body_consts))
            condition = [*map(at_all_turns, part.cond_consts), *carry]
            uses += self.run(part.cond, condition, values[:number])[1]
            given = values[number : number + len(fixed)]
            outs, used = self.run(part.body, [*fixed, *carry], given)
            stacked: list[Pieces] = []
        else:
            rows = [tuple(replace(p, rows=p.rows + 1) for p in pieces) for pieces in part.xs]
            fixed = list(map(at_all_turns, part.consts))
            outs, used = self.run(part.body, [*fixed, *carry, *rows], values[: len(fixed)])
            stacked = [_one_of([pieces]) for pieces in part.split(outs)[1]]
        kept = [() if c else p for p, c in zip(part.carry, changes, strict=True)]
        return [*kept, *stacked], [*uses, *used]


def _one_of(branches: Iterable[Pieces]) -> Pieces:
    """What a value may be, of several: some elements of each weight, not known which."""
    times: dict[int, int] = {}
    for pieces in branches:
        for weight in {p.weight for p in pieces}:
            here = sum(p.times for p in pieces if p.weight == weight)
            times[weight] = max(times.get(weight, 0), here)
    return tuple(Piece(weight, n, 0, _unknown, mixed=True) for weight, n in times.items())


def _computed(eqn: JaxprEqn, known: Mapping[Var, Known]) -> dict[Var, Known]:
    """Values that are known without data, computed if they are asked for."""

    @once
    def outs() -> list[Value]:
        with jax.ensure_compile_time_eval():
            return bind(eqn, [_value(v, known) for v in eqn.invars])

    return {v: lambda k=k: outs()[k] for k, v in enumerate(eqn.outvars)}


def _known(variable: Atom, known: Mapping[Var, Known]) -> Known | None:
    if isinstance(variable, Literal):
        return lambda: variable.val
    return known.get(variable)


def _value(variable: Atom, known: Mapping[Var, Known]) -> Operand:
    return variable.val if isinstance(variable, Literal) else known[variable]()


def _after(
    eqn: JaxprEqn, way: str, operand: int, piece: Piece, out: int, known: Mapping[Var, Known]
) -> Piece:
    """A piece after an operation that noise passes through."""
    shape = shape_of(eqn.outvars[out])
    if piece.mixed or facts(eqn).converts:
        return piece
    if way in ("sum", "scaled") and shape_of(eqn.invars[operand]) == shape:
        return piece
    if way != "moved":
        return replace(piece, mixed=True)

    @once
    def elements() -> np.ndarray | None:
        before = piece.elements()
        if before is None:
            return None
        try:
            with jax.ensure_compile_time_eval():
                return np.asarray(_moved(eqn, operand, piece.rows, before, known)[out])
        except (KeyError, jax.errors.TracerArrayConversionError):
            return None  # where the elements go is known when the program runs

    return replace(piece, elements=elements)


def _moved(
    eqn: JaxprEqn, operand: int, rows: int, elements: np.ndarray, known: Mapping[Var, Known]
) -> list[Value]:
    """Elements after a movement; what comes from elsewhere is no element."""
    number = len(eqn.invars)

    def move(elements: Array) -> list[Value]:
        values = [
            elements
            if k == operand
            else jnp.full(shape_of(v), -1, np.int32)
            if facts(eqn).is_data(k, number)
            else _value(v, known)
            for k, v in enumerate(eqn.invars)
        ]
        return bind(of_integers(eqn), values)

    for _ in range(rows):
        move = jax.vmap(move)
    return move(jnp.asarray(elements))
