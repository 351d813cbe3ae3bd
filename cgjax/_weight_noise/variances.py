"""Values with a variance, which local reparameterisation keeps until their noise is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cgjax._beliefs.products import bilinear
from cgjax._beliefs.values import Gaussian
from cgjax._gaussian.numerics import wide
from cgjax._program.jaxprs import bind
from cgjax._program.primitives import facts
from cgjax._static import Leaf
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import (
    dtype_of,
    is_paired,
    shape_of,
)
from cgjax._weight_noise.shared import Passage, zeros_elsewhere


@dataclass(frozen=True, eq=False)
class Noisy:
    """A value with independent Gaussian noise that is not drawn yet.

    Attributes:
        mean: its mean.
        variance: of the noise, in float32 at least: those of half precision would vanish.
        weights: the arguments whose noise it is.
        data: whether data is part of it, so that there is noise of its own for each example.
    """

    mean: Leaf
    variance: Leaf
    weights: frozenset[int]
    data: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape


jax.tree_util.register_dataclass(
    Noisy, data_fields=["mean", "variance"], meta_fields=["weights", "data"]
)


def spread(value: Noisy, shape: tuple[int, ...] | None) -> Noisy:
    """A weight with noise for each element of what it is an operand of, where that has more."""
    if value.data or shape is None or value.mean.ndim != len(shape):
        return value
    mean, variance = (jnp.broadcast_to(a, shape) for a in (value.mean, value.variance))
    return replace(value, mean=mean, variance=variance)


def repeats(eqn: JaxprEqn) -> bool:
    """Whether a movement may show an element twice."""
    before, after = (
        sum(math.prod(shape_of(v)) for v in some) for some in (eqn.invars, eqn.outvars)
    )
    chosen = eqn.primitive is lax.gather_p
    return chosen or (after > before and not facts(eqn).mixes)


def variances(way: Passage, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """The variance of each result of an operation that noise passes through; None for no noise.

    Args:
        way: how it passes.
        eqn: the equation.
        operands: its operands, of which some are noisy.
    """
    return _RULES[way](eqn, operands)


def _variances(operands: Sequence[Value]) -> dict[int, Array]:
    return {k: x.variance for k, x in enumerate(operands) if isinstance(x, Noisy)}


def _moved(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    kept = _variances(operands)
    (variance, *_) = kept.values()
    rounds = eqn.primitive is lax.reduce_precision_p
    if facts(eqn).converts and (rounds or dtype_of(eqn.outvars[0]) != dtype_of(eqn.invars[0])):
        return [variance]  # it is rounded with the sample
    if is_paired(eqn):
        outs = iter(bind(eqn, list(kept.values())))
        return [next(outs) if k in kept else None for k in range(len(operands))]
    return bind(eqn, zeros_elsewhere(eqn, operands, kept, variance.dtype))


def _sum(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    shape = shape_of(eqn.outvars[0])
    return [sum(jnp.broadcast_to(v, shape) for v in _variances(operands).values())]


def _reduced(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    return bind(eqn, list(_variances(operands).values()))


def _written(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    kept = _variances(operands)
    (variance, *_) = kept.values()
    parts = zeros_elsewhere(eqn, operands, kept, variance.dtype)
    if 2 not in kept:
        return bind(eqn, parts)
    # Of a difference variances are added too: minus what is taken away from nothing.
    nothing = jnp.zeros_like(parts[0])
    return [parts[0] + jnp.abs(bind(eqn, [nothing, *parts[1:]])[0])]


def _scaled(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    noisy = [k for k, x in enumerate(operands) if isinstance(x, Noisy)]
    if len(noisy) == 2:
        return [bilinear(jnp.multiply, _gaussian(operands[0]), _gaussian(operands[1]), 2)[1]]
    (k,) = noisy
    x = operands[k]
    parts = [wide(jnp.asarray(a)) ** 2 if j != k else x.variance for j, a in enumerate(operands)]
    return bind(eqn, parts)


def _product(eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    x, y, *rest = operands
    dtype = jnp.promote_types(dtype_of(eqn.outvars[0]), jnp.float32)
    preferred = eqn.params.get("preferred_element_type")
    widened = eqn.replace(
        params={**eqn.params, "preferred_element_type": None if preferred is None else dtype}
    )
    x, y = (_gaussian(v).stored() if isinstance(v, Noisy) else wide(v) for v in (x, y))
    return [bilinear(lambda a, b: bind(widened, [a, b, *rest])[0], x, y, 2)[1]]


def _gaussian(x: Noisy) -> Gaussian:
    return Gaussian(wide(x.mean), x.variance)


_RULES: dict[str, Callable[[JaxprEqn, Sequence[Value]], list[Value]]] = {
    "moved": _moved,
    "sum": _sum,
    "reduced": _reduced,
    "written": _written,
    "scaled": _scaled,
    "product": _product,
}
