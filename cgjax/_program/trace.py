"""Tracing: from a function and its arguments to a program with a list of its nodes."""

from __future__ import annotations

from collections.abc import (
    Hashable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from dataclasses import dataclass, replace

import jax
from jax._src import config as jax_config
from jax._src.source_info_util import Scope as NamedScope
from jax.extend.core import JaxprEqn

from cgjax import _cache, _static
from cgjax._component import tracing_a_network
from cgjax._module_names import named_calls, named_modules, scopes_in
from cgjax._node import SCOPE_PREFIX, node_p
from cgjax._program.control import Call, Scan, While, control
from cgjax._program.jaxprs import (
    AnyJaxpr,
    aval,
    holds_inner_consts,
    open_jaxpr,
    same_code,
    source,
    sub_jaxprs,
)
from cgjax._program.outputs import output_sites
from cgjax._program.primitives import facts
from cgjax._program.program import Program, Site
from cgjax._static import Function, Leaf, Tree, Treedef


class UnsupportedPrimitiveError(TypeError):
    """Nodes lie inside a primitive that cgjax cannot enter."""


def trace(
    function: Function, args: Sequence[Tree], kwargs: Mapping[str, Tree] | None = None
) -> Program:
    """Traces a function at the shapes of its arguments and lists its nodes.

    Programs are cached by function, shapes and static arguments. A function that closes over arrays
    is traced at every call, because those may be others; only its `code` is kept.
    """
    structure, arrays = _static.split((args, kwargs or {}), numbers=True)
    avals = tuple(_aval_key(a) for a in arrays)
    try:
        key = (structure, avals, jax_config.trace_context())
        cached = _cache.programs.of(function)
        if key in cached:
            return cached[key]
    except TypeError:  # an unhashable argument, or a callable that takes no weak reference
        key, cached = None, {}
    out_tree: Treedef = None

    def flat(*arrays: Leaf) -> list[Leaf]:
        nonlocal out_tree
        args, kwargs = _static.join(structure, arrays)
        with named_modules(function, args, kwargs), named_calls():
            out = function(*args, **kwargs)
        leaves, out_tree = jax.tree.flatten(out, is_leaf=_is_loose)
        for leaf in leaves:
            _check_result(leaf)
        return leaves

    with tracing_a_network():
        jaxpr = jax.make_jaxpr(flat)(*arrays)
    program = program_of(jaxpr, out_tree, structure)
    if key is None or holds_inner_consts(jaxpr):
        return program
    if program.closed_over:
        return replace(program, code=_code(function, key, program))
    cached[key] = program
    return program


def _is_loose(value: object) -> bool:
    """Whether a value is passed through once, or in no fixed order, and so is no tree."""
    return isinstance(value, Iterator | Set | KeysView | ValuesView | ItemsView)


def _check_result(leaf: Leaf) -> None:
    is_number = isinstance(leaf, bool | int | float | complex)
    if not (is_number or _static.is_array(leaf) or hasattr(leaf, "__jax_array__")):
        raise TypeError(
            f"The network returned {_static.described(leaf)}; a network returns an array, or a "
            "tree of arrays (tuples, lists, dicts)."
        )


def _code(function: Function, key: Hashable, program: Program) -> Program | None:
    """What is the same in all programs traced from a function that closes over arrays.

    A function may say by `traced_as` that it is another one with options, which may hold arrays.
    """
    traced_as = getattr(function, "traced_as", None)
    owner, options = (function, None) if traced_as is None else traced_as()
    try:
        codes = _cache.codes.of(owner)
        known = codes.setdefault((options, key), program.closing_over(()))
    except TypeError:  # as in `trace`
        return None
    same = known.sites == program.sites and known.out_tree == program.out_tree
    # Another program: the function depends on more than its arguments and arrays.
    return known if same and same_code(known.jaxpr, program.jaxpr) else None


def _aval_key(x: Leaf) -> tuple[Hashable, bool]:
    aval = jax.typeof(x)
    return (aval, getattr(aval, "weak_type", False))


@dataclass(frozen=True)
class _Place:
    """Where an equation lies.

    Attributes:
        scopes: the names of JAX's scopes around it, as they were set, outermost first.
        lengths: the lengths of the scans around it, outermost first.
        in_while: whether it lies in a loop of unknown length.
        custom: the custom-derivative call it lies in, if any.
    """

    scopes: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    in_while: bool = False
    custom: str | None = None

    def inside(self, eqn: JaxprEqn) -> _Place:
        """The place of what an equation holds."""
        scopes = (*self.scopes, *named_scopes(eqn))
        match control(eqn, eqn.invars):
            case Scan(length=length):
                return replace(self, scopes=scopes, lengths=(*self.lengths, length))
            case While():
                return replace(self, scopes=scopes, in_while=True)
            case Call(kind="custom"):
                return replace(self, scopes=scopes, custom=self.custom or eqn.primitive.name)
        return replace(self, scopes=scopes)


def _nodes(jaxpr: AnyJaxpr) -> tuple[list[tuple[JaxprEqn, _Place]], dict[int, int]]:
    """The marks of nodes in a jaxpr, and how many each jaxpr inside holds, by identity."""
    counts: dict[int, int] = {}
    found: list[tuple[JaxprEqn, _Place]] = []

    def collect(jaxpr: AnyJaxpr, place: _Place) -> None:
        before = len(found)
        for eqn in open_jaxpr(jaxpr).eqns:
            if eqn.primitive is node_p:
                found.append((eqn, replace(place, scopes=(*place.scopes, *named_scopes(eqn)))))
                continue
            start = len(found)
            for sub in sub_jaxprs(eqn):
                collect(sub, place.inside(eqn))
            if len(found) > start and not facts(eqn).entered:
                raise UnsupportedPrimitiveError(
                    f"Nodes inside `{eqn.primitive.name}` at {source(eqn)} cannot be reached. Mark "
                    "the nodes outside it, or declare the part as a fused component with "
                    "`cgjax.component`."
                )
        counts[id(open_jaxpr(jaxpr))] = len(found) - before

    collect(jaxpr, _Place())
    return found, counts


def _named(found: Sequence[tuple[JaxprEqn, _Place]]) -> tuple[Site, ...]:
    """The nodes of a program under unique names."""
    taken: dict[str, int] = {}
    unnamed: dict[str, int] = {}
    sites = []
    for index, (eqn, place) in enumerate(found):
        params = eqn.params
        shaped = aval(eqn.outvars[0])
        scopes = _scopes_of_names(place.scopes, lifted=params["lifted"])
        name = params["name"]
        prefix = "".join(f"{s}/" for s in scopes[: len(scopes) - params["scopes_in_name"]])
        if name is None:
            family = prefix + params["family"].treedef.node_data()[0].__name__.lower()
            name = f"{family}_{unnamed.get(family, 0)}"
            unnamed[family] = unnamed.get(family, 0) + 1
        else:
            name = prefix + name
        repeats = taken.get(name, 0)
        taken[name] = repeats + 1
        site = Site(
            index=index,
            name=f"{name}#{repeats}" if repeats else name,
            kind=params["kind"],
            family=params["family"],
            shape=tuple(shaped.shape),
            dtype=shaped.dtype,
            lengths=place.lengths,
            in_while=place.in_while,
            custom=place.custom,
            differentiated=params["differentiated"],
            source=source(eqn),
            num_scopes=len(scopes),
            lifted=params["lifted"],
        )
        sites.append(site)
    return tuple(sites)


def program_of(jaxpr: AnyJaxpr, out_tree: Treedef, in_structure: _static.Structure) -> Program:
    """The program of a closed jaxpr: finds its nodes and names them."""
    found, counts = _nodes(jaxpr)
    program = Program(jaxpr, out_tree, in_structure, _named(found), counts)
    outputs = output_sites(program)
    return replace(
        program, sites=tuple(replace(s, output=s.index in outputs) for s in program.sites)
    )


def named_scopes(eqn: JaxprEqn) -> tuple[str, ...]:
    """The names of JAX's scopes that an equation lies in, within its function."""
    # Transformations under way, such as `jvp`, are on the stack too; they are no scopes.
    return tuple(e.name for e in eqn.source_info.name_stack.stack if isinstance(e, NamedScope))


def _scopes_of_names(scopes: tuple[str, ...], *, lifted: bool) -> tuple[str, ...]:
    """Those of JAX's scopes that the names of nodes have: for lifted ones all, else cgjax's."""
    if not lifted:
        return tuple(s.removeprefix(SCOPE_PREFIX) for s in scopes if s.startswith(SCOPE_PREFIX))
    return scopes_in(tuple(s.removeprefix(SCOPE_PREFIX) for s in scopes))
