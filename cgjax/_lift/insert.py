"""Finds the activations of a traced program and marks some; otherwise it stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax._src.core import Var, trace_state_clean
from jax.extend.core import DropVar, JaxprEqn, jaxpr_as_fun
from jax.typing import DTypeLike

from cgjax import _static
from cgjax._lift.dependence import Dependence
from cgjax._lift.forms import Forms
from cgjax._lift.match import Candidate, Slope, candidates
from cgjax._lift.others import Other, others
from cgjax._lift.purpose import Role, Roles
from cgjax._node import node_p
from cgjax._program.jaxprs import (
    AnyJaxpr,
    Closed,
    Operand,
    Parameter,
    aval,
    is_jaxpr,
    open_jaxpr,
    sub_jaxprs,
)
from cgjax._program.operations import Flat, Operation, Scope, enclosing
from cgjax._program.program import Program
from cgjax._program.trace import program_of
from cgjax.nodes import Family


@dataclass(frozen=True)
class Activation:
    """A recognised activation.

    Attributes:
        label: its function, numbered in walking order where it is optional: "logistic_0".
        function: its name, one of `templates.FUNCTIONS`.
        slope: the number of leaky ReLU, ELU, CELU and swish, or None where it is no constant.
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
        others: the other functions of data that are not linear, and work element by element.
    """

    program: Program
    found: tuple[Activation, ...]
    others: tuple[Other, ...]
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
            chosen.append(Mark(activation._candidate, activation._place, family))
        program, sites = insert(self.program, self._roles.flat, chosen)
        return program, dict(zip(families, sites, strict=True))

    def plain_results(self, marked: Iterable[int]) -> tuple[bool, ...]:
        """For each flat result whether it is computed from data, floating point, and no node."""
        results = {self.found[i]._candidate.result for i in marked}
        flat, on = self._roles.flat, self._roles.on

        def plain(value: int) -> bool:
            floating = jnp.issubdtype(flat.avals[value].dtype, jnp.floating)
            origin = on.origin(value)
            op = flat.producer.get(origin)
            is_node = origin in results or (op is not None and op.name == node_p.name)
            return bool(floating and on.is_data(value) and op and not is_node)

        return tuple(map(plain, flat.results))


def activations(program: Program, parameters: Sequence[bool]) -> Activations:
    """Recognises the activations of a program.

    Args:
        program: the traced function.
        parameters: for each flat argument whether it is a parameter of the network.
    """
    forms = Forms(Flat(program.jaxpr))
    flat, counts = forms.flat, {}
    roles = Roles(forms, candidates(forms), parameters)
    # What is computed from constants and noise alone belongs to the sampling of noise.
    listed = (
        (c, i)
        for i, c in enumerate(roles.candidates)
        if roles.on.is_data(c.x) or roles.on.learned[c.x]
    )
    found = [(_walk(c.root), _activation(c, place(c, roles.on), roles.role(i))) for c, i in listed]
    for op in flat.operations:
        # The operations that mark a loop or a branch share its equation, which has been entered.
        held = op.name == op.eqn.primitive.name
        if held and any(map(roles.on.is_data, op.inputs)):
            # An operation may hold a function and its derivatives.
            inside = {(a.function, a.shape, a.source): a for a in _out_of_reach(op, op)}
            found += [(_walk(op), activation) for activation in inside.values()]
    found.sort(key=lambda pair: pair[0])
    labelled = []
    for _, activation in found:
        if activation.role is not None and activation.role.optional:
            k = counts[activation.label] = counts.get(activation.label, -1) + 1
            activation = replace(activation, label=f"{activation.label}_{k}")
        labelled.append(activation)
    return Activations(program, tuple(labelled), others(roles), roles)


def _walk(op: Operation) -> tuple[int, ...]:
    """Where an operation comes in walking order."""
    return (*op.scope.path, op.position)


def _activation(c: Candidate, where: Place | str, role: Role | None) -> Activation:
    slope = c.slope if isinstance(c.slope, float) else None
    if role is None or role.optional:
        if isinstance(where, str):
            role = Role(where)
        elif slope is not None and c.function == "leaky_relu" and not 0 <= slope <= 1:
            role = Role(f"no node family has a slope of {slope}, outside [0, 1]")
        elif slope is not None and c.function != "leaky_relu" and slope <= 0:
            role = Role(f"no node family has the number {slope}, which is not above 0")
    at = None if isinstance(where, str) else where
    return Activation(c.function, c.function, slope, c.axis, c.shape, c.root.source, role, c, at)


def _out_of_reach(op: Operation, outer: Operation) -> Iterator[Activation]:
    """The activations in functions that an operation holds, and that no procedure can enter."""
    reason = f"inside `{outer.name}`, which no procedure can enter{outer.short_source}"
    for sub in sub_jaxprs(op.eqn):
        forms = Forms(Flat(sub))
        yield from (_activation(candidate, reason, None) for candidate in candidates(forms))
        for inner in forms.flat.operations:
            yield from _out_of_reach(inner, outer)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a mark goes: behind an equation of a scope, and the values that it takes there."""

    scope: Scope
    position: int
    e: int
    slope: int | None


def place(candidate: Candidate, on: Dependence) -> Place | str:
    """Where the activation can be marked: where x and the result are both at hand; or why nowhere.

    A mark goes around a whole library function rather than into it, and always around a function
    with a custom derivative, which thus keeps its rule, if that is the activation's.
    """
    scope: Scope | None = candidate.root.scope
    position = candidate.root.position
    while scope is not None:
        kinds = {s.kind for s in enclosing(scope)}
        outside = scope.kind == "call" or (
            scope.kind == "custom" and on.is_of_one(scope, candidate)
        )
        outside = outside and _only_returned(scope, candidate.result)
        leave = outside and _values(scope.parent, candidate) is not None
        values = _values(scope, candidate)
        if not leave and values is not None and not kinds & {"custom", "component"}:
            return Place(scope, position, *values)
        if not outside:
            break
        scope, position = scope.parent, scope.position
    kinds = {s.kind for s in enclosing(candidate.root.scope)}
    if "custom" in kinds:
        return "part of a function with a custom derivative"
    if "component" in kinds:
        return "part of a fused component"
    return "what it is applied to is not at hand where its result is"


def _values(scope: Scope | None, candidate: Candidate) -> tuple[int, int | None] | None:
    """The natural parameter and the slope among the values of a scope."""
    if scope is None:
        return None
    e = next((v for v in candidate.e.values if v in scope.variables), None)
    if e is None or not isinstance(candidate.slope, Slope):
        return None if e is None else (e, None)
    slope = next((v for v in candidate.slope.values if v in scope.variables), None)
    return None if slope is None else (e, slope)


def _only_returned(scope: Scope, result: int) -> bool:
    inner, outer = open_jaxpr(scope.jaxpr), scope.parent
    var = scope.variables[result]
    used = any(v is var for eqn in inner.eqns for v in eqn.invars)
    returned = sum(v is var for v in inner.outvars)
    kept = outer is not None and not isinstance(outer.variables.get(result), DropVar | None)
    return kept and not used and returned == 1


class Mark(NamedTuple):
    """An activation that becomes a node."""

    candidate: Candidate
    place: Place
    family: Family

    def equations(self, eqn: JaxprEqn) -> list[JaxprEqn]:
        """The equation that makes the result, and those that mark it."""
        scope = self.place.scope
        result, e = scope.variables[self.candidate.result], scope.variables[self.place.e]
        extra = [] if self.place.slope is None else [scope.variables[self.place.slope]]
        structure, arrays = _static.split(self.family)
        assert len(arrays) == len(extra)
        raw = Var(result.aval)
        adapted, e = _adapted(e, aval(result).dtype, self.candidate.e.negated, eqn)
        named = {"name": None, "scopes_in_name": 0, "lifted": True}
        params = {"family": structure, "kind": "node", "differentiated": False, **named}
        node = eqn.replace(
            primitive=node_p,
            invars=[raw, e, *extra],
            outvars=[result],
            params=params,
            effects=set(),
        )
        plain = eqn.replace(outvars=[raw if v is result else v for v in eqn.outvars])
        return [plain, *adapted, node]


def _adapted(e: Var, dtype: DTypeLike, negated: bool, at: JaxprEqn) -> tuple[list[JaxprEqn], Var]:
    """The equations that negate and convert a natural parameter, where that is needed."""
    if aval(e).dtype == dtype and not negated:
        return [], e
    inner = jax.make_jaxpr(lambda e: (-e if negated else e).astype(dtype))(
        jax.ShapeDtypeStruct(aval(e).shape, aval(e).dtype)
    ).jaxpr
    names = {inner.invars[0]: e}
    equations = [
        eqn.replace(invars=[names.get(v, v) for v in eqn.invars], source_info=at.source_info)
        for eqn in inner.eqns
    ]
    return equations, inner.outvars[0]


def insert(program: Program, flat: Flat, marks: Sequence[Mark]) -> tuple[Program, list[int]]:
    """The program with some activations marked, and for each mark the index of its site."""
    by_scope: dict[int, dict[int, list[int]]] = {}
    changed: set[int] = set()
    for number, mark in enumerate(marks):
        where = mark.place
        by_scope.setdefault(id(where.scope), {}).setdefault(where.position, []).append(number)
        at: Scope | None = where.scope
        while at is not None:
            changed.add(id(at))
            at = at.parent
    made: dict[int, int] = {}

    def rebuilt(scope: Scope) -> AnyJaxpr:
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
                eqn, *new = marks[number].equations(eqn)
                made[id(new[-1])] = number
                nodes += new
            eqns += [eqn, *nodes]
        inner = open_jaxpr(scope.jaxpr).replace(eqns=eqns)
        is_open = open_jaxpr(scope.jaxpr) is scope.jaxpr
        if isinstance(scope.jaxpr, Closed):
            return scope.jaxpr._replace(jaxpr=inner)
        return inner if is_open else scope.jaxpr.replace(jaxpr=inner)

    new = program_of(rebuilt(flat.top), program.out_tree, program.in_structure)
    sites = [0] * len(marks)
    for index, eqn in enumerate(_nodes(new.jaxpr)):
        if id(eqn) in made:
            sites[made[id(eqn)]] = index
    return new, sites


def _with(value: Parameter, replaced: Iterator[AnyJaxpr]) -> Parameter:
    if is_jaxpr(value):
        return next(replaced)
    if isinstance(value, tuple | list):
        holds = any(map(is_jaxpr, value))
        return type(value)(_with(v, replaced) for v in value) if holds else value
    return value


def _nodes(jaxpr: AnyJaxpr) -> Iterator[JaxprEqn]:
    for eqn in open_jaxpr(jaxpr).eqns:
        if eqn.primitive is node_p:
            yield eqn
        else:
            for sub in sub_jaxprs(eqn):
                yield from _nodes(sub)


def evaluate(program: Program, arrays: Sequence[Operand]) -> list[Operand]:
    """The flat results of a program, whose nodes stay marked."""
    return jaxpr_as_fun(program.jaxpr)(*arrays)


def nobody_looks() -> bool:
    """Whether no transformation of JAX is under way, so that no mark would be seen."""
    return trace_state_clean()
