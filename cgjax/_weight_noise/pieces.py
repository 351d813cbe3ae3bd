"""Parts of weights as values of a program: which elements they are, and how often they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var
from jaxtyping import Array

from cgjax._cache import once
from cgjax._program.jaxprs import Atom, Operand, bind
from cgjax._program.primitives import facts
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import dtype_of, of_integers, shape_of

# Which of a weight's elements stand where: numbers, -1 for none; None where that is not known.
Elements = Callable[[], np.ndarray | None]
# A value that is known without data, computed if it is asked for.
Known = Callable[[], Operand]


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


def at_most(uses: Sequence[Use], weight: int) -> int:
    """A bound on the uses of an element, without looking which elements they are of."""
    return sum(
        max((at_most(b, weight) for b in use.branches), default=0)
        if isinstance(use, Either)
        else use.times * (use.weight == weight)
        for use in uses
    )


def most(uses: Sequence[Use], weight: int, size: int) -> int:
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


def one_of(branches: Iterable[Pieces]) -> Pieces:
    """What a value may be, of several: some elements of each weight, not known which."""
    times: dict[int, int] = {}
    for pieces in branches:
        for weight in {p.weight for p in pieces}:
            here = sum(p.times for p in pieces if p.weight == weight)
            times[weight] = max(times.get(weight, 0), here)
    return tuple(Piece(weight, n, 0, _unknown, mixed=True) for weight, n in times.items())


def row_of(piece: Piece, row: int) -> Piece:
    """A piece of an array of which each turn of a loop sees a row, in one turn."""

    def elements() -> np.ndarray | None:
        every = piece.elements()
        return None if every is None else np.take(every, row, axis=piece.rows)

    return replace(piece, elements=elements)


# -- what is known without data, and where elements go


def computed(eqn: JaxprEqn, known: Mapping[Var, Known]) -> dict[Var, Known]:
    """Values that are known without data, computed if they are asked for."""

    @once
    def outs() -> list[Value]:
        with jax.ensure_compile_time_eval():
            return bind(eqn, [_value(v, known) for v in eqn.invars])

    return {v: lambda k=k: outs()[k] for k, v in enumerate(eqn.outvars)}


def known_value(variable: Atom, known: Mapping[Var, Known]) -> Known | None:
    """What a variable or a number is, if that is known without data."""
    if isinstance(variable, Literal):
        return lambda: variable.val
    return known.get(variable)


def _value(variable: Atom, known: Mapping[Var, Known]) -> Operand:
    return variable.val if isinstance(variable, Literal) else known[variable]()


def after(
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


def counted(known: Known | None, variable: Var) -> Known | None:
    """What a loop counts, as a number, so that the next turn need not ask this one; else None."""
    if known is None or not is_number(variable):
        return None
    try:
        value = np.asarray(known())
    except (KeyError, jax.errors.TracerArrayConversionError):
        return None  # it is known when the program runs
    return lambda: value


def is_number(variable: Var) -> bool:
    """Whether a variable is one whole number, as what a loop counts."""
    return not shape_of(variable) and jnp.issubdtype(dtype_of(variable), jnp.integer)


def known_row(known: Known | None, row: int, variable: Var) -> Known | None:
    """What a loop counts, if the numbers of all turns are known; else None."""
    if known is None or not is_number(variable):
        return None
    return lambda: np.asarray(known())[row]
