"""Linearity of expectation: which values of a program determine the expectation of its result.

The last operations of a network are often linear in what is random: a matrix product with constant
weights, a sum, a concatenation. The expectation of the result then follows from the expectations of
the operands, one by one, for which fewer nodes need to be known jointly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Var, jaxpr_as_fun
from jax.typing import DTypeLike
from jaxtyping import Array

from cgjax._node import node_p
from cgjax._program.control import Call, control
from cgjax._program.degrees import Degree, degrees
from cgjax._program.flow import parents
from cgjax._program.inline import inlined
from cgjax._program.jaxprs import (
    Atom,
    Closed,
    Literal,
    Operand,
    aval,
    bind,
    consts,
    dtype,
    open_jaxpr,
    sub_jaxprs,
)
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._static import Tree

Nodes = frozenset[int]


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
    depends: tuple[Nodes, ...]
    of_node: dict[int, Nodes]
    combine: Callable[[Sequence[Operand], Sequence[Operand]], Tree]

    def parents_of_value(self, number: int) -> Nodes:
        """The nodes to average a value over: of a node's statistic, the node's parents."""
        node = self.nodes[number]
        return self.depends[number] if node is None else self.of_node[node]


@dataclass(frozen=True)
class _Dependence:
    """What the values of a program without calls depend on.

    Attributes:
        node: the node that a value is the statistic of.
        of_value: the nodes that a value is a function of, for those that are random.
        of_node: the parents of each node.
    """

    node: dict[Var, int]
    of_value: dict[Var, Nodes]
    of_node: dict[int, Nodes]

    def is_random(self, v: Var | Literal) -> bool:
        return not isinstance(v, Literal) and bool(self.of_value.get(v))


def returning(program: Program, variables: Sequence[Var]) -> Program:
    """The program with other results."""
    jaxpr = open_jaxpr(program.jaxpr).replace(outvars=list(variables))
    out_tree = jax.tree.structure([0] * len(variables))
    return replace(program, jaxpr=Closed(jaxpr, consts(program.jaxpr)), out_tree=out_tree)


def _dependence(program: Program) -> _Dependence:
    eqns = open_jaxpr(program.jaxpr).eqns
    variables = [v for eqn in eqns for v in eqn.outvars]
    tags = parents(returning(program, variables))[1]
    direct = {v: frozenset(i for i, _ in t) for v, t in zip(variables, tags, strict=True)}
    marks = {e.outvars[0]: e for e in eqns if e.primitive is node_p}
    levels: dict[int, Nodes] = {}

    def known_through(nodes: Nodes) -> Nodes:
        """The nodes, and those that say what values the states of these stand for."""
        return nodes.union(*(levels[i] for i in nodes if i in levels))

    for v, eqn in marks.items():
        parameters = eqn.invars[2 : 2 + eqn.params["family"].num_arrays]
        sets = (direct.get(p, frozenset()) for p in parameters if not isinstance(p, Literal))
        if found := known_through(frozenset().union(*sets)):
            levels[next(iter(direct[v]))] = found
    of_node = {
        i: known_through(frozenset(p for p, _ in t))
        for i, t in parents(program, deciding=True)[0].items()
    }
    of_value = {v: known_through(nodes) for v, nodes in direct.items()}
    return _Dependence({v: next(iter(direct[v])) for v in marks}, of_value, of_node)


def _split(program: Program, depends: _Dependence) -> tuple[list[JaxprEqn], list[Var]]:
    """The equations that are linear on the way to the result, and the values that they need."""
    inner = open_jaxpr(program.jaxpr)
    needed = {v for v in inner.outvars if not isinstance(v, Literal)}
    evaluated, cut = [], []
    for eqn in reversed(inner.eqns):
        wanted = [v for v in eqn.outvars if v in needed]
        if not wanted:
            continue
        operands = [Degree(depends.is_random(v)) for v in eqn.invars]
        of = dict(zip(eqn.outvars, degrees(eqn, operands), strict=True))
        others = [v for v in wanted if of[v] == Degree.OTHER and depends.is_random(v)]
        cut.extend(reversed(others))
        if linear := [v for v in wanted if v not in others]:
            evaluated.append(eqn)
            needed.update(_used(eqn, linear, depends))
    return evaluated[::-1], cut[::-1]


def _used(eqn: JaxprEqn, results: Sequence[Var], depends: _Dependence) -> list[Var]:
    """The operands of an equation that some of its results need."""

    def matters(k: int, v: Var) -> bool:
        if len(eqn.outvars) == 1 or not depends.is_random(v):
            return True
        alone = [Degree.OTHER if k == j else Degree.FIXED for j in range(len(eqn.invars))]
        of = dict(zip(eqn.outvars, degrees(eqn, alone), strict=True))
        return any(of[result] for result in results)

    operands = ((k, v) for k, v in enumerate(eqn.invars) if not isinstance(v, Literal))
    return [v for k, v in operands if matters(k, v)]


def linear(program: Program) -> Linear:
    """Splits a program into values that its result is affine in, and the affine function.

    The values are as early as the operations allow: statistics of nodes, and nonlinear functions of
    them. Calls are opened. Loops, branches and functions with a derivative of their own are taken
    as a whole: as linear, if that is what they do with what is random.
    """
    program = replace(program, jaxpr=inlined(program.jaxpr, program.counts))
    inner = open_jaxpr(program.jaxpr)
    depends = _dependence(program)
    evaluated, cut = _split(program, depends)
    inside = set(cut)

    def combine(arrays: Sequence[Operand], values: Sequence[Operand]) -> Tree:
        env = dict(zip(inner.constvars, consts(program.jaxpr), strict=True))
        env.update(zip(inner.invars, arrays, strict=True))

        def read(v: Atom) -> Operand:
            if isinstance(v, Literal):
                return v.val
            # What no result needs, as one of several arrays that are moved, may be anything.
            return env[v] if v in env else jnp.zeros(aval(v).shape, dtype(v))

        for v, value in zip(cut, values, strict=True):
            # Expectations of integers are no integers: those keep the dtype they come in.
            exact = not jnp.issubdtype(dtype(v), jnp.inexact)
            env[v] = jnp.asarray(value, value.dtype if exact else _wider(value.dtype, dtype(v)))
        for eqn in evaluated:
            random = list(map(depends.is_random, eqn.invars))
            with eqn.ctx.manager:
                outs = _at_expectations(eqn, list(map(read, eqn.invars)), random)
            found = zip(eqn.outvars, outs, strict=True)
            env.update((v, x) for v, x in found if v not in inside)
        results = [_as_declared(read(v), v) for v in inner.outvars]
        return jax.tree.unflatten(program.out_tree, results)

    nodes = tuple(map(depends.node.get, cut))
    of_cut = tuple(depends.of_value[v] for v in cut)
    return Linear(returning(program, cut), nodes, of_cut, depends.of_node, combine)


def _at_expectations(
    eqn: JaxprEqn, operands: Sequence[Operand], random: Sequence[bool]
) -> list[Operand]:
    """The results of an equation that is linear in what is random, at expectations of that.

    The derivative of E[f(x, w)] by what x depends on is the one of sum_x P(x) f(x, w), in which
    only P varies: where f is linear in x, that is its derivative as a function, whatever rule it
    has of its own. The rule counts for w.

    A conversion to fewer digits rounds the values of x, not their expectation, which keeps its own.
    """
    if not any(random):
        return bind(eqn, operands)
    if facts(eqn).rounds and _is_real(operands[0].dtype) and _is_real(dtype(eqn.outvars[0])):
        [x], [out] = operands, eqn.outvars
        return [lax.convert_element_type(x, _wider(x.dtype, dtype(out)))]
    if not sub_jaxprs(eqn):
        return bind(*_widened(eqn, operands))
    operands = list(map(_as_declared, operands, eqn.invars))
    call = control(eqn, operands)
    if not isinstance(call, Call) or call.kind != "custom":
        return bind(eqn, operands)
    pairs = list(zip(operands, random, strict=True))
    outs = bind(eqn, [lax.stop_gradient(x) if is_random else x for x, is_random in pairs])
    function = jaxpr_as_fun(call.body)
    plain = function(*(x if is_random else lax.stop_gradient(x) for x, is_random in pairs))
    return [_with_derivative(out, x) for out, x in zip(outs, plain, strict=True)]


def _with_derivative(value: Array, of: Array) -> Array:
    """A value, to whose derivative the one of an equal value is added."""
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    zero = of - lax.stop_gradient(of)
    return value + jnp.where(jnp.isfinite(of), zero, 0)


def _is_real(of: DTypeLike | None) -> bool:
    return of is not None and jnp.issubdtype(of, jnp.floating)


def _wider(one: DTypeLike, other: DTypeLike) -> DTypeLike:
    """The dtype of two that holds the numbers of both; of others than real ones, the second."""
    if not (_is_real(one) and _is_real(other)):
        return other
    a, b = jnp.finfo(one), jnp.finfo(other)
    if a.nmant >= b.nmant and a.maxexp >= b.maxexp:
        return one
    return other if b.nmant >= a.nmant and b.maxexp >= a.maxexp else jnp.float32


def _as_declared(x: Operand, v: Atom) -> Operand:
    """An expectation in the dtype of the values."""
    if isinstance(v, Literal) or not _is_real(dtype(v)):
        return x
    return lax.convert_element_type(x, dtype(v))


def _widened(eqn: JaxprEqn, operands: Sequence[Operand]) -> tuple[JaxprEqn, list[Operand]]:
    """An equation of real numbers in the widest dtype that its operands come in."""
    real = [_is_real(dtype(v)) for v in eqn.invars]
    pairs = list(zip(operands, eqn.invars, strict=True))
    came = [dtype(v) if isinstance(v, Literal) else x.dtype for x, v in pairs]
    kept = [of == dtype(v) for of, (_, v) in zip(came, pairs, strict=True)]
    if all(same or not is_real for same, is_real in zip(kept, real, strict=True)):
        return eqn, list(operands)
    widest = functools.reduce(_wider, (of for of, r in zip(came, real, strict=True) if r))
    params = {
        name: _wider(widest, value) if isinstance(value, np.dtype) and _is_real(value) else value
        for name, value in eqn.params.items()
    }
    wide = [jnp.asarray(x, widest) if r else x for x, r in zip(operands, real, strict=True)]
    return eqn.replace(params=params), wide
