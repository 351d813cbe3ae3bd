"""Operations that are simpler ones for what is known of their operands and parameters."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs.values import Value, is_random
from cgjax._program.jaxprs import Atom, aval
from cgjax._program.jaxprs import Literal as Constant
from cgjax._program.primitives import facts

# Masks of at most so many elements are looked at while tracing.
_LARGEST_MASK = 1 << 16


def chosen_everywhere(eqn: JaxprEqn, operands: Sequence[Value]) -> Value | None:
    """What a choice chooses everywhere, if that is known while tracing."""
    which = operands[0]
    if eqn.primitive is not lax.select_n_p or is_random(which) or isinstance(which, Tracer):
        return None
    which = np.asarray(which)
    if not which.size or which.size > _LARGEST_MASK or (which != which.flat[0]).any():
        return None
    value = operands[1 + int(which.flat[0])]
    return value if jnp.shape(value) == tuple(aval(eqn.outvars[0]).shape) else None


def of_length_one(eqn: JaxprEqn) -> JaxprEqn:
    """Over axes of length 1, the sum, the product and the largest are the element itself."""
    known, params = facts(eqn), eqn.params
    if known.reduces not in ("sum", "product", "largest", "smallest") or known.windowed:
        return eqn
    shape = aval(eqn.invars[0]).shape
    if known.running:
        alone = shape[params["axis"]] == 1
        return eqn.replace(primitive=lax.copy_p, params={}) if alone else eqn
    if any(shape[a] != 1 for a in params["axes"]):
        return eqn
    return eqn.replace(primitive=lax.squeeze_p, params={"dimensions": tuple(params["axes"])})


def _whole_number(variable: Atom, value: Value) -> int | None:
    """A small exponent that is known while tracing, if it is a whole number."""
    if isinstance(variable, Constant):
        value = variable.val
    if is_random(value) or isinstance(value, Tracer) or np.ndim(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= 64 else None


def with_whole_power(eqn: JaxprEqn, operands: Sequence[Value]) -> tuple[JaxprEqn, Sequence[Value]]:
    """`x ** 2.0` as `x ** 2`, which is defined for negative x too."""
    if eqn.primitive is not lax.pow_p:
        return eqn, operands
    power = _whole_number(eqn.invars[1], operands[1])
    if power is None:
        return eqn, operands
    params = {"y": power}
    new = eqn.replace(primitive=lax.integer_pow_p, params=params, invars=eqn.invars[:1])
    return new, operands[:1]
