"""What is known while a program is traced: arrays, and between which numbers values lie."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs.exponents import not_negative
from cgjax._beliefs.settings import Unknown
from cgjax._beliefs.values import Value, is_random
from cgjax._program import ranges
from cgjax._program.jaxprs import aval, bind, dtype, sub_jaxprs
from cgjax._program.primitives import facts

# Indices of at most so many elements are computed while tracing, where they are known then.
_LARGEST_INDEX = 1 << 16


def of_arrays(eqn: JaxprEqn, operands: Sequence[Value]) -> list[jax.Array]:
    """An operation on arrays; on indices at once, so that moves by them can be followed."""
    avals = [aval(v) for v in eqn.outvars]
    small = all(isinstance(a, ShapedArray) and a.size <= _LARGEST_INDEX for a in avals)
    if facts(eqn).random or not small or any(isinstance(x, Tracer) for x in operands):
        return bind(eqn, operands)
    if any(not jnp.issubdtype(dtype(v), np.integer) and dtype(v) != jnp.bool_ for v in eqn.outvars):
        return bind(eqn, operands)
    if eqn.effects or (sub_jaxprs(eqn) and facts(eqn).call != "jit"):
        return bind(eqn, operands)
    with jax.ensure_compile_time_eval():
        return bind(eqn, operands)


def knowing(value: Value | Unknown, between: ranges.Range) -> Value | Unknown:
    """A value, with what is known of its numbers: that they are 0, or not below."""
    if isinstance(value, Unknown) or between.low < 0:
        return value
    if not is_random(value):
        zero = between.number == 0 and isinstance(value, Tracer)
        return np.broadcast_to(np.zeros((), value.dtype), value.shape) if zero else value
    if between.number == 0 and value.dtype == jnp.bool_:
        return np.zeros(value.shape, bool)
    return not_negative(value)
