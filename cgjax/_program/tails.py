"""The last steps to a natural parameter that are functions of one element each.

Nodes often end alike, in a logarithm and what is done where that is infinite, after steps that
differ. To compute the ends of many nodes together, they are told apart here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Var

from cgjax._program.jaxprs import Atom, Literal, Operand, aval, bind, dtype
from cgjax._program.primitives import facts

# Longer ones are cut.
_MOST_STEPS = 32


class Tail(NamedTuple):
    """Functions of one element each, from a value of the same shape and dtype.

    Attributes:
        source: this value.
        result: what comes out.
        steps: the equations, in order.
        constants: the numbers that variables are known to be in all places.
    """

    source: Var
    result: Atom
    steps: tuple[JaxprEqn, ...]
    constants: Mapping[Var, Operand]

    @property
    def form(self) -> Hashable:
        """What is the same of tails that are one function."""
        numbers: dict[Atom, int] = {self.source: 0}

        def known(v: Atom) -> Hashable:
            if isinstance(v, Literal) or v in self.constants:
                number = v.val if isinstance(v, Literal) else self.constants[v]
                return "constant", str(number), str(dtype(v))
            return numbers.setdefault(v, len(numbers))

        return tuple(
            (
                eqn.primitive,
                tuple(sorted((k, str(p)) for k, p in eqn.params.items())),
                tuple(map(known, eqn.invars)),
                tuple(map(known, eqn.outvars)),
            )
            for eqn in self.steps
        )

    def __call__(self, source: jax.Array) -> jax.Array:
        """The result at one value of the source."""
        env: dict[Atom, Operand] = {self.source: source}

        def read(v: Atom) -> Operand:
            if isinstance(v, Literal):
                return v.val
            if v in self.constants:
                return jnp.full(aval(v).shape, self.constants[v], dtype(v))
            return env[v]

        for eqn in self.steps:
            with eqn.ctx.manager:
                env.update(zip(eqn.outvars, bind(eqn, list(map(read, eqn.invars))), strict=True))
        return env[self.result]


def tail(result: Atom, maker: Mapping[Var, int], eqns: Sequence[JaxprEqn]) -> Tail | None:
    """The longest tail that ends in a value; None if there is none.

    Args:
        result: the value.
        maker: the number of the equation that makes a variable.
        eqns: the equations.
    """
    if isinstance(result, Literal):
        return None
    shape, kind = aval(result).shape, dtype(result)
    steps: list[JaxprEqn] = []
    constants: dict[Var, Operand] = {}
    pending, found = {result}, None
    while pending and len(steps) < _MOST_STEPS:
        if len(pending) == 1 and steps:
            [source] = pending
            if dtype(source) == kind:
                found = Tail(source, result, tuple(steps), constants)
        # What is made last: whatever reads it is among the steps already.
        v = max(pending, key=lambda v: maker.get(v, -1))
        eqn = eqns[maker[v]] if v in maker else None
        if eqn is None or not facts(eqn).elementwise or len(eqn.outvars) > 1:
            break
        operands: list[Var] = []
        for x in eqn.invars:
            if isinstance(x, Literal):
                continue
            if (number := _filled(x, maker, eqns)) is not None:
                constants[x] = number
            elif aval(x).shape == shape:
                operands.append(x)
            else:
                return found
        pending.remove(v)
        pending.update(operands)
        steps.insert(0, eqn)
    return found


def _filled(v: Var, maker: Mapping[Var, int], eqns: Sequence[JaxprEqn]) -> Operand:
    """The number that a variable is in all places; None if that is not known."""
    eqn = eqns[maker[v]] if v in maker else None
    if eqn is None or len(eqn.invars) > 1 or not facts(eqn).moves or facts(eqn).mixes:
        return None
    [x] = eqn.invars
    return x.val if isinstance(x, Literal) and aval(x).shape == () else None
