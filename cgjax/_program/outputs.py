"""Output nodes: the nodes whose statistic a function returns, up to a renaming of its states.

The statistic reaches the result through movements of data (reshape, slice, transpose, convert, pad,
mask, being written into an array) and constant scale or shift only, and feeds nothing else. One of
few values may also be clipped at constants. What is computed and then dropped, or only printed,
feeds nothing.

A constant is what depends on no argument of the function and on no random variable: numbers, and
arrays that the function closes over. A parameter that is learned is an argument, so its scale makes
an affine map. A scale or a shift may also be chosen by a condition: that is a mask.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from cgjax._node import node_p
from cgjax._program.operations import Flat, Operation
from cgjax._program.program import Program

# Reductions that return an element as it is where they have no other.
_SINGLE = ("sum", "product", "largest", "smallest")


class Outputs:
    """Tells which values of a program are outputs.

    Args:
        flat: the program.
    """

    def __init__(self, flat: Flat):
        self.flat = flat
        self._results = set(flat.results)
        self._varying = _varying(flat)
        self._used = _used(flat)

    def is_output(self, value: int, discrete: bool = False) -> bool:
        """Whether a value is returned, renamed at most, and feeds nothing else.

        Args:
            value: its number.
            discrete: whether it is a statistic of few values.
        """
        returned, pending, seen = False, [value], {value}
        while pending:
            v = pending.pop()
            returned |= v in self._results
            for op, k in self.flat.consumers.get(v, ()):
                onward = self._renamed(op, k, discrete) if id(op) in self._used else []
                if onward is None:
                    return False
                pending += [o for o in onward if o not in seen]
                seen.update(onward)
        return returned

    def _renamed(self, op: Operation, operand: int, discrete: bool) -> list[int] | None:
        """Where an operation only renames an operand, its results; None where it uses it."""
        known, number = op.facts, len(op.inputs)
        if op.name == node_p.name:
            # What comes after the parameters lends its mapped axes only.
            return [] if operand >= 2 + op.params["family"].num_arrays else None
        if known.moves or known.converts:
            if not known.is_data(operand, number):
                return None
            return [op.outputs[operand]] if _is_paired(op) else op.outputs
        if known.reduces in _SINGLE and not (known.windowed or known.running):
            sizes = [self.flat.avals[v].size for v in (op.inputs[operand], op.outputs[0])]
            return op.outputs if sizes[0] == sizes[1] else None  # one element is all there is
        others = [v for k, v in enumerate(op.inputs) if k != operand]
        clips = discrete and known.curvature == "kinked" and known.rises and number > 1
        if clips or (known.elementwise and known.is_linear([k == operand for k in range(number)])):
            return op.outputs if all(map(self._is_fixed, others)) else None
        return None

    def _is_fixed(self, value: int) -> bool:
        return is_choice(self.flat, value, lambda v: v not in self._varying)


def is_choice(flat: Flat, value: int, is_constant: Callable[[int], bool]) -> bool:
    """Whether a value is a constant, or takes constant values only, chosen by a condition."""
    pending, seen = [value], {value}
    while pending:  # a loop leads back to where it started
        v = pending.pop()
        if is_constant(v) or flat.avals[v].dtype == jnp.bool_:
            continue
        made_of = _choices(flat, v)
        if made_of is None:
            return False
        pending += [x for x in made_of if x not in seen]
        seen.update(made_of)
    return True


def _choices(flat: Flat, value: int) -> list[int] | None:
    """The values whose choices, sums and products a value is; None of another value."""
    op = flat.producer.get(value)
    if op is None or op.name == node_p.name:
        return None
    known, number = op.facts, len(op.inputs)
    if known.moves or known.converts:
        chosen = [op.outputs.index(value)] if _is_paired(op) else known.data.of(number)
    elif known.elementwise and (known.bilinear or known.signs):
        chosen = range(number)
    else:
        return None
    return [op.inputs[k] for k in chosen]


def _is_paired(op: Operation) -> bool:
    return op.facts.paired and len(op.inputs) == len(op.outputs)


def output_sites(program: Program) -> set[int]:
    """The indices of a program's output nodes."""
    if not program.sites:
        return set()
    flat = Flat(program.jaxpr)
    outputs = Outputs(flat)
    nodes = [op for op in flat.operations if op.name == node_p.name]
    # Nodes are numbered as the functions that hold them lie in their equations.
    nodes.sort(key=lambda op: (*op.scope.path, op.position))
    assert len(nodes) == len(program.sites)
    return {
        index
        for index, (op, site) in enumerate(zip(nodes, program.sites, strict=True))
        if outputs.is_output(op.outputs[0], site.family_type.discrete)
    }


def _varying(flat: Flat) -> set[int]:
    """The values that are no constants."""
    varying = set(flat.arguments)
    changed = True
    while changed:  # more than once only because of loops
        changed = False
        for op in flat.operations:
            known = op.facts
            own = op.name == node_p.name or known.random or known.opaque
            if (own or not varying.isdisjoint(op.inputs)) and not varying.issuperset(op.outputs):
                varying.update(op.outputs)
                changed = True
    return varying


def _used(flat: Flat) -> set[int]:
    """The operations that a result or a node depends on, by identity."""
    nodes = [op for op in flat.operations if op.name == node_p.name]
    pending = [v for op in nodes for v in op.inputs] + flat.results
    used = set(map(id, nodes))
    while pending:
        op = flat.producer.get(pending.pop())
        if op is not None and id(op) not in used:
            used.add(id(op))
            pending += op.inputs
    return used
