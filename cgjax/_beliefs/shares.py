"""Shares of a whole that are chosen or weighted, and divided by their sum again.

With s_i = n_i / t, such as those of a softmax, m_i s_i / sum_j m_j s_j = m_i n_i / sum_j m_j n_j,
whatever t is: shares and their sums keep what they were before they were divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import JaxprEqn

from cgjax._beliefs import layouts
from cgjax._beliefs.curves.elementwise import elementwise
from cgjax._beliefs.grouped import Grouped
from cgjax._beliefs.laid import Laid, elementwise_laid, source
from cgjax._beliefs.values import Value, is_random
from cgjax._program.primitives import facts


def undivided(value: Grouped) -> Value:
    """What shares or their sum are before the division, in their layout."""
    known, layout = value.undivided, value.layout
    if known is None or isinstance(known, Grouped):
        return None if known is None else replace(known, layout=layout, total=None)
    plain = source(known)
    whole = layout == layouts.identity(plain.shape) and layout.shape == tuple(plain.shape)
    return plain if whole else Laid(plain, layout)


def before_division(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value] | None:
    """The operands of a quotient of shares and a sum of such; None of all else."""
    if eqn.primitive is not lax.div_p or not all(isinstance(x, Grouped) for x in operands):
        return None
    one, other = operands
    if one.undivided is None or other.undivided is None or one.alone or not other.alone:
        return None
    if one.sums[0].origin != other.sums[0].origin:
        return None
    return [undivided(one), undivided(other)]


def with_undivided(eqn: JaxprEqn, operands: Sequence[Value], out: Value) -> Value:
    """The result, with what shares become that are weighted by what is known, or left out."""
    shares = [x for x in operands if isinstance(x, Grouped) and not x.alone]
    random = sum(map(is_random, operands))
    if not isinstance(out, Grouped) or random != 1 or not shares or shares[0].undivided is None:
        return out
    (one,) = shares
    if out.layout != one.layout or not _keeps(eqn, operands):
        return out
    inner = [undivided(one) if x is one else x for x in operands]
    laid = isinstance(undivided(one), Laid)
    value = (
        elementwise_laid(eqn, inner, lambda e, x: elementwise(e, x, 2))
        if laid
        else elementwise(eqn, inner, 2)
    )
    return out if value is None else replace(out, undivided=value)


def _keeps(eqn: JaxprEqn, operands: Sequence[Value]) -> bool:
    """Whether it is a product or a quotient by what is known, or a choice of shares or of 0."""
    known = facts(eqn)
    if known.converts or known.multiplies or (known.divides and is_random(operands[0])):
        return True
    if eqn.primitive is not lax.select_n_p or is_random(operands[0]):
        return False
    others = [x for x in operands[1:] if not is_random(x)]
    return not any(isinstance(x, Tracer) or np.any(np.asarray(x)) for x in others)
