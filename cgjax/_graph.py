"""The chain graph of a network as data: components, families, shapes, parents ([A] section 2.1)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax

from cgjax import _static
from cgjax._chain_graph import ChainGraph, Component, Input, Operation, Parent, Result
from cgjax._lift.parameters import Argument, chosen, parameters_of
from cgjax._procedure import Procedure
from cgjax._program import Program, Site, Sources, parents, steps, trace
from cgjax._static import Function, Leaf, Tree


class _Array:
    """Stands for an array among a family's parameters."""

    def __repr__(self) -> str:
        return "array"


class _Inputs(NamedTuple):
    """The arguments of a network that are no parameters.

    Attributes:
        inputs: the arguments.
        owner: for each flat argument the number of the input that it belongs to; None for a
            parameter.
    """

    inputs: list[Input]
    owner: list[int | None]

    def of(self, flat: Iterable[int]) -> list[Parent]:
        """The inputs that some flat arguments belong to."""
        numbers = {self.owner[k] for k in flat}
        return [Parent(i.name) for k, i in enumerate(self.inputs) if k in numbers]


class _Edges:
    """The vertices that others are computed from."""

    def __init__(self, program: Program, given: _Inputs, operations: bool):
        self.program, self.given = program, given
        self.nodes, self.results = parents(program, arguments=True)
        taken = [x.name for x in (*given.inputs, *program.sites)]
        shown = [k is not None for k in given.owner]
        self.steps = steps(program, shown, taken)
        self.shown = operations

    def parents(self, tags: frozenset[tuple[int, bool]]) -> tuple[Parent, ...]:
        """The inputs and components that something is a function of, through no other node."""
        found = self.given.of(-1 - i for i, _ in tags if i < 0)
        for site in self.program.sites:
            later = {through_time for i, through_time in tags if i == site.index}
            found += dict.fromkeys(self._component(site, time) for time in sorted(later))
        return tuple(found)

    def _component(self, site: Site, through_time: bool) -> Parent:
        # What a loop only hands on is the same at every step.
        return Parent(site.name, through_time and bool(site.lengths or site.in_while))

    def operands(self, sources: Sequence[Sources], index: int) -> tuple[Parent, ...]:
        """What one of several things is directly computed from; nothing without operations."""
        return self.direct(sources[index]) if self.shown else ()

    def module(self, index: int) -> str:
        """The module that computes a node's natural parameter, if it is one alone."""
        numbers = [k for (kind, k), _ in self.steps.nodes[index] if kind == "step"]
        found = {self.steps.steps[k].scope for k in numbers}
        return found.pop() if len(found) == 1 else ""

    def direct(self, sources: Sources) -> tuple[Parent, ...]:
        """The inputs, components and operations of some sources."""
        found = self.given.of(k for (kind, k), _ in sources if kind == "argument")
        for (kind, k), through_time in sorted(sources):
            if kind == "node":
                found.append(self._component(self.program.sites[k], through_time))
            elif kind == "step":
                step = self.steps.steps[k]
                found.append(Parent(step.name, through_time and step.in_loop))
        return tuple(dict.fromkeys(found))


def _graph(program: Program, given: _Inputs, operations: bool) -> ChainGraph:
    """The graph of a program."""
    edges = _Edges(program, given, operations)
    components = tuple(
        Component(
            site.name,
            _static.join(site.family, [_Array()] * site.family.num_arrays),
            site.shape,
            site.kind,
            edges.parents(edges.nodes[site.index]),
            site.lengths,
            site.output,
            edges.operands(edges.steps.nodes, site.index),
            edges.module(site.index),
        )
        for site in program.sites
    )
    numbers = jax.tree.unflatten(program.out_tree, range(len(edges.results)))
    results = []
    for path, k in jax.tree_util.tree_leaves_with_path(numbers):
        origin = edges.parents(edges.results[k])
        if program.returned_inputs[k] is None and origin:
            place = jax.tree_util.keystr(path) if len(edges.results) > 1 else ""
            operands = edges.operands(edges.steps.results, k)
            results.append(Result(f"result{place}", program.result_shapes[k], origin, operands))
    between = tuple(
        Operation(step.name, step.functions, step.shape, edges.direct(step.sources))
        for step in (edges.steps.steps.values() if operations else ())
    )
    ends = (*(c.parents for c in components), *(r.parents for r in results))
    used = {p.name for end in (*ends, *(o.operands for o in between)) for p in end}
    inputs = tuple(i for i in given.inputs if i.name in used)
    return ChainGraph(components, inputs, tuple(results), between)


def _inputs(
    net: Function,
    args: Sequence[Tree],
    kwargs: Mapping[str, Tree],
    program: Program,
    hidden: Sequence[bool],
) -> _Inputs:
    """The arguments of a call by name, but for the flat ones that are hidden."""
    while (made_from := getattr(net, "net", None)) is not None:  # by `clamp` or `lift`
        net = made_from
    try:
        signature = list(inspect.signature(net).parameters.values())
    except (TypeError, ValueError):  # a callable that does not tell
        signature = []
    several = inspect.Parameter.VAR_POSITIONAL
    names = [p.name for p in signature if p.kind < several]  # the positional kinds come first
    rest = next((p.name for p in signature if p.kind is several), "argument")
    names += [f"{rest}[{k}]" for k in range(len(args) - len(names))]
    # In the order in which the trace counts the arrays.
    named = [*zip(names, args, strict=False), *sorted(kwargs.items())]
    sizes = [len(_static.split(value, numbers=True)[1]) for _, value in named]
    owner = [k for k, size in enumerate(sizes) for _ in range(size)]
    shown = [None if h else k for k, h in zip(owner, hidden, strict=True)]
    arrays = list(zip(program.arguments, shown, strict=True))
    inputs = [
        Input(name, tuple(tuple(a.shape) for a, k in arrays if k == number))
        for number, (name, _) in enumerate(named)
    ]
    return _Inputs(inputs, shown)


def _parameters(
    net: Function, parameters: int | str | Sequence[int | str] | None
) -> tuple[Argument, ...] | None:
    """The arguments that are parameters: those that `lift` was told of, if not other ones."""
    inner = net
    while parameters is None and isinstance(inner, Procedure):
        told = getattr(inner.method, "parameters", None)
        if told is not None:
            return told
        inner = inner.net
    return chosen(net, parameters)


@dataclass(frozen=True)
class _ChainGraphOf:
    """What `chain_graph` returns for a function."""

    net: Function
    operations: bool
    parameters: tuple[Argument, ...] | None

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
            program = trace(self.net, args, kwargs)
            hidden = parameters_of(program, self.parameters)
            given = _inputs(self.net, args, kwargs, program, hidden)
            graph = _graph(program, given, self.operations)

        if abstract:
            jax.eval_shape(look, [leaves[k] for k in abstract])
        else:
            look([])
        assert graph is not None
        return graph


def chain_graph(
    net: Function,
    *,
    operations: bool = False,
    parameters: int | str | Sequence[int | str] | None = None,
) -> Callable[..., ChainGraph]:
    """The chain graph of a network: its components and what each depends on.

        P(X_2, …, X_L | X_1) = prod_l P(X_l | parents of X_l)

    A component is an array of nodes marked by `cgjax.node`, `noise` or `observe`; its parents are
    the components and inputs that its natural parameter is computed from, through no other node.
    A component inside `lax.scan` or another loop is shown once, with edges through time; one whose
    elements touch, such as a chain, has an undirected edge to itself.

    Parameters are no vertices. They are what they are for `cgjax.lift`: arrays that the function
    closes over; variables of modules; and, in a function that takes no such variables, the first of
    several arguments that is a container of arrays, or those that `parameters` names.

    Args:
        net: a network, as a function of arrays, or a Flax module.
        operations: whether what is computed between nodes is shown too, so that a network without
            nodes has a picture: one box for what a module, or a scope of `jax.named_scope`,
            computes without others inside; elsewhere one for a linear map with what is added to it,
            or for what hangs together of other functions.
        parameters: which of the network's arguments are parameters: a position, a name, or several
            of these; `()` if none is.

    Returns:
        A function of the network's arguments, which may be `jax.ShapeDtypeStruct`, that returns a
        `ChainGraph`. It prints as a table, shows itself as a picture in notebooks, and is drawn by
        `draw("graph.svg")`, `draw("graph.png")` or `to_mermaid()`.

    Raises:
        TypeError: if `parameters` is no position or name.
        ValueError: for an argument that `parameters` names and the network does not have.

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
        >>> layer = lambda parameters, x: jnp.tanh(x @ parameters["w"])
        >>> show = cg.chain_graph(layer, operations=True)
        >>> print(show({"w": jnp.ones((3, 2))}, jnp.ones(3)))
        Chain graph of 0 components, 2 operations; inputs: x (3,)
        component           family  shape  parents
        dot_0 (operation)   dot     (2,)   x
        tanh_0 (operation)  tanh    (2,)   dot_0
        result                      (2,)   tanh_0

    Source: [A] section 2.1, Eq. 1.
    """
    return _ChainGraphOf(net, operations, _parameters(net, parameters))
