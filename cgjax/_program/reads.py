"""Which elements of random arrays each element of a value is a function of.

A set of elements is an integer, one bit for each: of an array of values either one such set for all
its elements, or an array of sets, one for each. Operations that are not followed element by element
make each element of a result a function of all that goes in, which is never wrong.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Var

from cgjax import _static
from cgjax._node import node_p
from cgjax._program.control import Call, control
from cgjax._program.jaxprs import (
    AnyJaxpr,
    Atom,
    Literal,
    Operand,
    aval,
    bind,
    consts,
    dtype,
    open_jaxpr,
    sub_jaxprs,
)
from cgjax._program.primitives import facts
from cgjax._program.program import Program

# One set for all elements, or an array of objects, a set for each element.
Bits = int | np.ndarray

# Larger arrays are not looked into.
_MOST = 1 << 14
# Linear operations are tried out on each element of their operand if that takes no more numbers.
_MOST_TRIED = 1 << 20


def union(bits: Bits) -> int:
    """The elements that any element of a value is a function of."""
    return bits if isinstance(bits, int) else functools.reduce(operator.or_, bits.reshape(-1), 0)


def positions(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


@dataclass
class Reads:
    """What the values of a program without calls are functions of.

    Attributes:
        of_value: for each variable.
        of_parameter: for each node that lies in no branch, by index, its natural parameter's.
        of_family: for these nodes, what the numbers of their family are functions of.
    """

    of_value: dict[Var, Bits] = field(default_factory=dict)
    of_parameter: dict[int, Bits] = field(default_factory=dict)
    of_family: dict[int, int] = field(default_factory=dict)

    def of(self, v: Atom) -> Bits:
        """What a variable or a number is a function of."""
        return 0 if isinstance(v, Literal) else self.of_value.get(v, 0)


def marks(program: Program) -> dict[int, JaxprEqn]:
    """The marks of the nodes that lie in no loop and no branch, by the nodes' indices."""
    found, index = {}, 0
    for eqn in open_jaxpr(program.jaxpr).eqns:
        if eqn.primitive is node_p:
            found[index] = eqn
        index += nodes_of(program, eqn)
    return found


def nodes_of(program: Program, eqn: JaxprEqn) -> int:
    """How many nodes an equation marks or holds."""
    if eqn.primitive is node_p:
        return 1
    return sum(program.counts[id(open_jaxpr(sub))] for sub in sub_jaxprs(eqn))


def reads(program: Program, statistics: Mapping[int, Bits]) -> Reads:
    """Follows sets of elements through a program.

    Args:
        program: a program without calls.
        statistics: the sets of the elements of each node's statistic; of nodes in branches one set.
    """
    found, index = Reads(), 0
    inner = open_jaxpr(program.jaxpr)
    known = _Known(inner.eqns, dict(zip(inner.constvars, consts(program.jaxpr), strict=True)))
    for eqn in inner.eqns:
        count = nodes_of(program, eqn)
        operands = list(map(found.of, eqn.invars))
        if eqn.primitive is node_p:
            size = program.sites[index].family.num_arrays
            found.of_parameter[index] = operands[1]
            family = found.of_family[index] = _all(operands[2 : 2 + size])
            # The state of a node stands for a value that depends on its family's numbers.
            outs = [statistics.get(index, 0) | family]
        elif count:
            inside = [statistics.get(i, 0) for i in range(index, index + count)]
            outs = [_all([*operands, *inside])] * len(eqn.outvars)
        else:
            outs = _after(eqn, operands, known)
        index += count
        found.of_value.update(zip(eqn.outvars, outs, strict=True))
    return found


@dataclass(frozen=True)
class _Known:
    """Values that are computed from numbers alone, found when they are asked for."""

    eqns: Sequence[JaxprEqn]
    arrays: Mapping[Var, Operand]

    @functools.cached_property
    def maker(self) -> dict[Var, JaxprEqn]:
        """The equation that makes a variable."""
        return {v: eqn for eqn in self.eqns for v in eqn.outvars}

    def __call__(self, atom: Atom) -> np.ndarray | None:
        if isinstance(atom, Literal):
            return np.asarray(atom.val)
        if np.prod(aval(atom).shape) > _MOST:
            return None
        if atom in self.arrays:
            array = self.arrays[atom]
            return None if _static.is_traced(array) else np.asarray(array)
        eqn = self.maker.get(atom)
        if eqn is None or sub_jaxprs(eqn) or facts(eqn).opaque or facts(eqn).random:
            return None
        operands = list(map(self, eqn.invars))
        if any(x is None for x in operands):
            return None
        with jax.ensure_compile_time_eval():
            return np.asarray(bind(eqn, operands)[eqn.outvars.index(atom)])


def _all(bits: Sequence[Bits]) -> int:
    return functools.reduce(operator.or_, map(union, bits), 0)


def _run(jaxpr: AnyJaxpr, operands: Sequence[Bits], known: _Known) -> list[Bits]:
    """The results of a function without nodes."""
    inner, env = open_jaxpr(jaxpr), {}
    env.update(dict.fromkeys(inner.constvars, 0))
    env.update(zip(inner.invars, operands, strict=True))

    def read(v: Atom) -> Bits:
        return 0 if isinstance(v, Literal) else env[v]

    inside = _Known(inner.eqns, dict(zip(inner.constvars, consts(jaxpr), strict=False)))
    for eqn in inner.eqns:
        env.update(zip(eqn.outvars, _after(eqn, list(map(read, eqn.invars)), inside), strict=True))
    return list(map(read, inner.outvars))


def _after(eqn: JaxprEqn, operands: list[Bits], known: _Known) -> list[Bits]:
    """The results of an equation without nodes."""
    about, number = facts(eqn), len(eqn.outvars)
    if not number:
        return []
    if about.paired and len(operands) == number:
        return list(operands)
    if all(isinstance(bits, int) for bits in operands):
        return [_all(operands)] * number
    call = control(eqn, operands)
    if isinstance(call, Call):
        return _run(call.body, call.operands, known)
    shape = getattr(aval(eqn.outvars[0]), "shape", None)
    if number == 1 and shape is not None and np.prod(shape) <= _MOST and not about.opaque:
        found = _elementwise(eqn, operands) if about.elementwise else _ruled(eqn, operands)
        if found is None:
            found = _tried(eqn, operands, known)
        if found is not None:
            return [found if isinstance(found, int) else np.broadcast_to(found, shape)]
    return [_all(operands)] * number


def _elementwise(eqn: JaxprEqn, operands: Sequence[Bits]) -> Bits:
    return functools.reduce(operator.or_, operands)


def _ruled(eqn: JaxprEqn, operands: Sequence[Bits]) -> Bits | None:
    """The result of an operation that has a rule in NumPy."""
    rule = _RULES.get(eqn.primitive.name)
    about, params, bits = facts(eqn), eqn.params, operands[0]
    if rule is not None:
        return rule(eqn, [_whole(b, v) for b, v in zip(operands, eqn.invars, strict=True)])
    if about.reduces is None or about.windowed or len(operands) != 1 or isinstance(bits, int):
        return None
    if about.running and "axis" in params:
        flipped = np.flip(bits, params["axis"]) if params["reverse"] else bits
        found = np.bitwise_or.accumulate(flipped, axis=params["axis"])
        return np.flip(found, params["axis"]) if params["reverse"] else found
    if about.running or "axes" not in params:
        return None
    return np.asarray(np.bitwise_or.reduce(bits, axis=tuple(params["axes"])), object)


def _whole(bits: Bits, v: Atom) -> np.ndarray:
    """A set for each element."""
    return np.broadcast_to(np.asarray(bits, object), aval(v).shape)


def _spread(eqn: JaxprEqn, operands: Sequence[np.ndarray]) -> np.ndarray:
    x, shape, axes = operands[0], eqn.params["shape"], eqn.params["broadcast_dimensions"]
    inside = [1] * len(shape)
    for k, axis in enumerate(axes):
        inside[axis] = x.shape[k]
    return np.broadcast_to(x.reshape(inside), shape)


def _slice(eqn: JaxprEqn, operands: Sequence[np.ndarray]) -> np.ndarray:
    params = eqn.params
    steps = params["strides"] or [1] * operands[0].ndim
    places = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return operands[0][tuple(slice(*place) for place in places)]


def _product(eqn: JaxprEqn, operands: Sequence[np.ndarray]) -> np.ndarray:
    (summed_a, summed_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    each = []
    for x, summed, batch in zip(operands, (summed_a, summed_b), (batch_a, batch_b), strict=True):
        free = [k for k in range(x.ndim) if k not in summed and k not in batch]
        x = x.transpose(*batch, *free, *summed)
        num_kept = len(batch) + len(free)
        x = x.reshape((*x.shape[:num_kept], -1))
        each.append((np.bitwise_or.reduce(x, axis=-1) if x.shape[-1] else None, len(batch)))
    (a, num_batch), (b, _) = each
    if a is None or b is None:
        return np.zeros((), object)
    a, b = np.asarray(a, object), np.asarray(b, object)
    a = a.reshape((*a.shape, *(1,) * (b.ndim - num_batch)))
    b = b.reshape((*b.shape[:num_batch], *(1,) * (a.ndim - b.ndim), *b.shape[num_batch:]))
    return a | b


# By the names of the operations, which only say here how NumPy writes them.
_RULES: dict[str, Callable[[JaxprEqn, Sequence[np.ndarray]], np.ndarray]] = {
    "reshape": lambda eqn, x: x[0].reshape(eqn.params["new_sizes"]),
    "squeeze": lambda eqn, x: x[0].reshape(aval(eqn.outvars[0]).shape),
    "transpose": lambda eqn, x: x[0].transpose(eqn.params["permutation"]),
    "rev": lambda eqn, x: np.flip(x[0], eqn.params["dimensions"]),
    "broadcast_in_dim": _spread,
    "slice": _slice,
    "concatenate": lambda eqn, x: np.concatenate(x, eqn.params["dimension"]),
    "stack": lambda eqn, x: np.stack(x, eqn.params["axis"]),
    "dot_general": _product,
}


def _tried(eqn: JaxprEqn, operands: Sequence[Bits], known: _Known) -> Bits | None:
    """The result of a move, or a linear operation, that is tried out on numbers in JAX."""
    about, number = facts(eqn), len(operands)
    if about.entered:
        return None
    if about.moves:
        return _moved(eqn, operands, known)
    random = [k for k, bits in enumerate(operands) if union(bits)]
    if not about.is_linear([k in random for k in range(number)]):
        return None
    shape = aval(eqn.outvars[0]).shape
    found = np.zeros(shape, object)
    for k in random:
        size = int(np.prod(aval(eqn.invars[k]).shape))
        if size * int(np.prod(shape)) > _MOST_TRIED:
            return None
        # Of a sum, the other operands add nothing; of a product, they take nothing away.
        others = _others(eqn, [k], known, 1 if about.bilinear else 0)
        if others is None:
            return None
        bits = _whole(operands[k], eqn.invars[k]).reshape(-1)
        for place, touched in zip(bits, _touched(eqn, k, others), strict=True):
            found[touched] |= place
    return found


def _touched(eqn: JaxprEqn, operand: int, others: Mapping[int, Operand]) -> np.ndarray:
    """Which elements of the result each element of an operand reaches, by a linear operation."""
    v = eqn.invars[operand]
    size = int(np.prod(aval(v).shape))

    def result(x: jax.Array) -> jax.Array:
        return bind(eqn, [others.get(j, x) for j in range(len(eqn.invars))])[0]

    with jax.ensure_compile_time_eval():
        ones = np.eye(size, dtype=dtype(v)).reshape(size, *aval(v).shape)
        return np.asarray(jax.jit(jax.vmap(result))(ones)) != 0


def _others(
    eqn: JaxprEqn, random: Sequence[int], known: _Known, fill: int = 0
) -> dict[int, Operand] | None:
    """All other operands: one number in place of data, and what is known of indices."""
    found: dict[int, Operand] = {}
    for k, v in enumerate(eqn.invars):
        if k in random:
            continue
        if facts(eqn).is_data(k, len(eqn.invars)):
            found[k] = np.full(aval(v).shape, fill, dtype(v))
        elif (array := known(v)) is not None:
            found[k] = array
        else:
            return None
    return found


def _moved(eqn: JaxprEqn, operands: Sequence[Bits], known: _Known) -> Bits | None:
    """The result of an operation that takes elements of its data elsewhere: their numbers go."""
    number = len(operands)
    data = [k for k in range(number) if facts(eqn).is_data(k, number)]
    others = _others(eqn, data, known)
    if others is None or any(union(operands[k]) for k in others):
        return None
    numbers, sets = {}, [0]
    for k in data:
        v = eqn.invars[k]
        size = int(np.prod(aval(v).shape))
        numbers[k] = np.arange(len(sets), len(sets) + size, dtype=np.float32)
        numbers[k] = numbers[k].reshape(aval(v).shape)
        sets.extend(_whole(operands[k], v).reshape(-1))
    with jax.ensure_compile_time_eval():
        at = [jnp.asarray(numbers[k] if k in numbers else others[k]) for k in range(number)]
        places = np.asarray(bind(eqn, at)[0])
    places = np.where(np.isfinite(places), places, 0).astype(int)  # a filling is no element
    return np.asarray(sets, object)[places]
