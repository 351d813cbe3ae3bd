"""What a network computes between its nodes, in as few steps as a picture has room for.

A step is what a module, or a scope of JAX, computes without others inside, between two nodes. What
lies in no such scope, or beside others in one, is a linear map with what is added to it, or what
hangs together of other functions. Parameters, and what merely moves data, are no steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import jax
from jax.extend.core import JaxprEqn

from cgjax._module_names import scopes_in
from cgjax._node import SCOPE_PREFIX, node_p
from cgjax._program.jaxprs import open_jaxpr
from cgjax._program.operations import CARRY, LAST, MERGE, STACK, STEP, Flat, Operation, Scope
from cgjax._program.program import Program
from cgjax._program.trace import named_scopes

# A vertex of the graph: a flat argument ("argument"), a node ("node") or a step ("step"), and its
# number; and whether the value is that of an earlier step of a loop.
Vertex = tuple[str, int]
Sources = frozenset[tuple[Vertex, bool]]
_NONE: Sources = frozenset()


class Step(NamedTuple):
    """Some operations that are shown as one.

    Attributes:
        name: the scope that they are all of, or what they are in a scope, with a number.
        functions: the functions that they are, each once: "dot_general", "softmax".
        shape: the shape of what is computed last, at one step of a loop.
        sources: what they are computed from.
        in_loop: whether they are computed at each step of a loop.
        scope: the scope, if they are all that it computes without others inside.
    """

    name: str
    functions: tuple[str, ...]
    shape: tuple[int, ...]
    sources: Sources
    in_loop: bool
    scope: str


class Steps(NamedTuple):
    """A program in steps.

    Attributes:
        steps: the steps, by number.
        nodes: for each node what its natural parameter is directly computed from.
        results: the same for each flat result.
    """

    steps: dict[int, Step]
    nodes: list[Sources]
    results: list[Sources]


@dataclass(eq=False)
class _Group:
    """The operations of a step that is being made.

    Attributes:
        scope: the scope that they lie in.
        body: the loop or branch that they lie in, if any.
        function: the function of `jax.nn` that they are, if they are one.
        linear: whether the first is a matrix product or a convolution.
        members: the operations.
    """

    scope: tuple[str, ...]
    body: Scope | None
    function: str
    linear: bool
    members: list[Operation]


class _Steps:
    """Makes the steps of a program.

    Args:
        program: the program.
        shown: for each flat argument whether it is shown, which parameters are not.
    """

    def __init__(self, program: Program, shown: Sequence[bool]):
        self.flat = flat = Flat(program.jaxpr)
        nodes = [op for op in flat.operations if op.name == node_p.name]
        nodes.sort(key=lambda op: (*op.scope.path, op.position))  # as nodes are numbered
        self.node = {id(op): k for k, op in enumerate(nodes)}
        self.arguments: dict[int, Sources] = {
            v: frozenset({(("argument", k), False)})
            for k, (v, is_shown) in enumerate(zip(flat.arguments, shown, strict=True))
            if is_shown
        }
        self.data = self._data()
        live = self._live()
        self.operations = [
            op for op in flat.operations if id(op) in live and not self.data.isdisjoint(op.outputs)
        ]
        self.scope = {id(op): _scope_names(op) for op in self.operations}
        above = {scope[:k] for scope in self.scope.values() for k in range(len(scope))}
        self.leaves = set(self.scope.values()) - above - {()}
        self.groups: dict[Vertex, _Group] = {}
        self.group: dict[int, Vertex] = {}  # of an operation
        self.joined: dict[Vertex, Vertex] = {}  # a group, and the one that it is part of
        self.below: dict[Vertex, set[Vertex]] = {}  # what a vertex is directly computed from
        self.found: dict[int, Sources] = dict(self.arguments)
        # What comes around in a loop is not known yet, and decides on no group.
        self._walk(self._join)
        before = None
        while before != self.found:
            before = dict(self.found)
            self._walk(lambda op, _: self._now(self.group[id(op)]))

    def sources(self, values: Iterable[int]) -> Sources:
        """Where some values come from."""
        union = reduce(frozenset.union, (self.found.get(v, _NONE) for v in values), _NONE)
        return frozenset((self._now(vertex), later) for vertex, later in union)

    def operands(self, op: Operation) -> list[int]:
        """The operands that count: of a node its natural parameter and what its family has."""
        if id(op) not in self.node:
            return op.inputs
        return op.inputs[1 : 2 + op.params["family"].num_arrays]

    def _data(self) -> set[int]:
        """The values that depend on what is shown."""
        data = set(self.arguments)
        before = -1
        while len(data) > before:  # more than twice only because of loops
            before = len(data)
            for op in self.flat.operations:
                if id(op) in self.node or not data.isdisjoint(op.inputs):
                    data.update(op.outputs)
        return data

    def _live(self) -> set[int]:
        """The operations that a result or a node depends on, by identity."""
        nodes = [op for op in self.flat.operations if id(op) in self.node]
        pending = [v for op in nodes for v in self.operands(op)] + self.flat.results
        live = set(self.node)
        while pending:
            op = self.flat.producer.get(pending.pop())
            if op is not None and id(op) not in live:
                live.add(id(op))
                pending += self.operands(op)
        return live

    def _walk(self, step: Callable[[Operation, Sources], Vertex]) -> None:
        """Finds for each value where it comes from; `step` says which step an operation is of."""
        for op in self.operations:
            self.found.update(dict.fromkeys(op.outputs, self._after(op, step)))

    def _after(self, op: Operation, step: Callable[[Operation, Sources], Vertex]) -> Sources:
        sources = self.sources(self.operands(op))
        if id(op) in self.node:
            vertex = ("node", self.node[id(op)])
            self.below[vertex] = {v for v, later in sources if not later}
            return frozenset({(vertex, False)})
        if op.name == CARRY:
            around = self.sources(op.inputs[1:])
            return self.sources(op.inputs[:1]) | {(vertex, True) for vertex, _ in around}
        if op.name in (LAST, STACK):
            return frozenset((vertex, False) for vertex, _ in sources)
        moved = {v for v in op.inputs if v in self.data}
        moves = op.facts.moves or op.facts.converts
        if op.name in (STEP, MERGE) or (moves and len(moved) == 1):
            return sources
        return frozenset({(step(op, sources), False)})

    def _join(self, op: Operation, sources: Sources) -> Vertex:
        """The step that an operation is of: one that it is computed from, or a new one."""
        scope, body, called = self.scope[id(op)], _body(op), _function(op)
        function = called.name if called.of_networks else ""
        linear = op.facts.contracts and not function  # attention is no linear map
        below = {vertex for vertex, later in sources if not later}
        groups = {v: self.groups[v] for v in below if v in self.groups}
        alike = {v for v, g in groups.items() if g.scope == scope and g.body is body}
        if scope not in self.leaves:
            follows = below == alike and len(below) == 1 and self._is_affine(op)
            alike = {v for v in alike if not linear and groups[v].function == function}
            alike = {v for v in alike if follows or not groups[v].linear}
        for these in (alike, *({v} for v in sorted(alike, reverse=True))):
            if these and not self._leads_around(these, below):
                vertex, *others = sorted(these)
                for other in others:
                    self.joined[other] = vertex
                    self.groups[vertex].members += self.groups.pop(other).members
                    self.below[vertex] |= self.below.pop(other)
                self.groups[vertex].members.append(op)
                self.below[vertex] = (self.below[vertex] | below) - these
                break
        else:
            vertex = ("step", len(self.group))
            self.groups[vertex] = _Group(scope, body, function, linear, [op])
            self.below[vertex] = below
        self.group[id(op)] = vertex
        return vertex

    def _now(self, vertex: Vertex) -> Vertex:
        while vertex in self.joined:
            vertex = self.joined[vertex]
        return vertex

    def _is_affine(self, op: Operation) -> bool:
        """Whether an operation adds parameters to data, or multiplies them."""
        random = [v in self.data for v in op.inputs]
        return sum(random) == 1 and op.facts.elementwise and op.facts.is_linear(random)

    def _leads_around(self, vertices: set[Vertex], others: set[Vertex]) -> bool:
        """Whether one of some vertices depends on another through what is none of them.

        Args:
            vertices: some vertices.
            others: what is to be computed by them too, from these.
        """
        pending = {self._now(v) for vertex in vertices for v in self.below[vertex]} | others
        pending -= vertices
        seen = set(pending)
        while pending:
            below = {self._now(v) for v in self.below.get(pending.pop(), ())}
            if not below.isdisjoint(vertices):
                return True
            pending |= below - seen
            seen |= below
        return False


def steps(program: Program, shown: Sequence[bool], taken: Iterable[str]) -> Steps:
    """What a program computes between its nodes.

    Args:
        program: the program.
        shown: for each flat argument whether it is shown; parameters are not.
        taken: names that no step may have.
    """
    made = _Steps(program, shown)
    order = {id(op): k for k, op in enumerate(made.operations)}
    for group in made.groups.values():
        group.members.sort(key=lambda op: order[id(op)])
    found: dict[int, Step] = {}
    numbers: dict[str, int] = {}
    counts = dict.fromkeys(taken, 0)
    for vertex, group in sorted(made.groups.items(), key=lambda g: order[id(g[1].members[0])]):
        functions = tuple(dict.fromkeys(_function(op).name for op in group.members))
        name = "/".join(group.scope)
        if group.scope not in made.leaves:
            main = _function(group.members[0 if group.linear else -1]).name
            name = "/".join((*group.scope, main))
            number = numbers[name] = numbers.get(name, -1) + 1
            name = f"{name}_{number}"
        repeats = counts[name] = counts.get(name, -1) + 1
        sources = made.sources(v for op in group.members for v in op.inputs)
        found[vertex[1]] = Step(
            f"{name}#{repeats}" if repeats else name,
            functions,
            tuple(made.flat.avals[group.members[-1].outputs[0]].shape),
            sources - {(vertex, False)},
            group.body is not None,
            "/".join(group.scope) if group.scope in made.leaves else "",
        )
    nodes = sorted(
        (op for op in made.flat.operations if id(op) in made.node), key=lambda o: made.node[id(o)]
    )
    return Steps(
        found,
        [made.sources(made.operands(op)) for op in nodes],
        [made.sources([v]) for v in made.flat.results],
    )


def _scope_names(op: Operation) -> tuple[str, ...]:
    """The names of the scopes of JAX that an operation lies in, outermost first."""
    stacks, scope = [named_scopes(op.eqn)], op.scope
    while scope.parent is not None:
        stacks.append(named_scopes(open_jaxpr(scope.parent.jaxpr).eqns[scope.position]))
        scope = scope.parent
    return scopes_in(
        tuple(name.removeprefix(SCOPE_PREFIX) for stack in reversed(stacks) for name in stack)
    )


def _body(op: Operation) -> Scope | None:
    """The innermost loop or branch that an operation lies in."""
    scope = op.scope
    while scope.parent is not None:
        if scope.kind == "body":
            return scope
        scope = scope.parent
    return None


# What these primitives are called elsewhere.
_CALLED = {"dot_general": "dot", "conv_general_dilated": "conv"}
_JAX = Path(str(jax.__file__)).parent
# Where JAX defines functions for users, and in these folders what makes operators of them.
_FUNCTIONS = tuple(str(_JAX / "_src" / part) for part in ("nn", "numpy", "scipy", "image"))
_OPERATORS = tuple(
    str(_JAX / "_src/numpy" / f"{part}.py") for part in ("array_methods", "ufunc_api")
)


class _Function(NamedTuple):
    """A function of JAX that users call.

    Attributes:
        name: its name.
        of_networks: whether it is one of `jax.nn`.
    """

    name: str
    of_networks: bool = False


def _function(op: Operation) -> _Function:
    """The function of JAX that was called for an operation, else what it is itself."""
    eqn, scope = op.eqn, op.scope
    own = _Function(op.name)
    while scope.parent is not None:
        if scope.library and scope.kind in ("call", "custom"):
            eqn = open_jaxpr(scope.parent.jaxpr).eqns[scope.position]
            path = open_jaxpr(scope.jaxpr).debug_info.func_filename or ""
            own = _Function(scope.library.strip("_"), path.startswith(_FUNCTIONS[0]))
        scope = scope.parent
    called = _called(eqn)
    found = own if called is None or own.of_networks else called
    if op.facts.contracts and not found.of_networks:
        return _Function(_CALLED.get(op.name, op.name))
    return found


def _called(eqn: JaxprEqn) -> _Function | None:
    """The function of JAX that was called where an equation comes from, if that is known."""
    traceback, found = eqn.source_info.traceback, None
    for frame in traceback.frames if traceback is not None else ():  # innermost first
        path = frame.file_name
        if path.startswith(_FUNCTIONS) and path not in _OPERATORS:
            found = _Function(frame.function_name.strip("_"), path.startswith(_FUNCTIONS[0]))
        elif not path.startswith(str(_JAX)):
            break
    return found
