"""The chain graph of a network as a record: what it prints, and how it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import jax

from cgjax._drawing import Box, Line, dot, drawing, mermaid, save, svg
from cgjax.nodes import Family

_FUNCTIONS = 3  # of an operation that are named where there is little room
_NUMBERED = re.compile(r"[a-z_]+_\d+(#\d+)?")  # a name that nobody gave


@dataclass(frozen=True)
class Parent:
    """An edge of the graph, at the component that it goes to.

    Attributes:
        name: the component, or the input, that it comes from.
        through_time: whether the value is one of an earlier step of a loop.
    """

    name: str
    through_time: bool = False


@dataclass(frozen=True)
class Component:
    """One chain component: the nodes of one layer, given their parents.

    Attributes:
        name: its full name.
        family: the node family; arrays among its parameters are left out.
        shape: the shape of its statistic, at one step.
        kind: "node", "noise" or "observe".
        parents: the components and inputs that its natural parameter is a function of, inputs
            first, then components in topological order.
        lengths: the numbers of steps of the `lax.scan` loops it lies in, outermost first.
        output: whether it is an output node: returned by the network, and feeding nothing else.
        operands: in a graph with operations, what its natural parameter is directly computed from:
            operations too.
        module: the module, or scope of JAX, that computes its natural parameter, where it is one
            alone; its picture says so.
    """

    name: str
    family: Family
    shape: tuple[int, ...]
    kind: str
    parents: tuple[Parent, ...]
    lengths: tuple[int, ...] = ()
    output: bool = False
    operands: tuple[Parent, ...] = ()
    module: str = ""


@dataclass(frozen=True)
class Operation:
    """What is computed between nodes: what a module computes, a linear map, other functions.

    Attributes:
        name: the module or scope of JAX that it is all of, or its function with a number.
        functions: the functions of JAX that it is made of, in the order of the computation.
        shape: the shape of its result, at one step of a loop.
        operands: the inputs, components and operations that it is directly computed from.
    """

    name: str
    functions: tuple[str, ...]
    shape: tuple[int, ...]
    operands: tuple[Parent, ...]


@dataclass(frozen=True)
class Input:
    """An argument of the network.

    Attributes:
        name: the argument's name.
        shapes: the shapes of its arrays.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Result:
    """An array that the network returns.

    Attributes:
        name: "result", followed by its place where there are several.
        shape: its shape.
        parents: the components and inputs that it is a function of.
        operands: in a graph with operations, what it is directly computed from.
    """

    name: str
    shape: tuple[int, ...]
    parents: tuple[Parent, ...]
    operands: tuple[Parent, ...] = ()


@dataclass(frozen=True)
class ChainGraph:
    """The chain graph of a network; what `chain_graph` returns.

    Attributes:
        components: the components in topological order.
        inputs: the network's arguments.
        results: the arrays that it returns.
        operations: what is computed between nodes, in topological order, where it was asked for.
    """

    components: tuple[Component, ...]
    inputs: tuple[Input, ...]
    results: tuple[Result, ...]
    operations: tuple[Operation, ...] = ()

    @property
    def implicit(self) -> tuple[Result, ...]:
        """The results that are functions of nodes and no nodes: these have no density."""
        inner = {c.name for c in self.components if not c.output}
        return tuple(r for r in self.results if inner & {p.name for p in r.parents})

    def __getitem__(self, name: str) -> Component:
        """The component of a name."""
        for component in self.components:
            if component.name == name:
                return component
        known = ", ".join(repr(c.name) for c in self.components) or "none"
        raise KeyError(f"The graph has no component {name!r}. Its components: {known}.")

    def __iter__(self) -> Iterator[Component]:
        return iter(self.components)

    def __len__(self) -> int:
        return len(self.components)

    def __str__(self) -> str:
        rows = [("component", "family", "shape", "parents")]
        for vertex in self._vertices():
            rows.append(_row(vertex))
        rows += [(r.name, "", str(r.shape), _listed(_origin(r))) for r in self.results]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join([*(x.ljust(w) for x, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
        inputs = ", ".join(f"{i.name} {_shapes(i)}" for i in self.inputs) or "none"
        between = f", {len(self.operations)} operations" if self.operations else ""
        title = f"Chain graph of {len(self)} components{between}; inputs: {inputs}"
        return "\n".join([title, *(line.rstrip() for line in lines)])

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart; edges through time are dotted.

        What touches within a component is an undirected edge of it to itself, with words.
        """
        return mermaid(*self._drawing())

    def to_dot(self) -> str:
        """The graph in the language of Graphviz; edges through time are dashed."""
        return dot(*self._drawing())

    def to_svg(self) -> str:
        """The graph as a picture; edges through time are dashed, undirected ones without arrow."""
        return svg(drawing(*self._drawing()))

    def draw(self, path: str | Path) -> None:
        """Draws the graph into a file.

        Args:
            path: the file; its suffix says the format. `.svg` is written directly, `.mmd` as
                Mermaid, `.dot` and `.gv` for Graphviz, and `.png`, `.pdf` and what else Matplotlib
                knows with Matplotlib.

        Raises:
            ValueError: for a suffix that nobody knows.
            ImportError: if Matplotlib is needed and not installed.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.to_svg(), encoding="utf-8")
        elif path.suffix == ".mmd":
            path.write_text(self.to_mermaid(), encoding="utf-8")
        elif path.suffix in (".dot", ".gv"):
            path.write_text(self.to_dot(), encoding="utf-8")
        else:
            save(drawing(*self._drawing()), path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _vertices(self) -> list[Component | Operation]:
        """The components and the operations in topological order."""
        if not self.operations:
            return list(self.components)
        named = {v.name: v for v in (*self.components, *self.operations)}
        below = {n: [p.name for p in _origin(v) if not p.through_time] for n, v in named.items()}
        return [named[n] for n in TopologicalSorter(below).static_order() if n in named]

    def _drawing(self) -> tuple[list[Box], list[Line]]:
        boxes = [Box(f"input {i.name}", "input", i.name, _shapes(i)) for i in self.inputs]
        known = {i.name: f"input {i.name}" for i in self.inputs}
        ends = []
        for v in self._vertices():
            is_operation = isinstance(v, Operation)
            known[v.name] = name = f"{'operation' if is_operation else 'component'} {v.name}"
            kind = "operation" if is_operation else v.kind
            functions = _functions(v) if is_operation else _family(v.family)
            of = "" if is_operation or self.operations else _module(v)
            boxes.append(Box(name, kind, v.name, f"{of}{functions} {_size(v)}"))
            ends.append((name, _origin(v)))
        boxes += [Box(f"result {r.name}", "result", r.name, str(r.shape)) for r in self.results]
        ends += [(f"result {r.name}", _origin(r)) for r in self.results]
        lines = [
            Line(known[p.name], target, p.through_time) for target, origin in ends for p in origin
        ]
        loops = [(known[c.name], c.family.touching) for c in self.components]
        lines += [Line(name, name, touching=words) for name, words in loops if words]
        return boxes, lines


def _origin(vertex: Component | Operation | Result) -> tuple[Parent, ...]:
    """What a vertex is shown to be computed from."""
    return vertex.operands if isinstance(vertex, Operation) else vertex.operands or vertex.parents


def _row(vertex: Component | Operation) -> tuple[str, str, str, str]:
    """What the table says of a component or an operation."""
    if isinstance(vertex, Operation):
        name, words = f"{vertex.name} (operation)", _functions(vertex)
    else:
        notes = [vertex.kind] if vertex.kind != "node" else []
        notes += ["output"] if vertex.output else []
        name = f"{vertex.name} ({', '.join(notes)})" if notes else vertex.name
        family = vertex.family
        words = ", touching: ".join(filter(None, (_family(family), family.touching)))
    return name, words, _size(vertex), _listed(_origin(vertex))


def _module(component: Component) -> str:
    """The module that computes the natural parameter, where the component was named by number."""
    *scope, own = component.name.split("/")
    *above, name = component.module.split("/")
    if not name or not _NUMBERED.fullmatch(own):
        return ""
    return f"{name if above == scope else component.module} → "


def _listed(origin: tuple[Parent, ...]) -> str:
    return ", ".join(f"{p.name} (earlier step)" if p.through_time else p.name for p in origin)


def _functions(operation: Operation) -> str:
    """The functions of an operation, of which a picture has room for some."""
    first = operation.functions[:_FUNCTIONS]
    return ", ".join([*first, "…"] if len(first) < len(operation.functions) else first)


def _size(vertex: Component | Operation) -> str:
    lengths = vertex.lengths if isinstance(vertex, Component) else ()
    return f"{vertex.shape}" + "".join(f" × {n} steps" for n in lengths)


def _shapes(argument: Input) -> str:
    if len(argument.shapes) > 3:
        return f"{len(argument.shapes)} arrays"
    return ", ".join(map(str, argument.shapes))


def _family(family: Family) -> str:
    """The family's name, with its parameters where they are numbers."""
    leaves = jax.tree.leaves(family)
    if not leaves or type(family).__name__ in ("ReLU", "Softplus", "NairHinton"):
        return type(family).__name__
    numbers = [f"{x:g}" if isinstance(x, int | float) else "…" for x in leaves]
    return f"{type(family).__name__}({', '.join(numbers)})"
