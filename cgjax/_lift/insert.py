"""Finds the activations of a traced program and marks some; otherwise it stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax._src.core import Var, trace_state_clean
from jax.extend.core import DropVar, jaxpr_as_fun

from cgjax import _static
from cgjax._lift.match import Candidate, Slope, candidates, enclosing
from cgjax._lift.purpose import Role, Roles
from cgjax._node import node_p
from cgjax._program.jaxprs import consts, is_jaxpr, open_jaxpr, sub_jaxprs
from cgjax._program.operations import Flat, Scope
from cgjax._program.program import Program
from cgjax._program.trace import program_of
from cgjax.nodes import Family


@dataclass(frozen=True)
class Activation:
    """A recognised activation.

    Attributes:
        label: its function, numbered in walking order where it is optional: "logistic_0".
        function: "relu", "leaky_relu", "tanh", "logistic", "softplus" or "softmax".
        slope: of leaky ReLUs, a number, or None where it is no constant.
        axis: of softmax, negative.
        shape: the shape at one step.
        source: the line of user code.
        role: why it is no node, if it is none.
    """

    label: str
    function: str
    slope: float | None
    axis: int | None
    shape: tuple[int, ...]
    source: str
    role: Role | None
    _candidate: Candidate = field(repr=False)
    _place: Place | None = field(repr=False)


@dataclass(frozen=True, eq=False)
class Activations:
    """All activations of a program, in walking order.

    Attributes:
        program: the program.
        found: the activations.
    """

    program: Program
    found: tuple[Activation, ...]
    _flat: Flat
    _roles: Roles

    def mark(self, families: Mapping[int, Family]) -> tuple[Program, dict[int, int]]:
        """The program with some activations marked as nodes, and the index of each one's site.

        Args:
            families: the node family for each activation to mark, by its position in `found`.
        """
        chosen = []
        for i, family in families.items():
            activation = self.found[i]
            assert activation._place is not None
            chosen.append((activation._candidate, activation._place, family))
        program, sites = insert(self.program, self._flat, chosen)
        return program, dict(zip(families, sites, strict=True))

    def plain_results(self, marked: Iterable[int]) -> tuple[bool, ...]:
        """For each flat result whether it is computed from data, floating point, and no node."""
        results = {self.found[i]._candidate.result for i in marked}

        def plain(value: int) -> bool:
            floating = jnp.issubdtype(self._flat.avals[value].dtype, jnp.floating)
            origin = self._roles.origin(value)
            op = self._flat.producer.get(origin)
            is_node = origin in results or (op is not None and op.name == node_p.name)
            return bool(floating and self._roles.is_data(value) and op and not is_node)

        return tuple(map(plain, self._flat.results))


def activations(program: Program, parameters: Sequence[bool]) -> Activations:
    """Recognises the activations of a program.

    Args:
        program: the traced function.
        parameters: for each flat argument whether it is a parameter of the network.
    """
    flat = Flat(program.jaxpr)
    roles = Roles(flat, candidates(flat), parameters)
    counts: dict[str, int] = {}

    def activation(i: int, c: Candidate) -> Activation:
        where, role = place(c), roles.role(i)
        slope = None if isinstance(c.slope, Slope) else c.slope
        if role is None or role.optional:
            if where is None:
                role = Role("part of a function with a custom derivative, or of another function")
            elif slope is not None and not 0 <= slope <= 1:
                role = Role(f"no node family has a slope of {slope}, outside [0, 1]")
        label = c.function
        if role is not None and role.optional:
            k = counts[label] = counts.get(label, -1) + 1
            label = f"{label}_{k}"
        shape = tuple(flat.avals[c.result].shape)
        return Activation(label, c.function, slope, c.axis, shape, c.root.source, role, c, where)

    # What is computed from constants and noise alone belongs to the sampling of noise.
    listed = (i for i, c in enumerate(roles.candidates) if roles.is_data(c.x) or roles.learned[c.x])
    return Activations(
        program, tuple(activation(i, roles.candidates[i]) for i in listed), flat, roles
    )


def holds_weights(program: Program) -> bool:
    """Whether the function closes over floating-point arrays with two or more axes."""

    def holds(jaxpr: Any) -> bool:
        here = (jnp.ndim(c) >= 2 and jnp.issubdtype(c.dtype, jnp.floating) for c in consts(jaxpr))
        inner = (sub for eqn in open_jaxpr(jaxpr).eqns for sub in sub_jaxprs(eqn))
        return any(here) or any(map(holds, inner))

    return holds(program.jaxpr)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a mark goes: behind an equation of a scope."""

    scope: Scope
    position: int


def place(candidate: Candidate) -> Place | None:
    """Where the activation can be marked: where x and the result are both at hand.

    A mark goes around a whole library function rather than into it, and always around a function
    with a custom derivative, which thus keeps its rule. None if there is no such place.
    """
    scope: Any = candidate.root.scope
    position = candidate.root.position
    needed = [candidate.x]
    if isinstance(candidate.slope, Slope):
        needed.append(candidate.slope.value)
    while True:
        leave = scope.kind in ("call", "custom") and _only_returned(scope, candidate.result)
        if leave and _visible(scope.parent, needed):
            scope, position = scope.parent, scope.position
            continue
        if _visible(scope, needed) and all(s.kind != "custom" for s in enclosing(scope)):
            return Place(scope, position)
        if not leave:
            return None
        scope, position = scope.parent, scope.position


def _visible(scope: Any, values: Sequence[int]) -> bool:
    return all(v in scope.variables for v in values)


def _only_returned(scope: Scope, result: int) -> bool:
    inner, outer = open_jaxpr(scope.jaxpr), scope.parent
    var = scope.variables[result]
    used = any(v is var for eqn in inner.eqns for v in eqn.invars)
    returned = sum(v is var for v in inner.outvars)
    kept = outer is not None and not isinstance(outer.variables.get(result), DropVar | None)
    return kept and not used and returned == 1


def insert(
    program: Program, flat: Flat, marks: Sequence[tuple[Candidate, Place, Family]]
) -> tuple[Program, list[int]]:
    """The program with some activations marked, and for each mark the index of its site."""
    by_scope: dict[int, dict[int, list[int]]] = {}
    changed: set[int] = set()
    for number, (_, where, _) in enumerate(marks):
        by_scope.setdefault(id(where.scope), {}).setdefault(where.position, []).append(number)
        at: Scope | None = where.scope
        while at is not None:
            changed.add(id(at))
            at = at.parent
    made: dict[int, int] = {}

    def mark(number: int, scope: Scope, eqn: Any) -> tuple[Any, Any]:
        candidate, _, family = marks[number]
        extra = []
        if isinstance(candidate.slope, Slope):
            extra = [scope.variables[candidate.slope.value]]
        structure, arrays = _static.split(family)
        assert len(arrays) == len(extra)
        result = scope.variables[candidate.result]
        raw = Var(result.aval)
        node = eqn.replace(
            primitive=node_p,
            invars=[raw, scope.variables[candidate.x], *extra],
            outvars=[result],
            params={
                "family": structure,
                "kind": "node",
                "name": None,
                "scopes_in_name": 0,
                "differentiated": False,
            },
            effects=set(),
        )
        made[id(node)] = number
        return eqn.replace(outvars=[raw if v is result else v for v in eqn.outvars]), node

    def rebuilt(scope: Scope) -> Any:
        here = by_scope.get(id(scope), {})
        eqns = []
        for position, eqn in enumerate(open_jaxpr(scope.jaxpr).eqns):
            children = {
                child: inner
                for (p, child), inner in scope.children.items()
                if p == position and id(inner) in changed
            }
            if children:
                replaced = iter(
                    rebuilt(children[i]) if i in children else sub
                    for i, sub in enumerate(sub_jaxprs(eqn))
                )
                eqn = eqn.replace(params={k: _with(v, replaced) for k, v in eqn.params.items()})
            nodes = []
            for number in here.get(position, ()):
                eqn, node = mark(number, scope, eqn)
                nodes.append(node)
            eqns += [eqn, *nodes]
        inner = open_jaxpr(scope.jaxpr).replace(eqns=eqns)
        is_open = open_jaxpr(scope.jaxpr) is scope.jaxpr
        return inner if is_open else scope.jaxpr.replace(jaxpr=inner)

    new = program_of(rebuilt(flat.top), program.out_tree, program.in_structure)
    sites = [0] * len(marks)
    for index, eqn in enumerate(_nodes(new.jaxpr)):
        if id(eqn) in made:
            sites[made[id(eqn)]] = index
    return new, sites


def _with(value: Any, replaced: Iterator[Any]) -> Any:
    if is_jaxpr(value):
        return next(replaced)
    if isinstance(value, tuple | list):
        holds = any(map(is_jaxpr, value))
        return type(value)(_with(v, replaced) for v in value) if holds else value
    return value


def _nodes(jaxpr: Any) -> Iterator[Any]:
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive is node_p:
            yield eqn
        else:
            for sub in sub_jaxprs(eqn):
                yield from _nodes(sub)


def evaluate(program: Program, arrays: Sequence[Any]) -> list[Any]:
    """The flat results of a program, whose nodes stay marked."""
    return jaxpr_as_fun(program.jaxpr)(*arrays)


def nobody_looks() -> bool:
    """Whether no transformation of JAX is under way, so that no mark would be seen."""
    return trace_state_clean()
