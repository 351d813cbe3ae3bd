"""What an activation is there for: a node of the network, or a gate, a loss, a normaliser, ….

The rules, each for an activation r applied to e. Data are values that depend on the function's
arguments other than its parameters; noise is not data. "Goes into" means: through additions,
movements of data, and products with what is not other data.

- gate: r goes into a product with data that do not come from r itself;
- loss or normaliser: r goes into a logarithm, a root or a denominator; or, if no parameters follow
  r, e is made of products and powers of data, or r is added to such terms;
- clip: a relu before or after a bound from the other side, or in `jnp.clip` and its like;
- attention or pooling: a softmax that is not the result, and what goes into its argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from cgjax._lift.match import Candidate, enclosing
from cgjax._node import node_p
from cgjax._program.operations import LAST, MERGE, STACK, STEP, Flat, Operation

# Where a value goes on: the position of the operand that is moved, or None for all of them.
_MOVES: dict[str, int | None] = {
    **dict.fromkeys(
        "reshape transpose slice dynamic_slice squeeze expand_dims broadcast_in_dim rev copy tile "
        "gather convert_element_type reduce_precision sharding_constraint device_put name split "
        "unstack dynamic_update_slice pad neg stop_gradient real".split(),
        0,
    ),
    **dict.fromkeys((STEP, STACK, LAST), 0),
    **dict.fromkeys(("concatenate", "stack", "optimization_barrier", MERGE, "select_n"), None),
}
# Data only moved, for output nodes.
_PURE_MOVES = frozenset(_MOVES) - {"neg", MERGE, "select_n", "pad", "dynamic_update_slice", "real"}
_SUMS = frozenset("add sub add_any".split())
_PRODUCTS = frozenset("dot_general conv_general_dilated ragged_dot ragged_dot_general".split())
_NARROW = frozenset("log log1p sqrt rsqrt cbrt pow lgamma digamma".split())
_POWERS = frozenset(
    "integer_pow square pow abs sqrt rsqrt exp exp2 expm1 log log1p log_softmax".split()
)
_REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min cumsum argmax".split())
_NOISE = frozenset("threefry2x32 rng_bit_generator rng_uniform".split())

# Functions of JAX that hold a relu or a softplus which is no activation of the network.
_LIBRARY = {
    "clip": "a clip",
    "relu6": "a clip (relu6)",
    "hard_sigmoid": "a clip (hard_sigmoid)",
    "hard_silu": "a clip (hard_silu)",
    "hard_swish": "a clip (hard_silu)",
    "celu": "part of celu, which no node family has",
    "mish": "part of mish, which no node family has",
    "log_sigmoid": "part of log_sigmoid: a loss",
}


@dataclass(frozen=True)
class Role:
    """Why an activation is no node.

    Attributes:
        reason: in words.
        optional: whether it may be made a node on request.
    """

    reason: str
    optional: bool = False


class Roles:
    """The roles of a program's activations.

    Args:
        flat: the program.
        candidates: its activations.
        parameters: for each flat argument whether it is a parameter.
    """

    def __init__(self, flat: Flat, candidates: Sequence[Candidate], parameters: Sequence[bool]):
        self.flat, self.candidates = flat, candidates
        self.by_result = {c.result: i for i, c in enumerate(candidates)}
        self.by_x: dict[int, list[int]] = {}
        for i, c in enumerate(candidates):
            self.by_x.setdefault(c.x, []).append(i)
        self.parameters = set(flat.closed_over)
        arguments = zip(flat.arguments, parameters, strict=True)
        self.parameters |= {value for value, is_parameter in arguments if is_parameter}
        self.raw = set(flat.arguments) - self.parameters
        # Bit 0: depends on data. Bit i + 1: depends on data other than through candidate i.
        self.data: list[int] = [0] * len(flat.avals)
        self.learned: list[bool] = [v in self.parameters for v in range(len(flat.avals))]
        self.random: list[bool] = [False] * len(flat.avals)
        self.meets: list[bool] = [False] * len(flat.avals)
        self._spread()
        self.known: dict[int, Role | None] = {}

    # -- what values depend on

    def _spread(self) -> None:
        everything = (1 << (len(self.candidates) + 1)) - 1
        for value in self.raw:
            self.data[value] = everything
        changed = True
        while changed:  # more than once only because of loops
            changed = False
            for op in self.flat.operations:
                bits, learned, random = 0, False, False
                for value in op.inputs:
                    bits |= self.data[value]
                    learned |= self.learned[value]
                    random |= self.random[value]
                noise = op.name == node_p.name and op.params["kind"] == "noise"
                if noise or op.name.startswith("random_") or op.name in _NOISE:
                    bits, learned, random = 0, False, True
                elif op.name == node_p.name:
                    bits, random = bits or everything, True  # a latent variable is data
                for value in op.outputs:
                    own = bits & ~(2 << self.by_result[value]) if value in self.by_result else bits
                    known = self.data[value], self.learned[value], self.random[value]
                    new = known[0] | own, known[1] | learned, known[2] | random
                    if new != known:
                        self.data[value], self.learned[value], self.random[value] = new
                        changed = True
        changed = True
        while changed:
            changed = False
            for op in reversed(self.flat.operations):
                later = any(self.meets[v] for v in op.outputs)
                for k, value in enumerate(op.inputs):
                    if not self.meets[value] and (later or self._is_weighting(op, k)):
                        self.meets[value] = changed = True

    def _is_weighting(self, op: Operation, k: int) -> bool:
        """Whether an operation multiplies its operand k by weights."""
        if op.name not in _PRODUCTS and op.name != "mul":
            return False
        other = op.inputs[1 - k]
        if not self.data[other] & 1:
            return self.learned[other]
        return op.name in _PRODUCTS and self.origin(other) in self.raw

    def is_data(self, value: int, beside: int | None = None) -> bool:
        """Whether a value depends on data, other than through one activation."""
        return bool(self.data[value] >> (0 if beside is None else beside + 1) & 1)

    def origin(self, value: int) -> int:
        """Where a value comes from, through movements."""
        while (op := self.flat.producer.get(value)) is not None and _MOVES.get(op.name, 1) == 0:
            value = op.inputs[0]
        return value

    def depends_on(self, value: int, on: int) -> bool:
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

    # -- what kind of factor a value is

    def is_normaliser(self, value: int) -> bool:
        """Whether a value is one over something, as the factors of normalisation layers are."""
        value = self.origin(value)
        op = self.flat.producer.get(value)
        if op is None or value in self.by_result:
            return False
        if op.name == "mul":
            a, b = op.inputs
            fixed = [not self.is_data(v) for v in (a, b)]
            return (self.is_normaliser(a) and (fixed[1] or self.is_normaliser(b))) or (
                fixed[0] and self.is_normaliser(b)
            )
        if op.name == "integer_pow":
            return op.params["y"] < 0
        if op.name == "pow":
            return self.flat.constants.get(op.inputs[1], 1) < 0
        return op.name == "rsqrt" or (op.name == "div" and not self.is_data(op.inputs[0]))

    def is_mask(self, value: int) -> bool:
        """Whether a value takes two values only, chosen by a condition."""
        if not self.is_data(value):
            return True
        if self.flat.avals[value].dtype == jnp.bool_:
            return True
        op = self.flat.producer.get(value)
        if op is None:
            return False
        if _MOVES.get(op.name, 1) == 0:
            return self.is_mask(op.inputs[0])
        if op.name == "select_n":
            return all(map(self.is_mask, op.inputs[1:]))
        return op.name in _SUMS | {"mul"} and all(map(self.is_mask, op.inputs))

    def is_shared(self, value: int, product: int, candidate: Candidate) -> bool:
        """Whether a value is an argument, broadcast, that e does not depend on: weights, a mask."""
        value = self.origin(value)
        broadcast = self.flat.avals[value].size < self.flat.avals[product].size
        return broadcast and value in self.raw and not self.depends_on(candidate.x, value)

    def is_same(self, a: int, b: int, depth: int = 5) -> bool:
        """Whether two values are computed in the same way from the same values."""
        if a == b:
            return True
        constants = self.flat.constants
        if a in constants and b in constants:
            return bool(constants[a] == constants[b])
        one, other = self.flat.producer.get(a), self.flat.producer.get(b)
        if one is None or other is None or not depth or one.name != other.name:
            return False
        if one.outputs.index(a) != other.outputs.index(b) or len(one.inputs) != len(other.inputs):
            return False
        inputs = zip(one.inputs, other.inputs, strict=True)
        return one.params == other.params and all(self.is_same(*v, depth - 1) for v in inputs)

    def gates(self, factor: int, product: int, i: int) -> bool:
        """Whether a product with this factor makes activation i, or what it goes into, a gate."""
        if not self.is_data(factor, i) or self.is_normaliser(factor) or self.is_mask(factor):
            return False
        return not self.is_shared(factor, product, self.candidates[i])

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
            if scope.name in _LIBRARY:
                return Role(_LIBRARY[scope.name])
        if not self.is_data(candidate.x) and not self.random[candidate.x]:
            return Role("applied to parameters or constants, not to data")
        used = candidate.result in self.flat.consumers or candidate.result in self.flat.results
        if not used:
            return Role("its result is not used")
        if candidate.root.differentiated:
            return Role("the network itself differentiates through it")
        rectifies = candidate.function in ("relu", "leaky_relu", "softplus")
        if candidate.function == "relu" and (op := self.flat.producer.get(candidate.x)) is not None:
            if op.name == "clamp" or (op.name == "min" and self._has_constant(op)):
                return Role("a clip: bounded from above before")
        found = self.follow(i)
        if found is not None and not found.optional:
            return found
        if rectifies and not self.meets[candidate.result] and not self.is_linear(candidate.x):
            return Role("a loss or a normaliser: applied to products or powers of data")
        if candidate.function == "softmax" and not self.is_output(candidate.result):
            return Role("attention or pooling: a softmax that is not the result", True)
        return found

    def _has_constant(self, op: Operation) -> bool:
        return any(v in self.flat.constants for v in op.inputs)

    def follow(self, i: int) -> Role | None:
        """Follows the result of activation i, until something tells its role."""
        candidate = self.candidates[i]
        optional: Role | None = None
        # Values that it goes into, and whether nothing but constants and parameters was added.
        pending, seen = [(candidate.result, True)], {candidate.result}
        while pending:
            value, alone = pending.pop(0)
            for j in self.by_x.get(value, ()):
                other = self.candidates[j]
                if other.function == "softmax" and not self.is_output(other.result):
                    role = Role("attention: a score, which goes into a softmax", True)
                    optional = optional or role
                elif value == candidate.result and (role := self.role(j)) and role.optional:
                    optional = optional or Role(f"part of {other.function}, {role.reason}")
            for op, k in self.flat.consumers.get(value, ()):
                onward, role = self.step(i, op, k, value, alone)
                if role is not None and not role.optional:
                    return role
                optional = optional or role
                still = alone and not (op.name in _SUMS and self.is_data(op.inputs[1 - k]))
                new = [v for v in onward if v not in seen]
                seen.update(new)
                pending.extend((v, still) for v in new)
        return optional

    def step(
        self, i: int, op: Operation, k: int, value: int, alone: bool
    ) -> tuple[list[int], Role | None]:
        """What follows from the use of a value in an operation, and where the value goes on."""
        candidate, name = self.candidates[i], op.name
        rectifies = candidate.function in ("relu", "leaky_relu", "softplus")
        if name in _MOVES:
            if name == "optimization_barrier":
                return [op.outputs[k]], None
            if _MOVES[name] == k or (
                _MOVES[name] is None and (k or name in ("concatenate", "stack"))
            ):
                return op.outputs, None
            return [], None
        if name in _SUMS:
            other = op.inputs[1 - k]
            if rectifies and not self.meets[candidate.result] and self.is_power(other):
                return [], Role(f"a loss: added to products or powers of data{op.short_source}")
            return op.outputs, None
        if name == "mul":
            other = op.inputs[1 - k]
            if self.is_same(other, value):
                return [], None  # a square
            if self.gates(other, op.outputs[0], i):
                return [], Role(f"a gate: multiplied by other data{op.short_source}", True)
            return op.outputs, None
        if name in _PRODUCTS:
            other = op.inputs[1 - k]
            if self.learned[other] and self.gates(other, op.outputs[0], i):
                return [], Role(f"a gate: multiplied by other data{op.short_source}", True)
            return [], None
        if name == "div":
            if k == 0:
                return op.outputs, None
            return [], Role(f"a loss or a normaliser: goes into a denominator{op.short_source}")
        if name in ("min", "max", "clamp") and op.outputs[0] not in self.by_result:
            if not self._has_constant(op):
                return [], None
            if candidate.function == "relu" and alone and name != "max":
                return [], Role(f"a clip: bounded from above afterwards{op.short_source}")
            return op.outputs, None
        if (name in _NARROW and k == 0) or (name == "integer_pow" and op.params["y"] < 0):
            return [], Role(f"a loss or a normaliser: goes into `{name}`{op.short_source}")
        return [], None

    def is_power(self, value: int) -> bool:
        """Whether a value is a product or a power of data, as the terms of losses are."""
        value = self.origin(value)
        op = self.flat.producer.get(value)
        if op is None or value in self.by_result or not self.is_data(value):
            return False
        if op.name == "mul":
            a, b = op.inputs
            if self.is_data(a) and self.is_data(b):
                return not (self.is_normaliser(a) or self.is_normaliser(b))
            return self.is_power(a if self.is_data(a) else b)
        return op.name in _POWERS

    def is_linear(self, value: int) -> bool:
        """Whether some term of a sum is more than a product or a power of data."""
        seen, pending = set(), [value]
        while pending:
            v = self.origin(pending.pop())
            if v in seen or not self.is_data(v):
                continue
            seen.add(v)
            op = self.flat.producer.get(v)
            if op is None or v in self.by_result:
                return True
            if op.name in _SUMS:
                pending.extend(op.inputs)
            elif op.name == "mul":
                a, b = op.inputs
                if not self.is_data(a) or self.is_normaliser(a):
                    pending.append(b)
                elif not self.is_data(b) or self.is_normaliser(b):
                    pending.append(a)
            elif op.name == "div" or op.name in _REDUCTIONS:
                pending.append(op.inputs[0])
            elif op.name == "select_n" or _MOVES.get(op.name, 0) is None:
                pending.extend(op.inputs[1:] if op.name == "select_n" else op.inputs)
            elif op.name not in _POWERS:
                return True
        return False

    def is_output(self, value: int) -> bool:
        """Whether a value is returned, through movements of data only, and feeds nothing else."""
        returned, pending, seen = False, [value], {value}
        results = set(self.flat.results)
        while pending:
            v = pending.pop()
            returned |= v in results
            for op, k in self.flat.consumers.get(v, ()):
                if op.name not in _PURE_MOVES or (k and _MOVES[op.name] == 0):
                    return False
                new = op.outputs if op.name != "optimization_barrier" else [op.outputs[k]]
                pending += [o for o in new if o not in seen]
                seen.update(new)
        return returned
