"""Output nodes: the nodes whose statistic a function returns, up to a renaming of its states.

The statistic reaches the result through movements of data (reshape, slice, transpose, convert, pad,
mask, being written into an array) and constant scale or shift only, and feeds nothing else. Of one
of few values, a clip that hardly changes them, as of probabilities before their logarithm, is no
more than that. What is computed and then dropped, or only printed, feeds nothing.

A constant is what depends on no argument of the function and on no random variable: numbers, and
arrays that the function closes over. A parameter that is learned is an argument, so its scale makes
an affine map. A scale or a shift may also be chosen by a condition: that is a mask.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from cgjax import nodes
from cgjax._node import node_p
from cgjax._program.operations import Flat, Operation
from cgjax._program.program import Program

# The least and the largest value of families with two of them.
Between = tuple[float, float]
PROBABILITIES: Between = (0.0, 1.0)
_BETWEEN: dict[type, Between] = {
    nodes.Bernoulli: PROBABILITIES,
    nodes.Categorical: PROBABILITIES,
    nodes.Spin: (-1.0, 1.0),
}
_HARDLY = 0.01  # as a share of the distance between these
# Reductions that return an element as it is where they have no other.
_SINGLE = ("sum", "product", "largest", "smallest")


class Outputs:
    """Tells which values of a program are outputs.

    Args:
        flat: the program.
        between: of statistics of few values, the least and the largest; None of others.
    """

    def __init__(self, flat: Flat, between: Between | None = None):
        self.flat, self.between = flat, between
        self._results = set(flat.results)
        self._varying = _varying(flat)
        self._used = _used(flat)

    def is_output(self, value: int, between: Between | None = None) -> bool:
        """Whether a value is returned, renamed at most, and feeds nothing else.

        Args:
            value: its number.
            between: of a statistic of few values, the least and the largest; by default what all
                values are said to be.
        """
        between = between or self.between
        returned, pending, seen, same = False, [value], {value}, {value}
        while pending:
            v = pending.pop()
            returned |= v in self._results
            for op, k in self.flat.consumers.get(v, ()):
                clips = between is not None and v in same and self._hardly_clips(op, k, between)
                onward = op.outputs if clips else []
                if not clips and id(op) in self._used:
                    onward = self._renamed(op, k)
                if onward is None:
                    return False
                if v in same and (clips or op.facts.moves or op.facts.converts):
                    same.update(onward)
                pending += [o for o in onward if o not in seen]
                seen.update(onward)
        return returned

    def _renamed(self, op: Operation, operand: int) -> list[int] | None:
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
        if known.elementwise and known.is_linear([k == operand for k in range(number)]):
            return op.outputs if all(map(self._is_fixed, others)) else None
        return None

    def _hardly_clips(self, op: Operation, operand: int, between: Between) -> bool:
        """Whether an operation bounds a value near its least and its largest value, at most."""
        bounds = [self.flat.constants.get(v) for v in op.inputs]
        bounds[operand] = None
        low, high = between
        margin = _HARDLY * (high - low)
        lower, upper = {
            lax.max_p: (True, False),
            lax.min_p: (False, True),
            lax.clamp_p: (True, True),
        }.get(op.eqn.primitive, (False, False))
        if lower and upper and operand != 1:
            return False
        below = bounds[:1] if upper else bounds
        above = bounds[2:] if lower else bounds
        others = [k for k in range(len(bounds)) if k != operand]
        if not (lower or upper) or any(bounds[k] is None for k in others):
            return False
        hardly = [float(c) <= low + margin for c in below if lower and c is not None]
        hardly += [float(c) >= high - margin for c in above if upper and c is not None]
        return all(hardly)

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
    marks = [op for op in flat.operations if op.name == node_p.name]
    # Nodes are numbered as the functions that hold them lie in their equations.
    marks.sort(key=lambda op: (*op.scope.path, op.position))
    assert len(marks) == len(program.sites)
    return {
        index
        for index, (op, site) in enumerate(zip(marks, program.sites, strict=True))
        if outputs.is_output(op.outputs[0], _BETWEEN.get(site.family_type))
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
