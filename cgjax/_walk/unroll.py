"""Unrolling: a walk in which the nodes of every step of a scan are nodes by themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._program.control import Remat, Scan, control
from cgjax._program.program import Program
from cgjax._static import Leaf, Tree
from cgjax._walk import control_flow
from cgjax._walk.evaluate import Evaluator, Frame, Records, Results, Value
from cgjax._walk.streams import Streams
from cgjax._walk.visitor import Visitor


def enter(walk: Evaluator, eqn: JaxprEqn, operands: Sequence[Value], frame: Frame) -> Results:
    """Takes the scans that hold nodes apart, and opens rematerialised parts that hold nodes."""
    part = control(eqn, operands)
    if isinstance(part, Remat):
        return control_flow.inline(walk, eqn, part, frame)
    if not isinstance(part, Scan):
        return control_flow.enter(walk, eqn, operands, frame)
    (inner,) = walk.frames(eqn, frame)
    carry = part.carry
    inside = range(frame.start, frame.start + walk.nodes_in(eqn))
    steps: list[Tree] = [None] * part.length
    for t in reversed(range(part.length)) if part.reverse else range(part.length):
        here = [lax.index_in_dim(x, t, keepdims=False) for x in part.xs]
        given = {i: v[t] if i in inside else v for i, v in frame.given.items()}
        own = replace(inner, given=given)
        outs, records = walk.run(part.body, [*part.consts, *carry, *here], own)
        carry, ys = part.split(outs)
        steps[t] = (ys, records)
    if not part.length:
        avals = [v.aval for v in part.split(eqn.outvars)[1]]
        return [*carry, *(jnp.zeros(a.shape, a.dtype) for a in avals)], {}
    stacked, records = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
    return [*carry, *stacked], records


def unroll(
    program: Program,
    visitor: Visitor,
    arrays: Sequence[Leaf],
    given: Mapping[int, jax.Array] | None = None,
) -> tuple[Tree, Records]:
    """Walks a program, as `walk` does, but visits the nodes inside scans once for each step.

    Args:
        program: the traced function.
        visitor: what to do at a node; one that marks nodes again makes a network without scans.
        arrays: the flat array arguments.
        given: for some nodes, by index, an array to hand to the visitor, with the time axis of each
            enclosing scan in front.

    Returns:
        The function's result, and what the visitor recorded, by node index, stacked over scans.
    """
    walker = Evaluator(program, visitor, Streams(program, visitor), enter)
    flat, records = walker.run(program.jaxpr, arrays, Frame(given=given or {}))
    return jax.tree.unflatten(program.out_tree, flat), records
