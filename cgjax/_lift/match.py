"""Recognising activations: templates, traced like any function, unified with a program.

A template is an ordinary function of x (leaky ReLUs: of x and a slope). It matches an operation if
both compute the same from some x: the same primitives with the same parameters, backwards from the
result, whichever way around commutative operands and comparisons are written, and with equal
constants whatever functions or broadcasts they come through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax._cache import recent
from cgjax._node import node_p
from cgjax._program.operations import Flat, Operation, Scope


def _divided(e: Any, axis: int) -> Any:
    return e / e.sum(axis, keepdims=True)


def _largest(x: Any, axis: int) -> Any:
    return x.max(axis, keepdims=True)


_ELEMENTWISE: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "softplus": (
        jax.nn.softplus,
        lambda x: jnp.logaddexp(0, x),
        lambda x: jnp.log1p(jnp.exp(x)),
        lambda x: jnp.log(1 + jnp.exp(x)),
        lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
    ),
    "logistic": (
        jax.nn.sigmoid,
        lambda x: 1 / (1 + jnp.exp(-x)),
        lambda x: jnp.reciprocal(1 + jnp.exp(-x)),
        lambda x: jnp.exp(x) / (1 + jnp.exp(x)),
        lambda x: 0.5 * (jnp.tanh(0.5 * x) + 1),
        lambda x: 0.5 * (jnp.tanh(x / 2) + 1),
        lambda x: (jnp.tanh(0.5 * x) + 1) / 2,
        lambda x: (jnp.tanh(x / 2) + 1) / 2,
        lambda x: 0.5 * jnp.tanh(0.5 * x) + 0.5,
        lambda x: 0.5 * jnp.tanh(x / 2) + 0.5,
    ),
    "tanh": (jnp.tanh,),
    "relu": (
        jax.nn.relu,
        lambda x: jnp.where(x > 0, x, 0),
        lambda x: jnp.where(x >= 0, x, 0),
        lambda x: jnp.where(x < 0, 0, x),
        lambda x: jnp.where(x <= 0, 0, x),
        lambda x: x * (x > 0),
        lambda x: x * (x >= 0),
        lambda x: (x + jnp.abs(x)) / 2,
        lambda x: 0.5 * (x + jnp.abs(x)),
    ),
}
_LEAKY: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, s: jnp.where(x >= 0, x, s * x),
    lambda x, s: jnp.where(x > 0, x, s * x),
    lambda x, s: jnp.where(x < 0, s * x, x),
    lambda x, s: jnp.where(x <= 0, s * x, x),
    lambda x, s: jnp.maximum(x, s * x),
    lambda x, s: jnp.maximum(x, 0) + s * jnp.minimum(x, 0),
    lambda x, s: jax.nn.relu(x) + s * jnp.minimum(x, 0),
    lambda x, s: jax.nn.relu(x) - s * jax.nn.relu(-x),
)
_SOFTMAX: tuple[Callable[[Any, int], Any], ...] = (
    jax.nn.softmax,
    lambda x, k: _divided(jnp.exp(x - _largest(x, k)), k),
    lambda x, k: _divided(jnp.exp(x - lax.stop_gradient(_largest(x, k))), k),
    lambda x, k: _divided(jnp.exp(x), k),
    lambda x, k: jnp.exp(x - jax.scipy.special.logsumexp(x, axis=k, keepdims=True)),
    lambda x, k: jnp.exp(jax.nn.log_softmax(x, k)),
)

_COMMUTATIVE = frozenset("add mul max min add_any eq ne and or".split())
_MIRRORED = {"lt": "gt", "le": "ge"}
# Parameters that say nothing about the value.
_IGNORED = frozenset("sharding out_sharding accuracy weak_type name preferred_element_type".split())
_SCALAR_MOVES = frozenset("broadcast_in_dim convert_element_type reshape squeeze".split())


@dataclass(frozen=True)
class _Template:
    """A traced template: its operations, x first among the arguments, the slope second if any."""

    flat: Flat
    root: Operation

    @property
    def signature(self) -> tuple[str, frozenset[str]]:
        """The root's name, and names that its operands must come from."""
        made = (v for v in self.root.inputs if v not in self.flat.constants)
        producers = (self.flat.producer.get(v) for v in made)
        return self.root.name, frozenset(p.name for p in producers if p)


@dataclass(eq=False)
class Candidate:
    """An operation that is recognised as an activation.

    Attributes:
        function: its name: "relu", "leaky_relu", "tanh", "logistic", "softplus" or "softmax".
        x: the value it is applied to, the natural parameter.
        result: the value it computes.
        root: the operation that makes the result.
        inside: all operations that belong to it.
        slope: for leaky ReLU a number, or the value that holds it.
        axis: for softmax the class axis, negative.
    """

    function: str
    x: int
    result: int
    root: Operation
    inside: frozenset[int]
    slope: Any = None
    axis: int | None = None


def _trace(function: Callable[..., Any], *arguments: Any) -> _Template:
    flat = Flat(jax.make_jaxpr(function)(*arguments))
    return _Template(flat, flat.producer[flat.results[0]])


@recent(2048)
def _template(function: str, variant: int, shape: tuple[int, ...], dtype: Any) -> _Template:
    x = jax.ShapeDtypeStruct(shape, dtype)
    if function == "leaky_relu":
        return _trace(_LEAKY[variant], x, jax.ShapeDtypeStruct((), dtype))
    if function == "softmax":
        variant, axis = divmod(variant, len(shape))
        return _trace(partial(_SOFTMAX[variant], **{"axis" if variant == 0 else "k": axis}), x)
    return _trace(_ELEMENTWISE[function][variant], x)


# From large to small: softplus holds a relu, and one form of the logistic a tanh.
_FUNCTIONS = ("softmax", "softplus", "logistic", "leaky_relu", "relu", "tanh")


def _variants(function: str, ndim: int) -> int:
    if function == "leaky_relu":
        return len(_LEAKY)
    if function == "softmax":
        return len(_SOFTMAX) * ndim
    return len(_ELEMENTWISE[function])


@recent(1)
def _roots() -> dict[str, list[tuple[str, int, frozenset[str]]]]:
    """For each primitive the templates that end in it, found once on a small example."""
    found: dict[str, list[tuple[str, int, frozenset[str]]]] = {}
    for function in _FUNCTIONS:
        for variant in range(_variants(function, 1)):
            name, operands = _template(function, variant, (2,), np.dtype("float32")).signature
            found.setdefault(name, []).append((function, variant, operands))
    return found


def _canonical(op: Operation) -> tuple[str, list[int]]:
    if op.name in _MIRRORED:
        return _MIRRORED[op.name], op.inputs[::-1]
    return op.name, op.inputs


def _parameters(op: Operation) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(map(plain, value))
        return int(value) if isinstance(value, np.integer) else value

    return {k: plain(v) for k, v in op.params.items() if k not in _IGNORED}


class _Unifier:
    """One attempt to unify a template with an operation of a program."""

    def __init__(self, template: _Template, flat: Flat):
        self.pattern, self.flat = template.flat, flat
        self.x, *rest = template.flat.arguments
        self.slope = rest[0] if rest else None
        self.bound: dict[int, Any] = {}
        self.inside: set[int] = set()

    def operation(self, p: Operation, a: Operation) -> bool:
        name, wanted = _canonical(p)
        found_name, found = _canonical(a)
        if name != found_name or len(wanted) != len(found):
            return False
        if _parameters(p) != _parameters(a):
            return False
        before = dict(self.bound), set(self.inside)
        for order in (found, found[::-1]) if name in _COMMUTATIVE else (found,):
            if all(map(self.value, wanted, order)):
                self.inside.add(id(a))
                return True
            self.bound, self.inside = dict(before[0]), set(before[1])
        return False

    def value(self, p: int, a: int) -> bool:
        pattern, flat = self.pattern, self.flat
        if p in pattern.constants:
            return a in flat.constants and bool(pattern.constants[p] == flat.constants[a])
        if p == self.x:
            same = pattern.avals[p].shape == flat.avals[a].shape
            return same and pattern.avals[p].dtype == flat.avals[a].dtype and self.bind(p, a)
        if self.slope is not None and pattern.source_of(p, _SCALAR_MOVES) == self.slope:
            while flat.avals[a].shape and (op := flat.producer.get(a)) and op.name in _SCALAR_MOVES:
                a = op.inputs[0]
            if a in flat.constants:
                a = flat.source_of(a, _SCALAR_MOVES)  # as written, before any conversion
            return flat.avals[a].shape == () and self.bind(self.slope, a)
        wanted, found = pattern.producer.get(p), flat.producer.get(a)
        return wanted is not None and found is not None and self.operation(wanted, found)

    def bind(self, p: int, a: int) -> bool:
        return self.bound.setdefault(p, a) == a


def _matches(flat: Flat, op: Operation) -> Iterator[Candidate]:
    result = op.outputs[0]
    aval = flat.avals[result]
    if result in flat.constants or not jnp.issubdtype(aval.dtype, jnp.floating):
        return
    operands = {p.name for v in op.inputs if (p := flat.producer.get(v))}
    operands |= {_MIRRORED[name] for name in operands & set(_MIRRORED)}
    for function, first, needed in _roots().get(op.name, ()):
        if not {_MIRRORED.get(name, name) for name in needed} <= operands:
            continue
        axes = len(aval.shape) if function == "softmax" else 1
        for axis in range(axes):
            variant = first * axes + axis
            template = _template(function, variant, tuple(aval.shape), np.dtype(aval.dtype))
            attempt = _Unifier(template, flat)
            if not attempt.operation(template.root, op) or attempt.x not in attempt.bound:
                continue
            yield Candidate(
                function,
                attempt.bound[attempt.x],
                result,
                op,
                frozenset(attempt.inside),
                None if attempt.slope is None else attempt.bound[attempt.slope],
                axis - axes if function == "softmax" else None,
            )


def _marked(flat: Flat) -> set[int]:
    """The operations that compute the activations of nodes which are marked already."""
    inside: set[int] = set()
    for op in flat.operations:
        if op.name != node_p.name:
            continue
        activation, *rest = op.inputs
        stop, pending = set(rest), [activation]
        while pending:
            value = pending.pop()
            made_by = flat.producer.get(value)
            if value not in stop and made_by is not None and id(made_by) not in inside:
                inside.add(id(made_by))
                pending.extend(made_by.inputs)
    return inside


def candidates(flat: Flat) -> list[Candidate]:
    """All activations of a program, those inside larger ones left out, in walking order."""
    found = [c for op in flat.operations if (c := next(_matches(flat, op), None)) is not None]
    taken = _marked(flat)
    for candidate in found:
        taken |= candidate.inside - {id(candidate.root)}
    found = [c for c in found if id(c.root) not in taken]
    for candidate in found:
        if candidate.slope in flat.constants:
            # The shortest number that rounds to the slope: 0.01, not 0.009999999776482582.
            candidate.slope = float(str(flat.constants[candidate.slope]))
        elif candidate.slope is not None:
            candidate.slope = Slope(candidate.slope)
    return found


@dataclass(frozen=True)
class Slope:
    """A slope that is no constant: the value that holds it."""

    value: int


def enclosing(scope: Scope) -> Iterator[Scope]:
    """The calls that a scope lies in, up to the loop or branch or the top."""
    at: Scope | None = scope
    while at is not None and at.kind not in ("top", "body"):
        yield at
        at = at.parent
