"""How loops, branches and calls that hold nodes are evaluated.

They are rebuilt with JAX's public functions, which threads keys and recorded values through them;
everything without nodes is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._node import node_p
from cgjax._program.control import Call, Component, Cond, Remat, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, Parameter, Params, aval, bind, source, with_node_params
from cgjax._rate import Rate
from cgjax._static import Function, Tree
from cgjax._walk.evaluate import Evaluator, Frame, Records, Results, Value
from cgjax._walk.streams import Stream

# The number of a turn, whether another one follows, and what is carried.
Running = tuple[jax.Array, jax.Array, list[Value]]


def enter(walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame) -> Results:
    """The results of an equation that holds functions, which are evaluated too."""
    part = control(eqn, operands)
    if isinstance(part, Scan):
        return scan(walk, eqn, part, frame)
    if isinstance(part, While):
        return loop(walk, eqn, part, frame)
    if isinstance(part, Cond):
        return branch(walk, eqn, part, frame)
    if isinstance(part, Remat):
        return remat(walk, eqn, part, frame)
    if isinstance(part, Component):
        return component(walk, eqn, part, frame)
    assert isinstance(part, Call)  # no other equation holds nodes
    if part.kind == "custom":
        return custom(walk, eqn, part, frame)
    return inline(walk, eqn, part, frame)


def inline(walk: Evaluator, eqn: JaxprEqn, call: Call[Value], frame: Frame) -> Results:
    """A function that is evaluated in the place of its call."""
    return walk.run(call.body, call.operands, walk.frames(eqn, frame)[0])


def component(walk: Evaluator, eqn: JaxprEqn, call: Component[Value], frame: Frame) -> Results:
    """A fused component: by its implementation, if the visitor asks for one that it has."""
    start, visitor = frame.start, walk.visitor
    sites = walk.program.sites[start : start + walk.nodes_in(eqn)]
    if all(map(visitor.passes, sites)):
        return bind(_named(walk, eqn, start), call.operands), {}
    implementation = walk.streams.implementation(eqn, start)
    if implementation is None:
        return inline(walk, eqn, call, frame)
    lead: list[Tree] = []
    if visitor.implementation != "feed_forward":
        assert frame.stream is not None  # a node inside draws
        lead.append(frame.stream.key(start))
    if visitor.implementation == "pcff":
        lead.append(tuple(_trimmed(visitor.rate(s, frame.given.get(s.index))) for s in sites))
    outs = [jnp.asarray(x) for x in implementation(*lead, *call.operands)]
    avals = [aval(v) for v in eqn.outvars]
    for out, expected in zip(outs, avals, strict=True):
        if (out.shape, out.dtype) != (expected.shape, expected.dtype):
            raise TypeError(
                f"The component at {source(eqn)} returned {out.dtype}{list(out.shape)} from its "
                f"{visitor.implementation} implementation, and its reference "
                f"{expected.dtype}{list(expected.shape)}."
            )
    return outs, {}


def _trimmed(rate: Rate) -> Rate:
    """A rate without leading axes of length 1, so that one number is one under a `vmap` too."""
    if not isinstance(rate, jax.Array):
        return rate
    ones = next((i for i, n in enumerate(rate.shape) if n != 1), rate.ndim)
    return rate.reshape(rate.shape[ones:])


def custom(walk: Evaluator, eqn: JaxprEqn, call: Call[Value], frame: Frame) -> Results:
    """A function with a derivative of its own, which holds as long as no node inside changes."""
    start, visitor = frame.start, walk.visitor
    sites = walk.program.sites[start : start + walk.nodes_in(eqn)]
    changed = [s for s in sites if visitor.changes(s)]
    if not changed:
        # The rule is kept; what is recorded is computed beside it.
        records = inline(walk, eqn, call, frame)[1] if visitor.capture else {}
        return bind(_named(walk, eqn, start), call.operands), records
    if not visitor.inline:
        names = ", ".join(repr(s.name) for s in changed)
        raise TypeError(
            f"A function with a custom derivative contains nodes ({names}; {source(eqn)}). "
            "Its derivative rule would not know of the change. Move the nodes out of it, or "
            "pass `inline=True` to drop the rule and differentiate the function itself."
        )
    return inline(walk, eqn, call, frame)


def _named(walk: Evaluator, eqn: JaxprEqn, start: int) -> JaxprEqn:
    """An equation that is kept whole, with the names that its nodes have in this program."""
    if not walk.visitor.keeps_nodes:
        return eqn
    sites = iter(walk.program.sites[start:])

    def change(params: Params) -> dict[str, Parameter]:
        site = next(sites)
        return {**params, "name": site.name, "scopes_in_name": site.num_scopes}

    return with_node_params(eqn, node_p, change)


def remat(walk: Evaluator, eqn: JaxprEqn, call: Remat[Value], frame: Frame) -> Results:
    """A part whose inner values are computed again for the derivative."""
    (inner,) = walk.frames(eqn, frame)
    stream = frame.stream
    inside = range(frame.start, frame.start + walk.nodes_in(eqn))
    # The keys go in as arguments, so that noise is drawn again, the same, not stored.
    keys = None if stream is None else stream.keys
    given = {i: frame.given[i] for i in inside if i in frame.given}

    def body(keys: jax.Array | None, given: Mapping[int, jax.Array], *operands: Value) -> Results:
        own = None if stream is None or keys is None else Stream(keys, stream.row)
        here = replace(inner, stream=own, given=given, words={})
        outs, records = walk.run(call.body, operands, here)
        return inner.domain.leave(outs), records

    body = jax.checkpoint(body, prevent_cse=call.prevent_cse, policy=call.policy)
    return body(keys, given, *call.operands)


def scan(walk: Evaluator, eqn: JaxprEqn, loop: Scan[Value], frame: Frame) -> Results:
    """A loop of known length: keys and arrays for its nodes are further rows of its arrays."""
    (inner,) = walk.frames(eqn, frame)
    turns = np.arange(loop.length, dtype=np.uint32)
    keys, row = walk.streams.of_turns(frame.stream, loop.body, frame.start, turns)
    fixed, stepped = {}, {}
    for i in range(frame.start, frame.start + walk.nodes_in(eqn)):
        if i in frame.given:
            # Axis 0 is this scan's time axis; a value of length 1 there serves every step.
            value = frame.given[i]
            if value.shape[0] == 1:
                fixed[i] = value[0]
            else:
                stepped[i] = value
    steps = (turns if inner.domain.counts_turns else None, loop.xs, keys, stepped)

    def body(carry: Sequence[Value], step: Tree) -> tuple[list[Value], tuple[list[Value], Records]]:
        turn, xs, keys, stepped = step
        here = replace(
            inner,
            domain=inner.domain.turn(turn, loop.length),
            stream=None if keys is None else Stream(keys, row),
            given={**fixed, **stepped},
            words=None,
        )
        outs, records = walk.run(loop.body, [*loop.consts, *carry, *xs], here)
        carry, ys = loop.split(here.domain.turned(outs, len(loop.carry)))
        return carry, (ys, records)

    carry, (ys, records) = lax.scan(
        body,
        inner.domain.stable(body, loop.carry, steps),
        steps,
        length=loop.length,
        reverse=loop.reverse,
        unroll=loop.unroll,
    )
    return [*carry, *ys], records


def loop(walk: Evaluator, eqn: JaxprEqn, loop: While[Value], frame: Frame) -> Results:
    """A loop of unknown length; the condition and the body draw from streams of their own."""
    frames = dict(zip(map(id, loop.parts), walk.frames(eqn, frame), strict=True))

    def part(
        jaxpr: AnyJaxpr,
        consts: Sequence[Value],
        state: Sequence[Value],
        counter: jax.Array,
        turn: int,
    ) -> list[Value]:
        inner, keys, row = frames[id(jaxpr)], None, {}
        turns = 2 * counter + turn
        if frame.stream is not None and frame.start in frame.stream.row:
            own = frame.stream.renamed(frame.start, inner.start)
            keys, row = walk.streams.of_turns(own, jaxpr, inner.start, turns)
        here = replace(
            inner,
            domain=inner.domain.turn(turns, None),
            stream=None if keys is None else Stream(keys, row),
            words=None,
        )
        outs, _ = walk.run(jaxpr, [*consts, *state], here)
        return here.domain.turned(outs, len(outs)) if turn else here.domain.leave(outs)

    # Under a user's vmap the predicate has rows, which stop one by one.
    def predicate(counter: jax.Array, state: Sequence[Value]) -> Value:
        return part(loop.cond, loop.cond_consts, state, counter, 0)[0]

    def turn(counter: jax.Array, state: Sequence[Value]) -> list[Value]:
        return part(loop.body, loop.body_consts, state, counter, 1)

    def body(carry: Running) -> Running:
        counter, running, state = carry
        new = turn(counter, state)
        if running.ndim:
            new = jax.tree.map(lambda n, o: _where_running(running, n, o), new, list(state))
        counter = counter + 1
        return counter, running & predicate(counter, new), new

    zero = jnp.uint32(0)
    init = jax.tree.map(jnp.asarray, list(loop.carry))
    init = frame.domain.stable(lambda state: (turn(zero, state), None), init)
    running = jnp.asarray(predicate(zero, init))
    final = lax.while_loop(lambda carry: carry[1].any(), body, (zero, running, init))
    return list(final[2]), {}


def _where_running(running: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    running = running.reshape(running.shape + (1,) * (new.ndim - running.ndim))
    return jnp.where(running, new, old)


def branch(walk: Evaluator, eqn: JaxprEqn, part: Cond[Value], frame: Frame) -> Results:
    """Branches, of which one is taken; what the others would have recorded is filled in."""

    def taken(jaxpr: AnyJaxpr, inner: Frame) -> Function:
        def call(*operands: Value) -> Results:
            outs, records = walk.run(jaxpr, operands, inner)
            return inner.domain.leave(outs), records

        return call

    functions: Sequence[Function] = [
        taken(jaxpr, inner)
        for jaxpr, inner in zip(part.branches, walk.frames(eqn, frame), strict=True)
    ]
    functions = frame.domain.alike(functions, part.operands)
    shapes: Records = {}
    for function in functions:
        shapes.update(jax.eval_shape(function, *part.operands)[1])

    def padded(function: Function) -> Function:
        def call(*operands: Value) -> Results:
            outs, records = function(*operands)
            return outs, records | _absent(walk, shapes, records)

        return call

    return lax.switch(part.index, [padded(f) for f in functions], *part.operands)


def _absent(walk: Evaluator, shapes: Records, records: Records) -> Records:
    """The records of the branches that are not taken."""
    absent = walk.visitor.absent
    return {
        i: jax.tree.map(lambda s: jnp.full(s.shape, absent, s.dtype), s)
        for i, s in shapes.items()
        if i not in records
    }
