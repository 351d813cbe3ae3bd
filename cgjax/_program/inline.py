"""A program without calls: what jitted and rematerialised functions do, in place of their calls."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var, gensym

from cgjax import _static
from cgjax._program.control import Call, Cond, control
from cgjax._program.jaxprs import (
    AnyJaxpr,
    Atom,
    Closed,
    Operand,
    bind,
    consts,
    open_jaxpr,
    sub_jaxprs,
    with_constants,
)
from cgjax._program.primitives import facts


class _Inliner:
    """The equations of a jaxpr, those of calls among them, with variables of their own.

    Args:
        counts: for every jaxpr inside, by identity, how many nodes it holds.
    """

    def __init__(self, counts: dict[int, int]):
        self.counts = counts
        self.new_variable = gensym()
        self.constvars: list[Var] = []
        self.consts: list[Operand] = []
        self.eqns: list[JaxprEqn] = []
        self.maker: dict[Var, JaxprEqn] = {}
        self.array: dict[Var, Operand] = {}

    def run(self, jaxpr: AnyJaxpr, operands: Sequence[Atom]) -> list[Atom]:
        inner = open_jaxpr(jaxpr)
        env: dict[Var, Atom] = dict(zip(inner.invars, operands, strict=True))
        for v, array in zip(inner.constvars, consts(jaxpr), strict=True):
            env[v] = new = self.new_variable(v.aval)
            self.array[new] = array
            self.constvars.append(new)
            self.consts.append(array)

        def read(v: Atom) -> Atom:
            return v if isinstance(v, Literal) else env[v]

        for eqn in inner.eqns:
            inside = list(map(read, eqn.invars))
            opened = self.opened(eqn, inside)
            if opened is not None:
                outs = self.run(*opened)
            else:
                outs = [self.new_variable(v.aval) for v in eqn.outvars]
                self.eqns.append(eqn.replace(invars=inside, outvars=outs))
                self.maker.update(dict.fromkeys(outs, self.eqns[-1]))
            env.update(zip(eqn.outvars, outs, strict=True))
        return list(map(read, inner.outvars))

    def opened(self, eqn: JaxprEqn, operands: list[Atom]) -> tuple[AnyJaxpr, list[Atom]] | None:
        """The function that an equation calls, and its arguments, if it can be opened."""
        match control(eqn, operands):
            case Call(kind="jit" | "remat") as call:
                return call.body, call.operands
            case Cond() as cond if not any(map(self.holds_nodes, sub_jaxprs(eqn))):
                index = self.known(cond.index)
                if index is not None:
                    chosen = min(max(int(index), 0), len(cond.branches) - 1)
                    return cond.branches[chosen], cond.operands
        return None

    def holds_nodes(self, jaxpr: AnyJaxpr) -> bool:
        return self.counts[id(open_jaxpr(jaxpr))] > 0

    def known(self, atom: Atom) -> Operand | None:
        """The value of what is computed from constants alone, or None."""
        if isinstance(atom, Literal):
            return atom.val
        if atom in self.array:
            array = self.array[atom]
            return None if _static.is_traced(array) else array
        eqn = self.maker.get(atom)
        if eqn is None or sub_jaxprs(eqn):
            return None
        about = facts(eqn)
        if about.opaque or about.random:
            return None
        operands = list(map(self.known, eqn.invars))
        if any(x is None for x in operands):
            return None
        with jax.ensure_compile_time_eval():
            return np.asarray(bind(eqn, operands)[eqn.outvars.index(atom)])


def inlined(jaxpr: AnyJaxpr, counts: dict[int, int]) -> Closed:
    """A jaxpr with the bodies of its calls in their places.

    Jitted and rematerialised functions are opened, and branches without nodes where it is known
    which is taken; functions with a derivative of their own are not. Nodes keep their order.

    Args:
        jaxpr: the jaxpr.
        counts: for every jaxpr inside, by identity, how many nodes it holds.
    """
    top = open_jaxpr(jaxpr)
    inliner = _Inliner(counts)
    outvars = inliner.run(jaxpr, top.invars)
    inner = top.replace(outvars=outvars, eqns=inliner.eqns)
    return with_constants(inner, inliner.constvars, inliner.consts)
