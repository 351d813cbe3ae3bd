"""The chain graph of a network as data: components, families, shapes, parents ([A] section 2.1)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from cgjax import _static
from cgjax._drawing import Box, Line, drawing, mermaid, save, svg
from cgjax._modules import is_variables
from cgjax._program import Program, parents, trace
from cgjax._static import Function, Leaf, Tree
from cgjax.nodes import Family


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
    """

    name: str
    family: Family
    shape: tuple[int, ...]
    kind: str
    parents: tuple[Parent, ...]
    lengths: tuple[int, ...] = ()
    output: bool = False


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
    """

    name: str
    shape: tuple[int, ...]
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class ChainGraph:
    """The chain graph of a network; what `chain_graph` returns.

    Attributes:
        components: the components in topological order.
        inputs: the network's arguments.
        results: the arrays that it returns.
    """

    components: tuple[Component, ...]
    inputs: tuple[Input, ...]
    results: tuple[Result, ...]

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
        for c in self.components:
            notes = [c.kind] if c.kind != "node" else []
            notes += ["output"] if c.output else []
            name = f"{c.name} ({', '.join(notes)})" if notes else c.name
            family = ", touching: ".join(filter(None, (_family(c.family), c.family.touching)))
            rows.append((name, family, _size(c), _listed(c.parents)))
        rows += [(r.name, "", str(r.shape), _listed(r.parents)) for r in self.results]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            "  ".join([*(x.ljust(w) for x, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
        inputs = ", ".join(f"{i.name} {_shapes(i)}" for i in self.inputs) or "none"
        title = f"Chain graph of {len(self)} components; inputs: {inputs}"
        return "\n".join([title, *(line.rstrip() for line in lines)])

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart; edges through time are dotted.

        What touches within a component is an undirected edge of it to itself, with words.
        """
        return mermaid(*self._drawing())

    def to_svg(self) -> str:
        """The graph as a picture; edges through time are dashed, undirected ones without arrow."""
        return svg(drawing(*self._drawing()))

    def draw(self, path: str | Path) -> None:
        """Draws the graph into a file.

        Args:
            path: the file; its suffix says the format. `.svg` is written directly, `.mmd` as
                Mermaid, and `.png`, `.pdf` and what else Matplotlib knows with Matplotlib.

        Raises:
            ValueError: for a suffix that nobody knows.
            ImportError: if Matplotlib is needed and not installed.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.to_svg(), encoding="utf-8")
        elif path.suffix == ".mmd":
            path.write_text(self.to_mermaid(), encoding="utf-8")
        else:
            save(drawing(*self._drawing()), path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _drawing(self) -> tuple[list[Box], list[Line]]:
        boxes = [Box(f"input {i.name}", "input", i.name, _shapes(i)) for i in self.inputs]
        known = {i.name: f"input {i.name}" for i in self.inputs}
        for c in self.components:
            text = f"{_family(c.family)} {_size(c)}"
            boxes.append(Box(f"component {c.name}", c.kind, c.name, text))
            known[c.name] = f"component {c.name}"
        boxes += [Box(f"result {r.name}", "result", r.name, str(r.shape)) for r in self.results]
        ends = [(f"component {c.name}", c.parents) for c in self.components]
        ends += [(f"result {r.name}", r.parents) for r in self.results]
        lines = [
            Line(known[p.name], target, p.through_time) for target, origin in ends for p in origin
        ]
        loops = [(known[c.name], c.family.touching) for c in self.components]
        lines += [Line(name, name, touching=words) for name, words in loops if words]
        return boxes, lines


def _listed(origin: tuple[Parent, ...]) -> str:
    return ", ".join(f"{p.name} (earlier step)" if p.through_time else p.name for p in origin)


def _size(component: Component) -> str:
    steps = "".join(f" × {n} steps" for n in component.lengths)
    return f"{component.shape}{steps}"


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


class _Array:
    """Stands for an array among a family's parameters."""

    def __repr__(self) -> str:
        return "array"


def _graph(program: Program, inputs: list[Input], owner: list[int | None]) -> ChainGraph:
    """The graph; `owner` has for each flat argument the number of the input it belongs to."""
    of_node, of_result = parents(program, arguments=True)

    def edges(tags: frozenset[tuple[int, bool]]) -> tuple[Parent, ...]:
        arguments = {owner[-1 - i] for i, _ in tags if i < 0}
        found = [Parent(inputs[k].name) for k in sorted(k for k in arguments if k is not None)]
        for site in program.sites:
            steps = {through_time for i, through_time in tags if i == site.index}
            if steps and not site.lengths and not site.in_while:
                steps = {False}  # handed on by the loop, but the same at every step
            found += [Parent(site.name, step) for step in sorted(steps)]
        return tuple(found)

    components = []
    for site in program.sites:
        arrays = [_Array()] * site.family.num_arrays
        components.append(
            Component(
                site.name,
                _static.join(site.family, arrays),
                site.shape,
                site.kind,
                edges(of_node[site.index]),
                site.lengths,
                site.output,
            )
        )
    numbers = jax.tree.unflatten(program.out_tree, range(len(of_result)))
    computed = [
        (path, k)
        for path, k in jax.tree_util.tree_leaves_with_path(numbers)
        if program.returned_inputs[k] is None and edges(of_result[k])
    ]
    results = []
    for path, k in computed:
        place = jax.tree_util.keystr(path) if len(of_result) > 1 else ""
        results.append(Result(f"result{place}", program.result_shapes[k], edges(of_result[k])))
    used = {p.name for end in (*components, *results) for p in end.parents if not p.through_time}
    return ChainGraph(tuple(components), tuple(i for i in inputs if i.name in used), tuple(results))


def _inputs(
    net: Function, args: Sequence[Tree], kwargs: Mapping[str, Tree]
) -> tuple[list[Input], list[int | None]]:
    """The arguments of a call by name, and for each flat array the argument that it is part of."""
    while (made_from := getattr(net, "net", None)) is not None:  # by `clamp` or `lift`
        net = made_from
    try:
        parameters = list(inspect.signature(net).parameters.values())
    except (TypeError, ValueError):  # a callable that does not tell
        parameters = []
    several = inspect.Parameter.VAR_POSITIONAL
    names = [p.name for p in parameters if p.kind < several]  # the positional kinds come first
    rest = next((p.name for p in parameters if p.kind is several), "argument")
    names += [f"{rest}[{k}]" for k in range(len(args) - len(names))]
    # In the order in which the trace counts the arrays.
    named = [*zip(names, args, strict=False), *sorted(kwargs.items())]
    inputs, owner = [], []
    parts = 2 if getattr(net, "returns_state", False) else 0  # a module's params and state
    for k, (name, value) in enumerate(named):
        arrays = _static.split(value, numbers=True)[1]
        owner += [None if k < parts or is_variables(value) else len(inputs)] * len(arrays)
        inputs.append(Input(name, tuple(np.shape(a) for a in arrays)))
    return inputs, owner


@dataclass(frozen=True)
class _ChainGraphOf:
    """What `chain_graph` returns for a function."""

    net: Function

    def __call__(self, *args: Tree, **kwargs: Tree) -> ChainGraph:
        leaves, treedef = jax.tree.flatten((args, kwargs))
        abstract = [k for k, x in enumerate(leaves) if isinstance(x, jax.ShapeDtypeStruct)]
        graph = None

        # Shapes alone do: where they are given, the network is traced on what has no values.
        def look(values: list[Leaf]) -> None:
            nonlocal graph
            for k, value in zip(abstract, values, strict=True):
                leaves[k] = value
            args, kwargs = jax.tree.unflatten(treedef, leaves)
            graph = _graph(trace(self.net, args, kwargs), *_inputs(self.net, args, kwargs))

        if abstract:
            jax.eval_shape(look, [leaves[k] for k in abstract])
        else:
            look([])
        assert graph is not None
        return graph


def chain_graph(net: Function) -> Callable[..., ChainGraph]:
    """The chain graph of a network: its components and what each depends on.

        P(X_2, …, X_L | X_1) = prod_l P(X_l | parents of X_l)

    A component is an array of nodes marked by `cgjax.node`, `noise` or `observe`; its parents are
    the components and inputs that its natural parameter is computed from, through no other node.
    A component inside `lax.scan` or another loop is shown once, with edges through time; one whose
    elements touch, such as a chain, has an undirected edge to itself. Of a module, the inputs are
    the arguments of its call.

    Args:
        net: a network, as a function of arrays, or a Flax module.

    Returns:
        A function of the network's arguments, which may be `jax.ShapeDtypeStruct`, that returns a
        `ChainGraph`. It prints as a table, shows itself as a picture in notebooks, and is drawn by
        `draw("graph.svg")`, `draw("graph.png")` or `to_mermaid()`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def net(x):
        ...     a = cg.node(cg.nodes.ReLU(), 2 * x, name="a")
        ...     return cg.node(cg.nodes.Bernoulli(), x + a, name="b")
        >>> graph = cg.chain_graph(net)(jnp.ones(3))
        >>> print(graph)
        Chain graph of 2 components; inputs: x (3,)
        component   family     shape  parents
        a           ReLU       (3,)   x
        b (output)  Bernoulli  (3,)   x, a
        result                 (3,)   b
        >>> graph["b"].parents
        (Parent(name='x', through_time=False), Parent(name='a', through_time=False))

    Source: [A] section 2.1, Eq. 1.
    """
    return _ChainGraphOf(net)
