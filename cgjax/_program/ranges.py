"""Between which numbers the values of a program lie, as far as the program itself says.

A mask that was made of decisions lies between 0 and 1, an exponential does not fall below 0: what
is known of every value, whatever the arguments are. Arguments may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import JaxprEqn, Literal, Primitive, Var

from cgjax._program.control import Call, Cond, Scan, control
from cgjax._program.jaxprs import AnyJaxpr, aval, consts, dtype, open_jaxpr
from cgjax._program.primitives import facts


class Range(NamedTuple):
    """The least and the largest number that an array may hold, NaN aside."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def number(self) -> float | None:
        """The number that the array is everywhere, if it is known."""
        return self.low if self.low == self.high else None


ANY = Range()
_NOT_NEGATIVE = Range(0.0)
# Constants of at most so many elements are looked at.
_LARGEST_CONSTANT = 1 << 16


def ranges(
    jaxpr: AnyJaxpr, operands: Sequence[Range], constants: Sequence[Range]
) -> dict[Var, Range]:
    """The ranges of all variables of a jaxpr, of those about which anything is known.

    Args:
        jaxpr: the program.
        operands: the ranges of its arguments.
        constants: those of the arrays that it closes over.
    """
    inner = open_jaxpr(jaxpr)
    known = dict(zip(inner.constvars, constants, strict=True))
    known.update(zip(inner.invars, operands, strict=True))
    for eqn in inner.eqns:
        found = _results(eqn, [of(v, known) for v in eqn.invars])
        for v, one in zip(eqn.outvars, found, strict=True):
            one = _within(one, _of_type(dtype(v)))
            if one != ANY:
                known[v] = one
    return {v: one for v, one in known.items() if one != ANY}


def of(v: Var | Literal, known: Mapping[Var, Range]) -> Range:
    """The range of a variable or of a number in the program."""
    return of_constant(v.val) if isinstance(v, Literal) else known.get(v, ANY)


def from_zero(known: bool) -> Range:
    """Of what is not negative, if that is known."""
    return _NOT_NEGATIVE if known else ANY


def not_negative_constants(jaxpr: AnyJaxpr) -> frozenset[int]:
    """Which of the arrays that a program closes over hold nothing below 0.

    Of those that may be factors or masks: that are factors, are divided by, chosen from, or given
    to a function.
    """
    inner, arrays = open_jaxpr(jaxpr), consts(jaxpr)
    origins: dict[Var, frozenset[int]] = {
        v: frozenset((k,)) for k, v in enumerate(inner.constvars) if _is_small(v)
    }
    used: set[int] = set()
    for eqn in inner.eqns:
        operands = [origins[v] for v in eqn.invars if not isinstance(v, Literal) and v in origins]
        found, known = frozenset[int]().union(*operands), facts(eqn)
        if found and all(isinstance(v, Literal) or v in origins for v in eqn.invars):
            origins.update(dict.fromkeys(eqn.outvars, found))
        scales = known.multiplies or known.divides or known.contracts
        if scales or known.entered or eqn.primitive is lax.select_n_p:
            used |= found
    return frozenset(k for k in used if of_constant(arrays[k]).low >= 0)


def _is_small(v: Var) -> bool:
    kind = dtype(v)
    floats = kind is not None and jnp.issubdtype(kind, jnp.floating)
    return floats and 0 < aval(v).size <= _LARGEST_CONSTANT


def inside(eqn: JaxprEqn, operands: Sequence[Range]) -> list[Range] | None:
    """The ranges of the arguments of the functions that an equation holds; None if not known."""
    match control(eqn, operands):
        case Call(operands=given) | Cond(operands=given):
            return given
        case Scan(consts=before, carry=carry, xs=rows):
            return [*before, *[ANY] * len(carry), *rows]
    return None


def _results(eqn: JaxprEqn, operands: list[Range]) -> list[Range]:
    nothing = [ANY] * len(eqn.outvars)
    call = control(eqn, operands)
    if isinstance(call, Call):
        body = open_jaxpr(call.body)
        if len(body.invars) != len(operands) or call.kind == "component":
            return nothing
        known = ranges(body, operands, list(map(of_constant, consts(call.body))))
        return [of(v, known) for v in body.outvars]
    types = [dtype(v) for v in (*eqn.invars, *eqn.outvars)]
    if call is not None or any(t is None or jnp.issubdtype(t, np.complexfloating) for t in types):
        return nothing
    moved = _moved(eqn, operands)
    if moved is not None:
        return moved
    rule = _RULES.get(eqn.primitive)
    # Whole numbers may overflow.
    computes = all(jnp.issubdtype(t, jnp.floating) for t in types) or facts(eqn).decides
    return nothing if rule is None or not computes else [rule(eqn, *operands)]


def _moved(eqn: JaxprEqn, operands: list[Range]) -> list[Range] | None:
    """The results of an operation that only moves data, or converts them."""
    known = facts(eqn)
    if eqn.primitive is lax.iota_p:
        return [Range(0.0, float(max(eqn.params["shape"][eqn.params["dimension"]] - 1, 0)))]
    if known.converts and known.paired:
        pairs = zip(operands, eqn.outvars, strict=True)
        return None if known.decides else [_held(x, dtype(v)) for x, v in pairs]
    fills = eqn.primitive is lax.gather_p and known.mixes
    if not known.moves or fills:
        return None
    return [_either(*(operands[k] for k in known.data.of(len(operands))))] * len(eqn.outvars)


def _held(x: Range, kind: np.dtype) -> Range:
    """What becomes of numbers in a dtype: whole ones out of its range become others."""
    if not jnp.issubdtype(kind, jnp.integer):
        return x
    limits = jnp.iinfo(kind)
    return x if limits.min <= x.low and x.high <= limits.max else ANY


def of_constant(x: object) -> Range:
    """The range of an array that is known while tracing, if it is a small one."""
    if isinstance(x, Tracer) or not isinstance(
        x, jax.Array | np.ndarray | np.generic | float | int
    ):
        return ANY
    kind = jnp.result_type(x)
    real = jnp.issubdtype(kind, jnp.bool_) or jnp.issubdtype(kind, jnp.number)
    if not real or not 0 < np.size(x) <= _LARGEST_CONSTANT:
        return ANY
    if jnp.issubdtype(kind, jnp.complexfloating):
        return ANY
    values = np.asarray(x)
    low, high = float(values.min()), float(values.max())
    return ANY if math.isnan(low) or math.isnan(high) else Range(low, high)


def _of_type(kind: np.dtype | None) -> Range:
    if kind is not None and jnp.issubdtype(kind, jnp.bool_):
        return Range(0.0, 1.0)
    if kind is not None and jnp.issubdtype(kind, jnp.unsignedinteger):
        return _NOT_NEGATIVE
    return ANY


def _within(one: Range, other: Range) -> Range:
    low, high = max(one.low, other.low), min(one.high, other.high)
    return Range(low, high) if low <= high else other


def _either(*cases: Range) -> Range:
    return Range(min(c.low for c in cases), max(c.high for c in cases))


# -- operations on numbers


def _sum(low: float, high: float) -> Range:
    """Bounds; infinite ones of different signs have no sum."""
    return Range(*(b if math.isnan(a) else a for a, b in zip((low, high), ANY, strict=True)))


def _product(a: Range, b: Range) -> Range:
    corners = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return Range(min(corners), max(corners))


def _quotient(a: Range, b: Range) -> Range:
    if b.low < 0:
        return ANY
    return Range(0.0 if a.low >= 0 else -math.inf, 0.0 if a.high <= 0 else math.inf)


def _size(x: Range) -> Range:
    return Range(max(x.low, -x.high, 0.0), max(-x.low, x.high))


def _square(x: Range) -> Range:
    size = _size(x)
    return _product(size, size)


def _whole_power(eqn: JaxprEqn, x: Range) -> Range:
    y = eqn.params["y"]
    if y == 2:
        return _square(x)
    return _NOT_NEGATIVE if y % 2 == 0 or x.low >= 0 else ANY


def _total(eqn: JaxprEqn, x: Range) -> Range:
    """Of a sum of such numbers, of which there may be none."""
    return Range(0.0 if x.low >= 0 else -math.inf, 0.0 if x.high <= 0 else math.inf)


def _contracted(eqn: JaxprEqn, a: Range, b: Range) -> Range:
    return _total(eqn, _product(a, b))


def _sign(x: Range) -> Range:
    return Range(*(float(np.sign(v)) for v in x))


def _compared(less: Callable[[float, float], bool], swap: bool) -> Callable[..., Range]:
    """Of `a < b` or `a <= b`: 0 or 1 where that is sure, for numbers that may be NaN."""

    def rule(eqn: JaxprEqn, a: Range, b: Range) -> Range:
        a, b = (b, a) if swap else (a, b)
        return Range(0.0, 0.0 if not less(a.low, b.high) else 1.0)

    return rule


def _plain(rule: Callable[..., Range]) -> Callable[..., Range]:
    return lambda eqn, *operands: rule(*operands)


_RULES: dict[Primitive, Callable[..., Range]] = {
    lax.add_p: _plain(lambda a, b: _sum(a.low + b.low, a.high + b.high)),
    lax.sub_p: _plain(lambda a, b: _sum(a.low - b.high, a.high - b.low)),
    lax.neg_p: _plain(lambda x: Range(-x.high, -x.low)),
    lax.mul_p: _plain(_product),
    lax.div_p: _plain(_quotient),
    lax.max_p: _plain(lambda a, b: Range(max(a.low, b.low), max(a.high, b.high))),
    lax.min_p: _plain(lambda a, b: Range(min(a.low, b.low), min(a.high, b.high))),
    lax.clamp_p: _plain(
        lambda low, x, high: Range(
            min(max(low.low, x.low), high.low), min(max(low.high, x.high), high.high)
        )
    ),
    lax.abs_p: _plain(_size),
    lax.sign_p: _plain(_sign),
    lax.square_p: _plain(_square),
    lax.integer_pow_p: _whole_power,
    lax.pow_p: _plain(lambda x, y: _NOT_NEGATIVE if x.low >= 0 else ANY),
    lax.sqrt_p: _plain(lambda x: _NOT_NEGATIVE),
    lax.rsqrt_p: _plain(lambda x: _NOT_NEGATIVE),
    lax.exp_p: _plain(lambda x: _NOT_NEGATIVE),
    lax.exp2_p: _plain(lambda x: _NOT_NEGATIVE),
    lax.log1p_p: _plain(lambda x: _NOT_NEGATIVE if x.low >= 0 else ANY),
    lax.logistic_p: _plain(lambda x: Range(0.0, 1.0)),
    lax.tanh_p: _plain(lambda x: Range(-1.0, 1.0)),
    lax.erf_p: _plain(lambda x: Range(-1.0, 1.0)),
    lax.erfc_p: _plain(lambda x: Range(0.0, 2.0)),
    lax.sin_p: _plain(lambda x: Range(-1.0, 1.0)),
    lax.cos_p: _plain(lambda x: Range(-1.0, 1.0)),
    lax.lt_p: _compared(lambda a, b: a < b, False),
    lax.gt_p: _compared(lambda a, b: a < b, True),
    lax.le_p: _compared(lambda a, b: a <= b, False),
    lax.ge_p: _compared(lambda a, b: a <= b, True),
    lax.reduce_sum_p: _total,
    lax.cumsum_p: _total,
    lax.reduce_prod_p: lambda eqn, x: _NOT_NEGATIVE if x.low >= 0 else ANY,
    lax.cumprod_p: lambda eqn, x: _NOT_NEGATIVE if x.low >= 0 else ANY,
    lax.reduce_max_p: lambda eqn, x: x if aval(eqn.invars[0]).size else ANY,
    lax.reduce_min_p: lambda eqn, x: x if aval(eqn.invars[0]).size else ANY,
    lax.dot_general_p: _contracted,
    lax.conv_general_dilated_p: _contracted,
}
