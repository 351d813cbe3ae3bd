"""Softmax over segments, `exp(x - max[ids]) / sum[ids]`, as graph networks have it for edges.

It is a softmax for each node of a graph, over as many edges as the node has. No axis holds one of
them, so no node family has it as its mean; it is found so that the report can say so.
"""

from __future__ import annotations

from jax import lax

from cgjax._lift.purpose import Roles
from cgjax._program.operations import Operation


def segment_softmaxes(roles: Roles) -> dict[int, Operation]:
    """The exponentials that are divided by their sums over segments.

    Args:
        roles: the program.

    Returns:
        For each such exponential, by identity, the quotient.
    """
    found = {}
    for op in roles.flat.operations:
        if not (op.facts.divides or op.facts.multiplies):
            continue
        pairs = [op.inputs] if op.facts.divides else [op.inputs, op.inputs[::-1]]
        for above, below in pairs:
            made = roles.flat.producer.get(roles.on.origin(above))
            if made is None or made.eqn.primitive is not lax.exp_p:
                continue
            if _is_total(roles, below, made.outputs[0], inverse=op.facts.multiplies):
                found[id(made)] = op
    return found


def _is_total(roles: Roles, value: int, term: int, inverse: bool) -> bool:
    """Whether a value is, for each element, the sum over its segment of a term, or one over it."""
    on, flat = roles.on, roles.flat
    while (op := flat.producer.get(on.origin(value))) is not None:
        random = [v for v in op.inputs if on.is_data(v)]
        if op.eqn.primitive is lax.scatter_add_p:
            return not inverse and roles.forms.is_same(on.origin(op.inputs[2]), term)
        if op.facts.divides and inverse and not on.is_data(op.inputs[0]):
            inverse = False
        elif op.eqn.primitive is lax.integer_pow_p and inverse and op.params["y"] == -1:
            inverse = False
        elif not (op.facts.adds or op.facts.curvature == "kinked") or len(random) != 1:
            return False
        value = random[0]  # beside a number that keeps it from 0
    return False
