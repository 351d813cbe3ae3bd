"""A program as one flat list of operations on values, whatever functions it is nested in.

Calls (jit, custom derivatives, remat) disappear: what goes in and comes out is the same value under
another name. Loops and branches keep pseudo-operations where values enter and leave them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from cgjax import _static
from cgjax._program.control import Call, Cond, Control, Scan, While, control
from cgjax._program.jaxprs import (
    AnyJaxpr,
    Aval,
    Operand,
    Params,
    consts,
    open_jaxpr,
    source,
    split_source,
    sub_jaxprs,
)
from cgjax._program.primitives import CASES, FIRST, Facts, facts

# Pseudo-operations: a carried value (its start, its next value), one step's part of an array, the
# array of all steps' values, the carried value after the loop, and the result of a branch. The last
# two have a decision among their operands: whether the loop goes on, and which branch is taken.
CARRY, STEP, STACK, LAST, MERGE = "<carry>", "<step>", "<stack>", "<last>", "<merge>"
_PSEUDO = {
    CARRY: Facts(moves=True),
    **dict.fromkeys((STEP, STACK, LAST), Facts(data=FIRST, moves=True)),
    MERGE: Facts(data=CASES, moves=True, mixes=True),
}

_JAX = str(Path(jax.__file__).parent)


@dataclass(eq=False)
class Scope:
    """One use of a jaxpr inside the program.

    Attributes:
        jaxpr: the jaxpr.
        parent: the scope that the using equation lies in.
        position: the position of that equation there.
        child: which of the equation's functions this is.
        kind: "top", "call" (jit), "custom", "remat", "component" or "body" (of a loop or branch).
        name: the function's name, where JAX keeps it.
        variables: for every value that has a variable here, the one that is defined first.
        children: the scopes inside, by position and by number among the equation's functions.
    """

    jaxpr: AnyJaxpr
    parent: Scope | None
    position: int
    child: int
    kind: str
    name: str
    variables: dict[int, Var] = field(default_factory=dict)
    children: dict[tuple[int, int], Scope] = field(default_factory=dict)

    @property
    def library(self) -> str:
        """The function's name where JAX defines it; empty for functions of others."""
        debug = open_jaxpr(self.jaxpr).debug_info
        path = debug.func_filename or ""
        return str(debug.func_name) if path.startswith(_JAX) else ""

    @property
    def path(self) -> tuple[int, ...]:
        """The way here from the top, which sorts as the walk goes."""
        if self.parent is None:
            return ()
        return (*self.parent.path, self.position, self.child)


@dataclass(eq=False)
class Operation:
    """One operation, which has a result; inputs and outputs are numbers of values."""

    name: str
    params: Params
    inputs: list[int]
    outputs: list[int]
    scope: Scope
    position: int
    eqn: JaxprEqn

    @functools.cached_property
    def facts(self) -> Facts:
        """What is known about the operation."""
        return _PSEUDO.get(self.name) or facts(self.eqn)

    @property
    def source(self) -> str:
        """The line of the user's code, of the call where the operation itself has none."""
        line, scope, eqn = source(self.eqn), self.scope, self.eqn
        while not line and scope.parent is not None:
            eqn = open_jaxpr(scope.parent.jaxpr).eqns[scope.position]
            line, scope = source(eqn), scope.parent
        return line

    @property
    def differentiated(self) -> bool:
        """Whether it was traced while JAX differentiated the function around it."""
        scope, eqn = self.scope, self.eqn
        while True:
            for entry in eqn.source_info.name_stack.stack:
                if type(entry).__name__ == "Transform" and entry.name in ("jvp", "transpose"):
                    return True
            if scope.parent is None:
                return False
            eqn, scope = open_jaxpr(scope.parent.jaxpr).eqns[scope.position], scope.parent

    @property
    def short_source(self) -> str:
        """ " at " and the same with the file's name alone; empty where there is none."""
        path, function = split_source(self.source)
        return f" at {Path(path).name} {function}" if path else ""


class _Equation(NamedTuple):
    """An equation, where it lies."""

    scope: Scope
    position: int
    eqn: JaxprEqn


class Flat:
    """The operations of a closed jaxpr.

    Attributes:
        operations: all that have results, in the order of evaluation; what has none, such as
            printing a value, changes nothing.
        avals: the shape and dtype of each value.
        constants: the number that all elements of a value are, where that is known.
        arguments: the values of the flat arguments.
        closed_over: the values of arrays that the program or a function in it closes over.
        results: the values of the flat results.
        producer: the operation that makes a value.
        consumers: the operations that use a value, with the position among their inputs.
        scopes: all scopes, outer ones first.
    """

    def __init__(self, jaxpr: AnyJaxpr):
        self.operations: list[Operation] = []
        self.avals: list[Aval] = []
        self.constants: dict[int, Operand] = {}
        self.closed_over: list[int] = []
        self.producer: dict[int, Operation] = {}
        self.scopes: list[Scope] = []
        self.arguments = [self._new(v.aval) for v in open_jaxpr(jaxpr).invars]
        self.top = Scope(jaxpr, None, 0, 0, "top", "")
        self.results = self._run(self.top, self.arguments)
        self.consumers: dict[int, list[tuple[Operation, int]]] = {}
        for op in self.operations:
            for k, value in enumerate(op.inputs):
                self.consumers.setdefault(value, []).append((op, k))

    def _new(self, aval: Aval) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def _constant(self, aval: Aval, array: Operand) -> int:
        value = self._new(aval)
        if not _static.is_traced(array) and np.size(array) == 1:
            if not jnp.issubdtype(aval.dtype, jax.dtypes.extended):
                self.constants[value] = np.asarray(array).reshape(())[()]
        return value

    def _emit(
        self, name: str, inputs: list[int], avals: Sequence[Aval], at: _Equation
    ) -> list[int]:
        outputs = [self._new(aval) for aval in avals]
        op = Operation(name, at.eqn.params, inputs, outputs, at.scope, at.position, at.eqn)
        self.operations.append(op)
        self.producer.update(dict.fromkeys(outputs, op))
        return outputs

    def _run(self, scope: Scope, arguments: Sequence[int]) -> list[int]:
        self.scopes.append(scope)
        inner = open_jaxpr(scope.jaxpr)
        env: dict[Var, int] = {}

        def define(var: Var, value: int) -> None:
            env[var] = value
            scope.variables.setdefault(value, var)

        for var, array in zip(inner.constvars, consts(scope.jaxpr), strict=True):
            value = self._constant(var.aval, array)
            self.closed_over.append(value)
            define(var, value)
        for var, value in zip(inner.invars, arguments, strict=True):
            define(var, value)

        def read(v: Var | Literal) -> int:
            return self._constant(v.aval, v.val) if isinstance(v, Literal) else env[v]

        for position, eqn in enumerate(inner.eqns):
            operands = [read(v) for v in eqn.invars]
            outs = self._equation(_Equation(scope, position, eqn), operands)
            for var, value in zip(eqn.outvars, outs, strict=True):
                define(var, value)
        return [read(v) for v in inner.outvars]

    def _equation(self, at: _Equation, operands: list[int]) -> list[int]:
        eqn, known = at.eqn, facts(at.eqn)
        record = control(eqn, operands)
        if record is not None:
            return self._entered(record, at)
        if not eqn.outvars:
            return []
        outputs = self._emit(eqn.primitive.name, operands, [v.aval for v in eqn.outvars], at)
        if known.moves and not known.mixes:
            self._spread(operands, outputs, known)
        return outputs

    def _spread(self, operands: Sequence[int], outputs: Sequence[int], known: Facts) -> None:
        """A number that an array holds everywhere stays so where elements are only moved."""
        data = known.data.of(len(operands))
        if not known.paired and len(data) > 1:
            return
        for k, output in enumerate(outputs):
            origin = operands[k if known.paired else data[0]]
            if origin not in self.constants:
                continue
            before, after = (self.avals[v].dtype for v in (origin, output))
            if before == after or jnp.issubdtype(after, jnp.inexact):  # nothing is rounded off
                self.constants[output] = self.constants[origin]

    def _entered(self, record: Control[int], at: _Equation) -> list[int]:
        """The results of a call, a loop or a branch."""
        match record:
            case Call():
                kind = "call" if record.kind == "jit" else record.kind
                return self._enter(at, kind, record.body, record.operands, record.name)
            case Scan():
                carry = self._carried(record.carry, at)
                rows = zip(record.xs, record.row_variables, strict=True)
                steps = [self._emit(STEP, [x], [v.aval], at)[0] for x, v in rows]
                arguments = [*record.consts, *carry, *steps]
                outs = self._enter(at, "body", record.body, arguments)
                return self._left(carry, outs, at)
            case While():
                carry = self._carried(record.carry, at)
                goes_on = self._enter(at, "body", record.cond, [*record.cond_consts, *carry])
                outs = self._enter(at, "body", record.body, [*record.body_consts, *carry])
                return self._left(carry, outs, at, goes_on)
            case Cond():
                branches = [
                    self._enter(at, "body", body, record.operands) for body in record.branches
                ]
                return [
                    self._emit(MERGE, [record.index, *values], [v.aval], at)[0]
                    for v, *values in zip(at.eqn.outvars, *branches, strict=True)
                ]

    def _enter(
        self,
        at: _Equation,
        kind: str,
        body: AnyJaxpr,
        arguments: Sequence[int],
        name: str = "",
    ) -> list[int]:
        scope, position = at.scope, at.position
        child = next(i for i, s in enumerate(sub_jaxprs(at.eqn)) if s is body)
        if (position, child) in scope.children:  # the same function in two branches
            child = max(c for p, c in scope.children if p == position) + 1
        inner = Scope(body, scope, position, child, kind, name)
        scope.children[position, child] = inner
        return self._run(inner, arguments)

    def _carried(self, start: Sequence[int], at: _Equation) -> list[int]:
        return [self._emit(CARRY, [v], [self.avals[v]], at)[0] for v in start]

    def _left(
        self, carry: Sequence[int], outs: Sequence[int], at: _Equation, deciding: Sequence[int] = ()
    ) -> list[int]:
        count = len(carry)
        for value, following in zip(carry, outs[:count], strict=True):
            self.producer[value].inputs.append(following)
        avals = [v.aval for v in at.eqn.outvars]
        names = [LAST] * count + [STACK] * (len(outs) - count)
        return [
            self._emit(name, [value, *deciding], [aval], at)[0]
            for name, value, aval in zip(names, outs, avals, strict=True)
        ]

    def source_of(self, value: int, through: frozenset[str]) -> int:
        """Where a value comes from through operations that only move it."""
        while (op := self.producer.get(value)) is not None and op.name in through:
            value = op.inputs[0]
        return value


def enclosing(scope: Scope) -> Iterator[Scope]:
    """The functions that a scope lies in, up to the top."""
    at: Scope | None = scope
    while at is not None and at.kind != "top":
        yield at
        at = at.parent
