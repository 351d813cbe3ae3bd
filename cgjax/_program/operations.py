"""A program as one flat list of operations on values, whatever functions it is nested in.

Calls (jit, custom derivatives, remat) disappear: what goes in and comes out is the same value under
another name. Loops and branches keep pseudo-operations where values enter and leave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import _static
from cgjax._program.jaxprs import (
    CUSTOM,
    JIT,
    REMAT,
    Literal,
    call_jaxpr,
    consts,
    open_jaxpr,
    scan_counts,
    source,
    split_source,
    sub_jaxprs,
)

# Pseudo-operations: a carried value (its start, its next value), one step's part of an array, the
# array of all steps' values, the carried value after the loop, and the result of a branch.
CARRY, STEP, STACK, LAST, MERGE = "<carry>", "<step>", "<stack>", "<last>", "<merge>"

# A constant keeps its value through these.
_SPREADING = frozenset("broadcast_in_dim convert_element_type reshape squeeze copy".split())


@dataclass(eq=False)
class Scope:
    """One use of a jaxpr inside the program.

    Attributes:
        jaxpr: the jaxpr.
        parent: the scope that the using equation lies in.
        position: the position of that equation there.
        child: which of the equation's functions this is.
        kind: "top", "call" (jit), "custom", "remat" or "body" (of a loop or branch).
        name: the function's name, where JAX keeps it.
        variables: for every value that has a variable here, the one that is defined first.
        children: the scopes inside, by position and by number among the equation's functions.
    """

    jaxpr: Any
    parent: Scope | None
    position: int
    child: int
    kind: str
    name: str
    variables: dict[int, Any] = field(default_factory=dict)
    children: dict[tuple[int, int], Scope] = field(default_factory=dict)

    @property
    def path(self) -> tuple[int, ...]:
        """The way here from the top, which sorts as the walk goes."""
        if self.parent is None:
            return ()
        return (*self.parent.path, self.position, self.child)


@dataclass(eq=False)
class Operation:
    """One operation; inputs and outputs are numbers of values."""

    name: str
    params: dict[str, Any]
    inputs: list[int]
    outputs: list[int]
    scope: Scope
    position: int
    eqn: Any

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


class Flat:
    """The operations of a closed jaxpr.

    Attributes:
        operations: all of them, in the order of evaluation.
        avals: the shape and dtype of each value.
        constants: the number that a value holds everywhere, where that is known.
        arguments: the values of the flat arguments.
        closed_over: the values of arrays that the program or a function in it closes over.
        results: the values of the flat results.
        producer: the operation that makes a value.
        consumers: the operations that use a value, with the position among their inputs.
        scopes: all scopes, outer ones first.
    """

    def __init__(self, jaxpr: Any):
        self.operations: list[Operation] = []
        self.avals: list[Any] = []
        self.constants: dict[int, Any] = {}
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

    def _new(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def _constant(self, aval: Any, array: Any) -> int:
        value = self._new(aval)
        if not _static.is_traced(array) and np.size(array) == 1:
            if not jnp.issubdtype(aval.dtype, jax.dtypes.extended):
                self.constants[value] = np.asarray(array).reshape(())[()]
        return value

    def _emit(self, name: str, inputs: list[int], avals: Sequence[Any], at: Any) -> list[int]:
        scope, position, eqn = at
        outputs = [self._new(aval) for aval in avals]
        op = Operation(name, eqn.params, inputs, outputs, scope, position, eqn)
        self.operations.append(op)
        self.producer.update(dict.fromkeys(outputs, op))
        if name in _SPREADING and inputs[0] in self.constants:
            self.constants[outputs[0]] = self.constants[inputs[0]]
        return outputs

    def _run(self, scope: Scope, arguments: Sequence[int]) -> list[int]:
        self.scopes.append(scope)
        inner = open_jaxpr(scope.jaxpr)
        env: dict[Any, int] = {}

        def define(var: Any, value: int) -> None:
            env[var] = value
            scope.variables.setdefault(value, var)

        for var, array in zip(inner.constvars, consts(scope.jaxpr), strict=True):
            value = self._constant(var.aval, array)
            self.closed_over.append(value)
            define(var, value)
        for var, value in zip(inner.invars, arguments, strict=True):
            define(var, value)

        def read(v: Any) -> int:
            return self._constant(v.aval, v.val) if isinstance(v, Literal) else env[v]

        for position, eqn in enumerate(inner.eqns):
            operands = [read(v) for v in eqn.invars]
            outs = self._equation(scope, position, eqn, operands)
            for var, value in zip(eqn.outvars, outs, strict=True):
                define(var, value)
        return [read(v) for v in inner.outvars]

    def _enter(
        self, scope: Scope, position: int, eqn: Any, kind: str, sub: Any, arguments: Sequence[int]
    ) -> list[int]:
        child = next(i for i, s in enumerate(sub_jaxprs(eqn)) if s is sub)
        if (position, child) in scope.children:  # the same function in two branches
            child = max(c for p, c in scope.children if p == position) + 1
        inner = Scope(sub, scope, position, child, kind, str(eqn.params.get("name", "")))
        scope.children[position, child] = inner
        return self._run(inner, arguments)

    def _equation(self, scope: Scope, position: int, eqn: Any, operands: list[int]) -> list[int]:
        name, params, at = eqn.primitive.name, eqn.params, (scope, position, eqn)
        if name in JIT or name in CUSTOM or name in REMAT:
            kind = "call" if name in JIT else "custom" if name in CUSTOM else "remat"
            return self._enter(scope, position, eqn, kind, call_jaxpr(eqn), operands)
        if name == "scan":
            num_consts, num_carry = scan_counts(params)
            inner = open_jaxpr(params["jaxpr"])
            fixed, rest = operands[:num_consts], operands[num_consts:]
            carry = self._carried(rest[:num_carry], at)
            steps = [
                self._emit(STEP, [x], [v.aval], at)[0]
                for x, v in zip(
                    rest[num_carry:], inner.invars[num_consts + num_carry :], strict=True
                )
            ]
            arguments = [*fixed, *carry, *steps]
            outs = self._enter(scope, position, eqn, "body", params["jaxpr"], arguments)
            return self._left(carry, outs, num_carry, at)
        if name == "while":
            num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
            carry = self._carried(operands[num_cond + num_body :], at)
            body = operands[num_cond : num_cond + num_body]
            for part, fixed in (("cond_jaxpr", operands[:num_cond]), ("body_jaxpr", body)):
                outs = self._enter(scope, position, eqn, "body", params[part], [*fixed, *carry])
            return self._left(carry, outs, len(carry), at)
        if name == "cond":
            branches = [
                self._enter(scope, position, eqn, "body", sub, operands[1:])
                for sub in params["branches"]
            ]
            return [
                self._emit(MERGE, [operands[0], *values], [v.aval], at)[0]
                for v, *values in zip(eqn.outvars, *branches, strict=True)
            ]
        return self._emit(name, operands, [v.aval for v in eqn.outvars], at)

    def _carried(self, start: Sequence[int], at: Any) -> list[int]:
        return [self._emit(CARRY, [v], [self.avals[v]], at)[0] for v in start]

    def _left(self, carry: Sequence[int], outs: Sequence[int], count: int, at: Any) -> list[int]:
        for value, following in zip(carry, outs[:count], strict=True):
            self.producer[value].inputs.append(following)
        avals = [v.aval for v in at[2].outvars]
        names = [LAST] * count + [STACK] * (len(outs) - count)
        return [
            self._emit(name, [value], [aval], at)[0]
            for name, value, aval in zip(names, outs, avals, strict=True)
        ]

    def source_of(self, value: int, through: frozenset[str]) -> int:
        """Where a value comes from through operations that only move it."""
        while (op := self.producer.get(value)) is not None and op.name in through:
            value = op.inputs[0]
        return value
