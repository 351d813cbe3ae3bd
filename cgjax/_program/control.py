"""Loops, branches and calls as records: the only reader of their equations' parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jax.extend.core import JaxprEqn, Var

from cgjax._program.jaxprs import AnyJaxpr, call_jaxpr, open_jaxpr, scan_counts, sub_jaxprs
from cgjax._program.primitives import facts

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A function that is called as it stands.

    Attributes:
        kind: "jit", "custom" (it has a derivative of its own), "remat" or "component".
        name: the function's name.
        body: the function.
        operands: its arguments.
    """

    kind: str
    name: str
    body: AnyJaxpr
    operands: list[T]


@dataclass(frozen=True)
class Remat(Call[T]):
    """A function whose inner values are computed again for its derivative.

    Attributes:
        prevent_cse: whether the compiler is kept from undoing that.
        policy: which inner values are kept all the same.
    """

    prevent_cse: bool
    policy: Callable[..., bool] | None


@dataclass(frozen=True)
class Component(Call[T]):
    """A fused component.

    Attributes:
        implementations: what computes it under a procedure, by the procedure's name.
        mapped: whether it was mapped inside the network, so that its reference has a further axis.
    """

    implementations: Mapping[str, Callable[..., object]]
    mapped: bool


@dataclass(frozen=True)
class Scan(Generic[T]):
    """A loop of known length.

    Attributes:
        body: `body(*consts, *carry, *x) -> (*carry, *y)`.
        consts: what every step sees.
        carry: what the first step is given of the one before.
        xs: arrays of which every step sees its row.
        length: the number of steps.
        reverse: whether the last row comes first.
        unroll: how many steps are compiled as one.
    """

    body: AnyJaxpr
    consts: list[T]
    carry: list[T]
    xs: list[T]
    length: int
    reverse: bool
    unroll: int

    def split(self, outs: Sequence[T]) -> tuple[list[T], list[T]]:
        """The carry and the rows of y among the body's or the equation's results."""
        return list(outs[: len(self.carry)]), list(outs[len(self.carry) :])

    @property
    def row_variables(self) -> list[Var]:
        """The body's variables for the rows of `xs`."""
        return list(open_jaxpr(self.body).invars[len(self.consts) + len(self.carry) :])


@dataclass(frozen=True)
class While(Generic[T]):
    """A loop of unknown length.

    Attributes:
        cond: `cond(*cond_consts, *carry) -> (whether to go on,)`.
        body: `body(*body_consts, *carry) -> carry`.
        cond_consts, body_consts: what every turn sees.
        carry: what the first turn is given.
        parts: both functions, in the order in which nodes inside are numbered.
    """

    cond: AnyJaxpr
    body: AnyJaxpr
    cond_consts: list[T]
    body_consts: list[T]
    carry: list[T]
    parts: tuple[AnyJaxpr, AnyJaxpr]


@dataclass(frozen=True)
class Cond(Generic[T]):
    """A branch.

    Attributes:
        index: which branch is taken.
        branches: functions of the same operands.
        operands: their arguments.
    """

    index: T
    branches: tuple[AnyJaxpr, ...]
    operands: list[T]


Control = Call[T] | Scan[T] | While[T] | Cond[T]


def control(eqn: JaxprEqn, operands: Sequence[T]) -> Control[T] | None:
    """An equation that nodes may lie in as a record; None for all others.

    Args:
        eqn: the equation.
        operands: what stands for its operands: arrays, sets, numbers of values, ….
    """
    known, params, operands = facts(eqn), eqn.params, list(operands)
    if known.call is not None:
        call = (known.call, function_name(eqn), call_jaxpr(eqn), operands)
        if known.call == "remat":
            # It may be said argument by argument, and the arguments of a rebuilt part are others.
            prevent = bool(np.any(params["prevent_cse"]))
            return Remat(*call, prevent, params["policy"])
        if known.call == "component":
            return Component(*call, dict(params["implementations"]), params["mapped"])
        return Call(*call)
    if known.loop == "scan":
        num_consts, num_carry = scan_counts(params)
        start = num_consts + num_carry
        return Scan(
            params["jaxpr"],
            operands[:num_consts],
            operands[num_consts:start],
            operands[start:],
            params["length"],
            params["reverse"],
            params["unroll"],
        )
    if known.loop == "while":
        num_cond, start = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        first, second = sub_jaxprs(eqn)
        return While(
            params["cond_jaxpr"],
            params["body_jaxpr"],
            operands[:num_cond],
            operands[num_cond:start],
            operands[start:],
            (first, second),
        )
    if known.loop == "cond":
        return Cond(operands[0], tuple(params["branches"]), operands[1:])
    return None


def function_name(eqn: JaxprEqn) -> str:
    """The name of the function that a call holds."""
    if "name" in eqn.params:
        return str(eqn.params["name"])
    return str(open_jaxpr(call_jaxpr(eqn)).debug_info.func_name)
