"""Tracing: from a function and its arguments to a program with a list of its nodes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
from jax._src import config as jax_config

from cgjax import _cache, _static
from cgjax._component import tracing_a_network
from cgjax._node import SCOPE_PREFIX, node_p
from cgjax._program.flow import output_sites
from cgjax._program.jaxprs import (
    CUSTOM,
    ENTERED,
    holds_inner_consts,
    open_jaxpr,
    same_code,
    source,
    sub_jaxprs,
)
from cgjax._program.program import Program, Site


class UnsupportedPrimitiveError(TypeError):
    """Nodes lie inside a primitive that cgjax cannot enter."""


def trace(function: Callable[..., Any], args: Any, kwargs: Any | None = None) -> Program:
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
    out_tree = None

    def flat(*arrays: Any) -> list[Any]:
        nonlocal out_tree
        args, kwargs = _static.join(structure, arrays)
        leaves, out_tree = jax.tree.flatten(function(*args, **kwargs))
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


def _code(function: Any, key: Any, program: Program) -> Program | None:
    """What is the same in all programs traced from a function that closes over arrays.

    A function may say by `traced_as` that it is another one with options, which may hold arrays.
    """
    owner, options = function.traced_as() if hasattr(function, "traced_as") else (function, None)
    try:
        codes = _cache.codes.of(owner)
        known = codes.setdefault((options, key), program.closing_over(()))
    except TypeError:  # as in `trace`
        return None
    same = known.sites == program.sites and known.out_tree == program.out_tree
    # Another program: the function depends on more than its arguments and arrays.
    return known if same and same_code(known.jaxpr, program.jaxpr) else None


def _aval_key(x: Any) -> Any:
    aval = jax.typeof(x)
    return (aval, getattr(aval, "weak_type", False))


def program_of(jaxpr: Any, out_tree: Any, in_structure: _static.Structure) -> Program:
    """The program of a closed jaxpr: finds its nodes and names them."""
    counts: dict[int, int] = {}
    found: list[tuple[Any, tuple[str, ...], tuple[int, ...], bool, str | None]] = []

    def collect(jaxpr: Any, scopes: Any, lengths: Any, in_while: bool, custom: Any) -> int:
        before = len(found)
        for eqn in open_jaxpr(jaxpr).eqns:
            inner = (*scopes, *_scopes(eqn))
            if eqn.primitive is node_p:
                found.append((eqn, inner, lengths, in_while, custom))
                continue
            name = eqn.primitive.name
            start = len(found)
            for sub in sub_jaxprs(eqn):
                collect(
                    sub,
                    inner,
                    (*lengths, eqn.params["length"]) if name == "scan" else lengths,
                    in_while or name == "while",
                    custom or (name if name in CUSTOM else None),
                )
            if len(found) > start and name not in ENTERED:
                raise UnsupportedPrimitiveError(
                    f"Nodes inside `{name}` at {source(eqn)} cannot be reached. Mark the nodes "
                    "outside it, or declare the part as a fused component with `cgjax.component`."
                )
        counts[id(open_jaxpr(jaxpr))] = len(found) - before
        return len(found) - before

    collect(jaxpr, (), (), False, None)
    taken: dict[str, int] = {}
    unnamed: dict[str, int] = {}
    sites = []
    for index, (eqn, scopes, lengths, in_while, custom) in enumerate(found):
        params = eqn.params
        aval = eqn.outvars[0].aval
        site = Site(
            index=index,
            name="",
            kind=params["kind"],
            family=params["family"],
            shape=tuple(aval.shape),
            dtype=aval.dtype,
            lengths=lengths,
            in_while=in_while,
            custom=custom,
            differentiated=params["differentiated"],
            source=source(eqn),
            num_scopes=len(scopes),
        )
        name = params["name"]
        prefix = "".join(f"{s}/" for s in scopes[: len(scopes) - params["scopes_in_name"]])
        if name is None:
            family = prefix + site.family_type.__name__.lower()
            name = f"{family}_{unnamed.get(family, 0)}"
            unnamed[family] = unnamed.get(family, 0) + 1
        else:
            name = prefix + name
        repeats = taken.get(name, 0)
        taken[name] = repeats + 1
        sites.append(replace(site, name=f"{name}#{repeats}" if repeats else name))
    program = Program(jaxpr, out_tree, in_structure, tuple(sites), counts)
    outputs = output_sites(program)
    return replace(
        program, sites=tuple(replace(s, output=s.index in outputs) for s in program.sites)
    )


def _scopes(eqn: Any) -> tuple[str, ...]:
    stack = eqn.source_info.name_stack.stack
    names = (getattr(entry, "name", "") for entry in stack)
    return tuple(n.removeprefix(SCOPE_PREFIX) for n in names if n.startswith(SCOPE_PREFIX))
