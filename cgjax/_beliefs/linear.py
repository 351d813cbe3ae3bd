"""Operations that are linear in what is uncertain, and others to first order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from cgjax._beliefs.curves.curve import warn_of_decision
from cgjax._beliefs.maps import Complex, Linear, as_linear, is_complex, moments
from cgjax._beliefs.values import Gaussian, Value, is_random
from cgjax._program.degrees import wraps_linear
from cgjax._program.jaxprs import aval, bind
from cgjax._program.primitives import facts

Array = jax.Array


def linear(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> list[Value] | None:
    """The results of an operation that is linear in its random operands; None for others.

    Complex results are kept as linear maps; real ones are settled, as those of other products are.
    """
    random = [is_random(x) for x in operands]
    if not (facts(eqn).is_linear(random) or wraps_linear(eqn, random)):
        return None
    values = [as_linear(x, order) if is_random(x) else None for x in operands]
    known = [v for v in values if v is not None]
    if len(known) < sum(random):
        return None
    roots = list({id(x): x for v in known for x in v.roots}.values())
    place = {id(x): k for k, x in enumerate(roots)}

    def function(*numbers: Array) -> list[Array]:
        arguments = [
            x if v is None else v.function(*(numbers[place[id(r)]] for r in v.roots))
            for x, v in zip(operands, values, strict=True)
        ]
        return bind(eqn, arguments)

    alike = min(kept_axes(eqn, k, v.alike) for k, v in enumerate(values) if v is not None)
    outs: list[Value] = []
    for k, v in enumerate(eqn.outvars):
        out = Linear(
            tuple(roots),
            lambda *numbers, k=k: function(*numbers)[k],
            tuple(aval(v).shape),
            aval(v).dtype,
            alike,
        )
        outs.append(out if is_complex(out) else out.settled(order))
    return outs


def kept_axes(eqn: JaxprEqn, operand: int, number: int) -> int:
    """Along how many leading axes the parts of the result are made of the same of an operand.

    Args:
        eqn: the operation.
        operand: the index of the operand.
        number: how many are of interest.
    """
    before, after = aval(eqn.invars[operand]).shape, aval(eqn.outvars[0]).shape
    params, known = eqn.params, facts(eqn)
    if known.elementwise:
        return number if before == after else 0
    number = _length(a == b for a, b in zip(before[:number], after, strict=False))
    if "fft_lengths" in params:
        return min(number, len(before) - len(params["fft_lengths"]))
    for moved in ("permutation", "broadcast_dimensions"):
        if moved in params:
            return min(number, _length(k == a for k, a in enumerate(params[moved])))
    if known.contracts and "dimension_numbers" in params:
        return min(number, _kept_in_product(params["dimension_numbers"], operand))
    if known.reduces == "sum" and "axes" in params:
        return min(number, *params["axes"])
    # A slice of an axis that keeps its length is all of it.
    return number if eqn.primitive is lax.slice_p else 0


def _kept_in_product(numbers: object, operand: int) -> int:
    if not isinstance(numbers, tuple) or len(numbers) != 2:
        return 0  # of a convolution
    contract, batch = numbers
    if any(batch):
        return _length(k == a for k, a in enumerate(batch[operand]))
    return min(contract[0], default=0) if operand == 0 else 0


def _length(conditions: Iterable[bool]) -> int:
    """How many hold, up to the first that does not."""
    return sum(1 for _ in takewhile(bool, conditions))


# -- first-order moments of what is not linear


def linearised(eqn: JaxprEqn, operands: Sequence[Value], order: int) -> list[Value]:
    """First-order moments of any differentiable primitive: f(m) and the sum of J_ij^2 v_j.

    Results that are whole numbers or decisions are taken at the means.
    """
    values = [as_linear(x, order) if is_random(x) else None for x in operands]
    roots = list({id(r): r for v in values if v is not None for r in v.roots}.values())
    place = {id(x): k for k, x in enumerate(roots)}
    kept = [k for k, v in enumerate(eqn.outvars) if jnp.issubdtype(aval(v).dtype, jnp.inexact)]

    def function(*numbers: Array) -> list[Array]:
        arguments = [
            x if v is None else v.function(*(numbers[place[id(r)]] for r in v.roots))
            for x, v in zip(operands, values, strict=True)
        ]
        return bind(eqn, arguments)

    results: list[Value] = list(function(*(x.mean for x in roots)))
    if order != 1 and len(kept) < len(results):
        warn_of_decision(eqn, "an index or a decision")
    outs, squares = moments(lambda *v: [function(*v)[k] for k in kept], roots, 0)
    for k, mean, square in zip(kept, outs, squares, strict=True):
        if jnp.issubdtype(mean.dtype, jnp.complexfloating):
            results[k] = Complex(mean, square.real, square.imaginary, square.covariance)
        else:
            results[k] = Gaussian(mean, square.real)
    return results
