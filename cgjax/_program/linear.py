"""Linearity of expectation: which values of a program determine the expectation of its result.

The last operations of a network are often linear in what is random: a matrix product with constant
weights, a sum, a concatenation. The expectation of the result then follows from the expectations of
the operands, one by one, for which fewer nodes need to be known jointly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from cgjax._node import node_p
from cgjax._program.flow import parents
from cgjax._program.jaxprs import Literal, bind, consts, open_jaxpr
from cgjax._program.program import Program

# Linear in all operands jointly; in the first for fixed others; in each for fixed others.
_JOINTLY = frozenset(
    "add add_any sub neg concatenate reshape transpose broadcast_in_dim squeeze expand_dims slice "
    "rev split stack unstack tile reduce_sum cumsum convert_element_type copy pad".split()
)
_IN_THE_FIRST = frozenset("div dynamic_slice gather reduce_window_sum".split())
_IN_EACH = frozenset("mul dot_general conv_general_dilated".split())


@dataclass(frozen=True)
class Linear:
    """A program's result as an affine function of some of its values.

    Attributes:
        values: the program that returns these values, as a list.
        nodes: for each value the index of the node whose statistic it is, or None.
        depends: for each value the nodes that it is a function of.
        of_node: the parents of each node.
        combine: `combine(arrays, values) -> result`.
    """

    values: Program
    nodes: tuple[int | None, ...]
    depends: tuple[frozenset[int], ...]
    of_node: dict[int, frozenset[int]]
    combine: Callable[[Sequence[Any], Sequence[Any]], Any]

    def parents_of_value(self, number: int) -> frozenset[int]:
        """The nodes to average a value over: of a node's statistic, the node's parents."""
        node = self.nodes[number]
        return self.depends[number] if node is None else self.of_node[node]


@dataclass(frozen=True)
class _Open:
    """A jaxpr with other results, as far as walking it goes."""

    constvars: Sequence[Any]
    invars: Sequence[Any]
    eqns: Sequence[Any]
    outvars: Sequence[Any]


@dataclass(frozen=True)
class _Closed:
    jaxpr: _Open
    consts: Sequence[Any]


def _returning(program: Program, variables: Sequence[Any]) -> Program:
    inner = open_jaxpr(program.jaxpr)
    view = _Open(inner.constvars, inner.invars, inner.eqns, list(variables))
    out_tree = jax.tree.structure([0] * len(variables))
    return replace(program, jaxpr=_Closed(view, consts(program.jaxpr)), out_tree=out_tree)


def _is_linear(eqn: Any, random: Sequence[bool]) -> bool:
    """Whether an equation is linear in those of its operands that are random."""
    name = eqn.primitive.name
    if not all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars):
        return False  # rounding to integers is not linear
    if name in _JOINTLY:
        return True
    if name == "select_n":
        return not random[0]
    if name in _IN_THE_FIRST:
        return not any(random[1:])
    return name in _IN_EACH and sum(random) <= 1


def linear(program: Program) -> Linear:
    """Splits a program into values that its result is affine in, and the affine function.

    The values are as early as the operations allow: statistics of nodes, and nonlinear functions of
    them. Nodes inside branches and loops are not looked into.
    """
    inner = open_jaxpr(program.jaxpr)
    variables = [v for eqn in inner.eqns for v in eqn.outvars]
    tags = parents(_returning(program, variables))[1]
    direct = {v: frozenset(i for i, _ in t) for v, t in zip(variables, tags, strict=True)}
    marks = {e.outvars[0]: e for e in inner.eqns if e.primitive is node_p}
    levels: dict[int, frozenset[int]] = {}

    def known_through(nodes: frozenset[int]) -> frozenset[int]:
        """The nodes, and those that say what values the states of these stand for."""
        return nodes.union(*(levels[i] for i in nodes if i in levels))

    for v, eqn in marks.items():
        parameters = eqn.invars[2 : 2 + eqn.params["family"].num_arrays]
        sets = (direct.get(p, frozenset()) for p in parameters if not isinstance(p, Literal))
        if found := known_through(frozenset().union(*sets)):
            levels[next(iter(direct[v]))] = found
    depends = {v: known_through(nodes) for v, nodes in direct.items()}
    of_node = {
        i: known_through(frozenset(p for p, _ in t))
        for i, t in parents(program, deciding=True)[0].items()
    }

    def is_random(v: Any) -> bool:
        return not isinstance(v, Literal) and bool(depends.get(v))

    needed = {v for v in inner.outvars if not isinstance(v, Literal)}
    evaluated, cut = [], []
    for eqn in reversed(inner.eqns):
        wanted = [v for v in eqn.outvars if v in needed]
        if not wanted:
            continue
        random = [is_random(v) for v in eqn.invars]
        nonlinear = eqn.primitive is node_p or not _is_linear(eqn, random)
        if nonlinear and any(map(is_random, wanted)):
            cut.extend(reversed(wanted))
            continue
        evaluated.append(eqn)
        needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    evaluated.reverse()
    cut.reverse()
    nodes = tuple(next(iter(direct[v])) if v in marks else None for v in cut)

    def combine(arrays: Sequence[Any], values: Sequence[Any]) -> Any:
        env = dict(zip(inner.constvars, consts(program.jaxpr), strict=True))
        env.update(zip(inner.invars, arrays, strict=True))

        def read(v: Any) -> Any:
            return v.val if isinstance(v, Literal) else env[v]

        for v, value in zip(cut, values, strict=True):
            # Expectations of integers are no integers: those keep the dtype they come in.
            dtype = v.aval.dtype if jnp.issubdtype(v.aval.dtype, jnp.inexact) else value.dtype
            env[v] = jnp.asarray(value, dtype)
        for eqn in evaluated:
            with eqn.ctx.manager:
                outs = bind(eqn, [read(v) for v in eqn.invars])
            env.update(zip(eqn.outvars, outs, strict=True))
        return jax.tree.unflatten(program.out_tree, [read(v) for v in inner.outvars])

    return Linear(_returning(program, cut), nodes, tuple(depends[v] for v in cut), of_node, combine)
