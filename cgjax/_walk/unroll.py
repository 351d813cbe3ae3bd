"""Unrolling: a walk in which the nodes of every step of a scan are nodes by themselves."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._program.jaxprs import REMAT, scan_counts
from cgjax._program.program import Program
from cgjax._walk.evaluate import Records, _Walker
from cgjax._walk.visitor import Visitor


class _Unroller(_Walker):
    """Takes the scans that hold nodes apart, and opens rematerialised parts that hold nodes."""

    def enter(self, eqn: Any, operands: list[Any], context: Any) -> tuple[list[Any], Records]:
        if eqn.primitive.name in REMAT:
            return self.inline(eqn, operands, *context)
        if eqn.primitive.name != "scan":
            return super().enter(eqn, operands, context)
        start, stream, given, depth, words = context
        params = eqn.params
        length = params["length"]
        num_consts, num_carry = scan_counts(params)
        constants = operands[:num_consts]
        carry = operands[num_consts : num_consts + num_carry]
        xs = operands[num_consts + num_carry :]
        steps: list[Any] = [None] * length
        for t in reversed(range(length)) if params["reverse"] else range(length):
            here = [lax.index_in_dim(x, t, keepdims=False) for x in xs]
            arguments = [*constants, *carry, *here]
            outs, records = self.run(
                params["jaxpr"], arguments, start, stream, given, depth + 1, words
            )
            carry, steps[t] = outs[:num_carry], (outs[num_carry:], records)
        if not length:
            avals = [v.aval for v in eqn.outvars[num_carry:]]
            return [*carry, *(jnp.zeros(a.shape, a.dtype) for a in avals)], {}
        stacked, records = jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)
        return [*carry, *stacked], records


def unroll(program: Program, visitor: Visitor, arrays: Sequence[Any]) -> tuple[Any, Records]:
    """Walks a program, as `walk` does, but visits the nodes inside scans once for each step.

    Args:
        program: the traced function.
        visitor: what to do at a node; one that marks nodes again makes a network without scans.
        arrays: the flat array arguments.

    Returns:
        The function's result, and what the visitor recorded, by node index, stacked over scans.
    """
    walker = _Unroller(program, visitor)
    flat, records = walker.run(program.jaxpr, arrays, 0, None, {}, 0)
    return jax.tree.unflatten(program.out_tree, flat), records
