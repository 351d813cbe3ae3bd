"""Evaluates a program equation by equation, and asks a visitor for the value of every node.

What the values are is handed in as a `Domain`: arrays, means and variances, or noise that is not
drawn yet. How loops, branches and calls are entered is handed in as well: see `control_flow` and
`unroll`. What travels with the evaluation is one record, the `Frame`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jax._src import source_info_util
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from cgjax import _static
from cgjax._node import node_p
from cgjax._program.jaxprs import AnyJaxpr, Atom, bind, consts, open_jaxpr, sub_jaxprs
from cgjax._program.program import Program
from cgjax._static import Function, Tree
from cgjax._walk.streams import Stream, Streams, Words
from cgjax._walk.visitor import Visitor

# A value of a domain: an array, or what the domain puts in its place.
Value: TypeAlias = Any
# What a visitor recorded, by the node's number.
Records = dict[int, Tree]
Results = tuple[list[Value], Records]


class Domain:
    """What values are, and what is done with them. This one is of arrays.

    A domain is never changed: what differs inside an equation, or in a turn of a loop, is another
    domain, so that a function may be traced as often as JAX likes.

    Attributes:
        counts_turns: whether `turn` looks at the number of a loop's turn.
    """

    counts_turns: ClassVar[bool] = False

    def scope(self, jaxpr: AnyJaxpr, constants: Sequence[object]) -> Domain:
        """The domain for the equations of a jaxpr, which closes over some arrays."""
        return self

    def inside(self, eqn: JaxprEqn, part: int) -> Domain:
        """The domain inside one of the functions that an equation holds."""
        return self

    def turn(self, turn: jax.Array | None, length: int | None) -> Domain:
        """The domain in one turn of a loop, whose number of turns may not be known."""
        return self

    def bound(self, variables: Sequence[Var], values: Sequence[Value]) -> list[Value]:
        """What variables are bound to: the arguments of a jaxpr, the results of an equation."""
        return list(values)

    def simplified(self, jaxpr: Jaxpr, nodes_in: Callable[[JaxprEqn], int]) -> Jaxpr:
        """A jaxpr that computes the same and is easier to follow."""
        return jaxpr

    def skipped(self, jaxpr: Jaxpr) -> frozenset[int]:
        """The equations of a jaxpr, by id, that need not be evaluated: their results are None."""
        return frozenset()

    def compute(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """The results of an equation that is not entered."""
        return bind(eqn, operands)

    def node(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> tuple[Value, Tree]:
        """The value of a node, whose number is the frame's, and what is recorded about it."""
        return walk.visit(eqn, operands, frame)

    def enters(self, eqn: JaxprEqn, operands: Sequence[Value]) -> bool:
        """Whether to enter an equation that holds no nodes."""
        return False

    def enter(
        self, walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> Results:
        """The results of an equation that is entered."""
        return walk.enter(walk, eqn, operands, frame)

    def leave(self, outs: Sequence[Value]) -> list[Value]:
        """What leaves a loop, a branch or a rematerialised part: pytrees of arrays."""
        return list(outs)

    def turned(self, outs: Sequence[Value], carried: int) -> list[Value]:
        """What leaves one turn of a loop; so many, the first, are handed on to the next."""
        return self.leave(outs)

    def stable(self, step: Function, carry: Sequence[Value], *rest: Value) -> list[Value]:
        """What a loop starts from, in the form that `step(carry, *rest)` leaves it in."""
        return list(carry)

    def alike(self, functions: Sequence[Function], operands: Sequence[Value]) -> Sequence[Function]:
        """Branches that return results of the same form."""
        return functions


@dataclass(frozen=True)
class Frame:
    """What travels with the evaluation into a part of a program.

    Attributes:
        domain: what the values are.
        start: the number of the first node inside.
        stream: the random streams of the scope, if anything is drawn.
        given: for some nodes, by number, an array that is handed to the visitor.
        words: random words of some nodes that are made already; None where that is still to do.
    """

    domain: Domain = field(default_factory=Domain)
    start: int = 0
    stream: Stream | None = None
    given: Mapping[int, jax.Array] = field(default_factory=dict)
    words: Mapping[int, Words] | None = None


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a program.

    Attributes:
        program: the traced function.
        visitor: what to do at a node.
        streams: which random streams its scopes have.
        enter: how an equation that holds functions is evaluated, given the evaluator, the equation,
            its operands and the frame.
    """

    program: Program
    visitor: Visitor
    streams: Streams
    enter: Callable[..., Results]

    def frames(self, eqn: JaxprEqn, frame: Frame) -> list[Frame]:
        """The frames of the functions that an equation holds, in order."""
        found, start = [], frame.start
        for part, sub in enumerate(sub_jaxprs(eqn)):
            found.append(replace(frame, start=start, domain=frame.domain.inside(eqn, part)))
            start += self.program.counts[id(open_jaxpr(sub))]
        return found

    def nodes_in(self, eqn: JaxprEqn) -> int:
        """How many nodes lie inside an equation."""
        return self.streams.nodes_in(eqn)

    def run(self, jaxpr: AnyJaxpr, values: Sequence[Value], frame: Frame) -> Results:
        """The results of a jaxpr, and what the visitor recorded inside."""
        if frame.words is None:
            words = self.streams.grouped(jaxpr, frame.start, frame.stream)
            frame = replace(frame, words=words)
        inner = frame.domain.simplified(open_jaxpr(jaxpr), self.nodes_in)
        frame = replace(frame, domain=frame.domain.scope(inner, consts(jaxpr)))
        env: dict[Var, Value] = dict(zip(inner.constvars, consts(jaxpr), strict=True))
        env.update(zip(inner.invars, frame.domain.bound(inner.invars, values), strict=True))
        records: Records = {}

        def read(v: Atom) -> Value:
            return v.val if isinstance(v, Literal) else env[v]

        skipped = frame.domain.skipped(inner)
        for eqn in inner.eqns:
            if id(eqn) in skipped:
                env.update((v, None) for v in eqn.outvars)
                continue
            operands = [read(v) for v in eqn.invars]
            stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
            with (
                source_info_util.user_context(eqn.source_info.traceback, name_stack=stack),
                eqn.ctx.manager,
            ):
                outs, recorded, count = self.equation(eqn, operands, frame)
                outs = frame.domain.bound(eqn.outvars, outs)
            env.update(zip(eqn.outvars, outs, strict=True))
            records.update({i: r for i, r in recorded.items() if r is not None})
            if count:
                frame = replace(frame, start=frame.start + count)
        return [read(v) for v in inner.outvars], records

    def equation(
        self, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> tuple[list[Value], Records, int]:
        """The results of an equation, what was recorded, and how many nodes it holds."""
        if eqn.primitive is node_p:
            out, record = frame.domain.node(self, eqn, operands, frame)
            return [out], {frame.start: record}, 1
        if (count := self.nodes_in(eqn)) or frame.domain.enters(eqn, operands):
            return *frame.domain.enter(self, eqn, operands, frame), count
        return frame.domain.compute(eqn, operands), {}, 0

    def visit(
        self, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame
    ) -> tuple[jax.Array, Tree]:
        """A node's value and its record, as the visitor has them, of arrays."""
        index, stream, words = frame.start, frame.stream, frame.words or {}
        site = self.program.sites[index]
        if site.differentiated and self.visitor.changes(site):
            raise TypeError(
                f"The network differentiates through its node {site.name!r} ({site.source}), and "
                "a derivative of the activation is not the derivative of a sample. Keep the node "
                "collapsed, or take the derivative outside the procedure."
            )
        activation, e = map(jnp.asarray, operands[:2])
        family = _static.join(site.family, operands[2 : 2 + site.family.num_arrays])

        def draw() -> Words:
            if index in words:
                return _sharded_as(e, words[index])
            if stream is None:
                raise TypeError("A procedure that samples needs a key as its first argument.")
            return _sharded_as(e, self.streams.words(index, stream))

        given = frame.given.get(index)
        value, record = self.visitor.visit(site, family, activation, e, draw, given)
        return jnp.asarray(value, site.dtype), record


def _sharded_as(e: jax.Array, words: Words) -> Words:
    """A node's words, sharded as its natural parameter where shardings are part of the type."""
    sharding = jax.typeof(e).sharding
    if all(axis is None for axis in sharding.spec):
        return words
    return jax.sharding.reshard(words[0], sharding), jax.sharding.reshard(words[1], sharding)
