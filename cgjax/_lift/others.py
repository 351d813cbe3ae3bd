"""What else bends data: functions that are not recognised as activations."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from cgjax._lift.match import marked
from cgjax._lift.purpose import Roles
from cgjax._lift.segments import segment_softmaxes
from cgjax._program.operations import Operation, enclosing

_NAMES = {"integer_pow": "power", "pow": "power", "mul": "square", "select_n": "where"}
_SEVERAL = (
    "a softmax over several axes: `Categorical` is one variable for each slice along one axis"
)
_OF_SEGMENTS = "a softmax over segments of several sizes: no node family has one without an axis"


class Other(NamedTuple):
    """A function of data that is not linear, and is no activation.

    Attributes:
        function: the name of the library's function that it lies in, or of the operation.
        shape: of its result.
        source: the line of user code.
        reason: why it is no activation.
    """

    function: str
    shape: tuple[int, ...]
    source: str
    reason: str


def others(roles: Roles) -> tuple[Other, ...]:
    """The functions of one value that are not linear, and belong to no activation or node.

    Softmaxes over segments, and over several axes, are among them.
    """
    flat, segments = roles.flat, segment_softmaxes(roles)
    taken = marked(flat)
    for candidate in roles.candidates:
        taken |= candidate.inside
    found: dict[Hashable, Other] = {}
    for op in flat.operations:
        if id(op) in taken or not _bends(op, roles):
            continue
        shape = tuple(flat.avals[op.outputs[0]].shape)
        if id(op) in segments:
            source = segments[id(op)].source
            found.setdefault(id(op), Other("segment_softmax", shape, source, _OF_SEGMENTS))
            continue
        if _of_several_axes(op, roles):
            found.setdefault(id(op), Other("softmax", shape, op.source, _SEVERAL))
            continue
        libraries = [scope for scope in enclosing(op.scope) if scope.library]
        key = id(libraries[-1]) if libraries else (op.name, shape, op.source)
        name = libraries[-1].library.lstrip("_") if libraries else _NAMES.get(op.name, op.name)
        found.setdefault(key, Other(name, shape, op.source, _reason(op, roles)))
    return tuple(found.values())


def _of_several_axes(op: Operation, roles: Roles) -> bool:
    """Whether it is the exponential of a softmax whose classes lie along several axes."""
    if op.eqn.primitive is not lax.exp_p:
        return False
    uses = [use for use, _ in roles.flat.consumers.get(op.outputs[0], ())]
    shape = roles.flat.avals[op.outputs[0]].shape
    sums = [use for use in uses if use.facts.reduces == "sum" and "axes" in use.params]
    several = any(sum(shape[a] > 1 for a in use.params["axes"]) > 1 for use in sums)
    return several and any(use.facts.divides for use in uses)


def _bends(op: Operation, roles: Roles) -> bool:
    """Whether an operation makes a curve or a choice of one value of data."""
    known, on = op.facts, roles.on
    if not known.elementwise or op.name != op.eqn.primitive.name:
        return False
    if not jnp.issubdtype(roles.flat.avals[op.outputs[0]].dtype, jnp.inexact):
        return False
    random = [on.is_data(v) for v in op.inputs]
    if known.is_linear(random) or _is_identity(op, roles):
        return False
    if op.eqn.primitive is lax.select_n_p:
        return random[0] and on.origin(op.inputs[0]) not in on.raw  # which is a mask
    forms = (roles.forms.of[v] for v, is_data in zip(op.inputs, random, strict=True) if is_data)
    return len({(form.core, form.axes) for form in forms}) == 1


def _is_identity(op: Operation, roles: Roles) -> bool:
    """Whether an operation changes no number: it stops derivatives, or bounds at infinity."""
    bounds = [float(roles.flat.constants.get(v, 0)) for v in op.inputs]
    if op.eqn.primitive in (lax.max_p, lax.min_p):
        return (-inf if op.eqn.primitive is lax.max_p else inf) in bounds
    return op.facts.moves and op.facts.converts


def _reason(op: Operation, roles: Roles) -> str:
    if op.facts.multiplies or (op.facts.powers and op.name != "exp"):
        return "a power, a root or a logarithm: of losses and normalisers"
    if op.eqn.primitive is lax.select_n_p:
        return "a choice by data between values that are no activation together"
    if op.facts.curvature == "stepped":
        return "it jumps: its derivative is 0"
    return "no node family has this function as its mean"
