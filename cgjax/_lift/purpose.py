"""What an activation is there for: a node of the network, or a gate, a loss, a normaliser, ….

The rules, each for an activation r applied to e. "Goes into" means: through additions, movements of
data, and products with what is not other data.

- gate: r, or a function of it such as its exponential, goes into a product with data that do not
  come from r itself;
- loss or normaliser: r goes into a logarithm, a root or a denominator; or, if no parameters follow
  r, e is made of products and powers of data, or r is added to such terms;
- clip: a relu before or after a bound from the other side, or in `jnp.clip` and its like;
- attention or pooling: a softmax that is not the result, and what goes into its argument;
- wave: a sine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jax import lax

from cgjax._lift.dependence import Dependence
from cgjax._lift.forms import Forms
from cgjax._lift.match import Candidate
from cgjax._program.operations import Operation, enclosing
from cgjax._program.outputs import PROBABILITIES, Outputs

# Functions of JAX that hold a relu or a softplus which is no activation of the network.
_LIBRARY = {
    "clip": "a clip",
    "relu6": "a clip (relu6)",
    "hard_sigmoid": "a clip (hard_sigmoid)",
    "log_sigmoid": "part of log_sigmoid: a loss",
}
# Functions that are what they are wherever they stand, since nobody clips at their ends.
_BOUNDED = ("relu6", "hard_sigmoid", "hard_silu", "sparse_sigmoid")
_CLIP = "a clip to [-1, 1], unless it is meant as `hard_tanh`"


@dataclass(frozen=True)
class Role:
    """Why an activation is no node.

    Attributes:
        reason: in words.
        optional: whether it may be made a node on request.
    """

    reason: str
    optional: bool = False


class _Reached(NamedTuple):
    """A value that an activation goes into.

    Attributes:
        value: the value.
        alone: whether nothing but constants and parameters was added on the way.
        bent: whether there was a function on the way that is no line, such as an exponential: then
            it may be part of a gate still, but of no loss, normaliser or clip.
        before: where it came from.
    """

    value: int
    alone: bool = True
    bent: bool = False
    before: _Reached | None = None

    def path(self) -> set[int]:
        """The values on the way, this one included."""
        found, at = set[int](), self
        while at is not None:
            found.add(at.value)
            at = at.before
        return found


class Roles:
    """The roles of a program's activations.

    Args:
        forms: the program.
        candidates: its activations.
        parameters: for each flat argument whether it is a parameter.
    """

    def __init__(self, forms: Forms, candidates: Sequence[Candidate], parameters: Sequence[bool]):
        self.flat, self.forms, self.candidates = forms.flat, forms, candidates
        self.on = Dependence(forms.flat, candidates, parameters)
        self.outputs = Outputs(forms.flat, PROBABILITIES)
        self.by_e: dict[Hashable, list[int]] = {}
        for i, c in enumerate(candidates):
            self.by_e.setdefault(forms.of[c.x].key, []).append(i)
        self.known: dict[int, Role | None] = {}

    # -- what kind of factor a value is

    def is_normaliser(self, value: int) -> bool:
        """Whether a value is one over something, as the factors of normalisation layers are."""
        value = self.on.origin(value)
        op = self.flat.producer.get(value)
        if op is None or value in self.on.by_result:
            return False
        known = op.facts
        if known.multiplies:
            a, b = op.inputs
            fixed = [not self.on.is_data(v) for v in (a, b)]
            return (self.is_normaliser(a) and (fixed[1] or self.is_normaliser(b))) or (
                fixed[0] and self.is_normaliser(b)
            )
        if known.divides:
            return not self.on.is_data(op.inputs[0])
        return op.eqn.primitive is lax.rsqrt_p or self._is_negative_power(op)

    def _is_power(self, op: Operation) -> bool:
        """Whether it is a power such as `r ** 2.0`, no root and no quotient."""
        power = op.eqn.primitive is lax.pow_p
        return power and float(self.flat.constants.get(op.inputs[1], 0)) >= 1

    def _is_negative_power(self, op: Operation) -> bool:
        if op.eqn.primitive is lax.pow_p:
            return float(self.flat.constants.get(op.inputs[1], 1)) < 0
        return op.eqn.primitive is lax.integer_pow_p and op.params["y"] < 0

    def is_shared(self, value: int, product: int, candidate: Candidate) -> bool:
        """Whether a value is an argument, broadcast, that e does not depend on: weights, a mask."""
        value = self.on.origin(value)
        broadcast = self.flat.avals[value].size < self.flat.avals[product].size
        return broadcast and value in self.on.raw and not self.on.depends_on(candidate.x, value)

    def gates(self, factor: int, product: int, i: int, at: _Reached) -> bool:
        """Whether a product with this factor makes activation i, or what it goes into, a gate."""
        if not self.on.is_data(factor, i) or self.is_normaliser(factor) or self.on.is_mask(factor):
            return False
        if self.is_shared(factor, product, self.candidates[i]):
            return False
        return not self._is_made_of(factor, at.path())

    def _is_made_of(self, value: int, path: set[int]) -> bool:
        """Whether a value is a function of some others, element by element, and of no other data.

        So that `u * exp(-u)` is a function of u, whichever activations are part of u.
        """
        pending = [value]
        while pending:
            v = pending.pop()
            if v in path or not self.on.is_data(v):
                continue
            path.add(v)
            op = self.flat.producer.get(v)
            if op is None or not op.facts.elementwise:
                return False
            pending += op.inputs
        return True

    # -- the rules

    def role(self, i: int) -> Role | None:
        """Why activation i is no node, or None if it is one."""
        if i not in self.known:
            self.known[i] = None  # for loops
            self.known[i] = self._role(i)
        return self.known[i]

    def _role(self, i: int) -> Role | None:
        candidate = self.candidates[i]
        for scope in enclosing(candidate.root.scope):
            if scope.library in _LIBRARY and candidate.function not in _BOUNDED:
                clips = candidate.function == "hard_tanh"
                return Role(_CLIP, True) if clips else Role(_LIBRARY[scope.library])
        if not self.on.is_data(candidate.x) and not self.on.random[candidate.x]:
            return Role("applied to parameters or constants, not to data")
        used = candidate.result in self.flat.consumers or candidate.result in self.flat.results
        if not used:
            return Role("its result is not used")
        if candidate.root.differentiated:
            return Role("the network itself differentiates through it")
        libraries = {scope.library for scope in enclosing(candidate.root.scope)}
        if candidate.function == "hard_tanh" and candidate.function not in libraries:
            return Role(_CLIP, True)
        if candidate.function == "sine":
            return Role("a wave, which may be a feature of data rather than an activation", True)
        if candidate.function == "relu" and self._is_bounded(candidate.x):
            return Role("a clip: bounded from above before")
        found = self.follow(i)
        if found is not None and not found.optional:
            return found
        if self._may_be_a_loss(candidate) and not self.is_linear(candidate.x):
            return Role("a loss or a normaliser: applied to products or powers of data")
        if candidate.function == "softmax" and not self.outputs.is_output(candidate.result):
            return Role("attention or pooling: a softmax that is not the result", True)
        return found

    def _may_be_a_loss(self, candidate: Candidate) -> bool:
        """Whether it is a rectifier that no weights follow."""
        rectifies = candidate.function in ("relu", "leaky_relu", "softplus")
        return rectifies and not self.on.meets[candidate.result]

    def _is_bounded(self, value: int) -> bool:
        op = self.flat.producer.get(self.on.origin(value))
        if op is None or op.eqn.primitive not in (lax.min_p, lax.clamp_p):
            return False
        return self._has_constant(op)

    def _has_constant(self, op: Operation) -> bool:
        return any(v in self.flat.constants for v in op.inputs)

    def follow(self, i: int) -> Role | None:
        """Follows the result of activation i, until something tells its role."""
        result = self.candidates[i].result
        optional: Role | None = None
        pending, seen = [_Reached(result)], {result}
        while pending:
            at = pending.pop(0)
            onto = self.by_e.get(self.forms.of[at.value].key, ())
            for j in () if at.bent else onto:
                optional = optional or self._part_of(j, at.value == result)
            # What another activation does with its argument, such as `x * sigmoid(x)`, is its own.
            own = frozenset().union(*map(self.within, onto))
            for op, k in self.flat.consumers.get(at.value, ()):
                if id(op) in own:
                    continue
                onward, bends, role = self.step(i, op, k, at)
                if role is not None and not role.optional:
                    return role
                optional = optional or role
                still = at.alone and not (op.facts.adds and self.on.is_data(op.inputs[1 - k]))
                new = [v for v in onward if v not in seen]
                seen.update(new)
                pending.extend(_Reached(v, still, at.bent or bends, at) for v in new)
        return optional

    def within(self, j: int) -> frozenset[int]:
        """The operations between the argument of activation j and its result, by identity."""
        candidate = self.candidates[j]
        key, found, pending = self.forms.of[candidate.x].key, set[int](), [candidate.result]
        while pending:
            value = pending.pop()
            op = self.flat.producer.get(value)
            if op is not None and id(op) not in found and self.forms.of[value].key != key:
                found.add(id(op))
                pending.extend(op.inputs)
        return frozenset(found)

    def _part_of(self, j: int, directly: bool) -> Role | None:
        """The role of what goes into activation j."""
        other = self.candidates[j]
        if other.function == "softmax" and not self.outputs.is_output(other.result):
            return Role("attention: a score, which goes into a softmax", True)
        if directly and (role := self.role(j)) and role.optional:
            return Role(f"part of {other.function}, {role.reason}")
        return None

    def step(
        self, i: int, op: Operation, k: int, at: _Reached
    ) -> tuple[list[int], bool, Role | None]:
        """What follows from the use of a value in an operation.

        Returns:
            Where the value goes on; whether as a function of it that is no line; and the role of
            activation i, if this tells it.
        """
        known, where = op.facts, op.short_source
        role: Role | None = None
        if known.moves or known.converts or len(known.signs) == 1:
            if not known.is_data(k, len(op.inputs)):
                return [], False, None
            paired = known.paired and len(op.inputs) == len(op.outputs)
            return [op.outputs[k]] if paired else op.outputs, False, None
        if known.adds:
            if self._may_be_a_loss(self.candidates[i]) and self.is_power(op.inputs[1 - k]):
                role = Role(f"a loss: added to products or powers of data{where}")
            return op.outputs, False, None if at.bent else role
        if known.multiplies or (known.contracts and len(op.inputs) == 2):
            other = op.inputs[1 - k]
            if known.multiplies and self.forms.is_same(other, at.value):
                return op.outputs, True, None  # a square
            counts = known.multiplies or self.on.learned[other]
            if counts and self.gates(other, op.outputs[0], i, at):
                return [], False, Role(f"a gate: multiplied by other data{where}", True)
            return op.outputs if known.multiplies else [], False, None
        if known.divides and k == 0:
            return op.outputs, False, None
        if known.curvature == "kinked" and known.rises and op.outputs[0] not in self.on.by_result:
            if not self._has_constant(op):
                return [], False, None
            relu = self.candidates[i].function == "relu" and at.alone and not at.bent
            if relu and op.eqn.primitive is not lax.max_p:
                role = Role(f"a clip: bounded from above afterwards{where}")
            return op.outputs, False, role
        return self._bent(i, op, k, at)

    def _bent(
        self, i: int, op: Operation, k: int, at: _Reached
    ) -> tuple[list[int], bool, Role | None]:
        """The same of an operation that is no line in the value."""
        known, where = op.facts, op.short_source
        if not at.bent:
            positive = known.positive and k == 0 and not self._is_power(op)
            if known.divides or positive or self._is_negative_power(op):
                into = "a denominator" if known.divides else f"`{op.name}`"
                return [], True, Role(f"a loss or a normaliser: goes into {into}{where}")
        elif known.divides and self.gates(op.inputs[0], op.outputs[0], i, at):
            return [], True, Role(f"a gate: other data are divided by it{where}", True)
        fixed = not any(self.on.is_data(v) for j, v in enumerate(op.inputs) if j != k)
        of_one = known.elementwise and not known.decides and fixed
        goes_on = of_one or (known.divides and at.bent)
        return op.outputs if goes_on and op.outputs[0] not in self.on.by_result else [], True, None

    def is_power(self, value: int) -> bool:
        """Whether a value is a product or a power of data, as the terms of losses are."""
        value = self.on.origin(value)
        op = self.flat.producer.get(value)
        if op is None or value in self.on.by_result or not self.on.is_data(value):
            return False
        if op.facts.multiplies:
            a, b = op.inputs
            if self.on.is_data(a) and self.on.is_data(b):
                return not (self.is_normaliser(a) or self.is_normaliser(b))
            return self.is_power(a if self.on.is_data(a) else b)
        return op.facts.powers

    def is_linear(self, value: int) -> bool:
        """Whether some term of a sum is more than a product or a power of data."""
        seen, pending = set(), [value]
        while pending:
            v = self.on.origin(pending.pop())
            if v in seen or not self.on.is_data(v):
                continue
            seen.add(v)
            op = self.flat.producer.get(v)
            if op is None or v in self.on.by_result:
                return True
            known = op.facts
            if known.adds:
                pending.extend(op.inputs)
            elif known.multiplies:
                a, b = op.inputs
                if not self.on.is_data(a) or self.is_normaliser(a):
                    pending.append(b)
                elif not self.on.is_data(b) or self.is_normaliser(b):
                    pending.append(a)
            elif known.divides or known.reduces is not None:
                pending.append(op.inputs[0])
            elif known.moves:
                pending.extend(op.inputs[k] for k in known.data.of(len(op.inputs)))
            elif not known.powers:
                return True
        return False
