"""What the values of a program depend on: data, parameters, noise; and what they are met by.

Data are values that depend on the function's arguments other than its parameters; noise is not
data, and a node that is marked already is.
"""

from __future__ import annotations

from collections.abc import Sequence

from cgjax._lift.match import Candidate, Slope
from cgjax._node import node_p
from cgjax._program.jaxprs import open_jaxpr
from cgjax._program.operations import CARRY, Flat, Operation, Scope
from cgjax._program.outputs import is_choice


class Dependence:
    """What values depend on.

    Args:
        flat: the program.
        candidates: its activations.
        parameters: for each flat argument whether it is a parameter.

    Attributes:
        raw: the arguments that are data.
        learned: for each value whether it depends on parameters.
        random: for each value whether it depends on noise.
        meets: for each value whether weights follow it.
    """

    def __init__(self, flat: Flat, candidates: Sequence[Candidate], parameters: Sequence[bool]):
        self.flat = flat
        self.by_result = {c.result: i for i, c in enumerate(candidates)}
        arguments = zip(flat.arguments, parameters, strict=True)
        learned = {*flat.closed_over, *(v for v, is_parameter in arguments if is_parameter)}
        self.raw = set(flat.arguments) - learned
        # Bit 0: depends on data. Bit i + 1: depends on data other than through candidate i.
        self._data: list[int] = [0] * len(flat.avals)
        self.learned: list[bool] = [v in learned for v in range(len(flat.avals))]
        self.random: list[bool] = [False] * len(flat.avals)
        self.meets: list[bool] = [False] * len(flat.avals)
        self._everything = (1 << (len(candidates) + 1)) - 1
        for value in self.raw:
            self._data[value] = self._everything
        while any([self._forwards(op) for op in flat.operations]):
            pass  # more than once only because of loops
        while any([self._backwards(op) for op in reversed(flat.operations)]):
            pass

    def _forwards(self, op: Operation) -> bool:
        """Spreads what values depend on through an operation; whether that is news."""
        bits, learned, random = 0, False, False
        for value in op.inputs:
            bits |= self._data[value]
            learned |= self.learned[value]
            random |= self.random[value]
        if op.facts.random or (op.name == node_p.name and op.params["kind"] == "noise"):
            bits, learned, random = 0, False, True
        elif op.name == node_p.name:
            bits, random = bits or self._everything, True  # a latent variable is data
        changed = False
        for value in op.outputs:
            own = bits & ~(2 << self.by_result[value]) if value in self.by_result else bits
            known = self._data[value], self.learned[value], self.random[value]
            new = known[0] | own, known[1] | learned, known[2] | random
            self._data[value], self.learned[value], self.random[value] = new
            changed |= new != known
        return changed

    def _backwards(self, op: Operation) -> bool:
        """Tells the operands of an operation that weights follow; whether that is news."""
        later = any(self.meets[v] for v in op.outputs)
        news = [
            value
            for k, value in enumerate(op.inputs)
            if not self.meets[value] and (later or self._is_weighting(op, k))
        ]
        for value in news:
            self.meets[value] = True
        return bool(news)

    def _is_weighting(self, op: Operation, k: int) -> bool:
        """Whether an operation multiplies its operand k by weights."""
        known = op.facts
        if not (known.contracts or known.multiplies) or not known.is_data(k, len(op.inputs)):
            return False
        other = op.inputs[1 - k]
        if not self.is_data(other):
            return self.learned[other]
        return known.contracts and self.origin(other) in self.raw

    def is_data(self, value: int, beside: int | None = None) -> bool:
        """Whether a value depends on data, other than through one activation."""
        return bool(self._data[value] >> (0 if beside is None else beside + 1) & 1)

    def origin(self, value: int) -> int:
        """Where a value comes from, through movements, and negation."""
        while (op := self.flat.producer.get(value)) is not None:
            known, kept = op.facts, []
            if known.moves and op.name != CARRY:
                moved = known.data.of(len(op.inputs))
                if known.paired and len(op.inputs) == len(op.outputs):
                    moved = [op.outputs.index(value)]
                # Of arrays put together with constants, the one that is none.
                kept = [v for v in (op.inputs[k] for k in moved) if self.is_data(v)]
                kept = kept if len(moved) > 1 else [op.inputs[moved[0]]]
            elif known.converts or len(known.signs) == 1:
                kept = op.inputs
            if len(kept) != 1:
                break
            value = kept[0]
        return value

    def depends_on(self, value: int, on: int) -> bool:
        """Whether a value is computed from another one."""
        seen, pending = set(), [value]
        while pending:
            v = pending.pop()
            if v == on:
                return True
            op = self.flat.producer.get(v)
            if op is not None and id(op) not in seen:
                seen.add(id(op))
                pending.extend(op.inputs)
        return False

    def is_mask(self, value: int) -> bool:
        """Whether a value is no data, or takes two values only, chosen by a condition."""
        return is_choice(self.flat, value, lambda v: not self.is_data(v))

    def is_of_one(self, scope: Scope, candidate: Candidate) -> bool:
        """Whether a function takes the natural parameter once, and the slope or constants besides.

        The derivative of any other need not be the activation's: a solver is given a residual that
        depends on the natural parameter, and a start.
        """
        values = {variable: value for value, variable in scope.variables.items()}
        # None is the same value as an argument before it.
        operands = [values.get(v) for v in open_jaxpr(scope.jaxpr).invars]
        slope = candidate.slope.values if isinstance(candidate.slope, Slope) else ()

        def varies(v: int | None) -> bool:
            return v is None or self.is_data(v) or self.learned[v] or self.random[v]

        varying = [v for v in operands if v not in slope and varies(v)]
        return len(varying) == 1 and varying[0] in candidate.e.values
