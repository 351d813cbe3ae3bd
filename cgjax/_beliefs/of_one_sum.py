"""Functions of one sum alone, kept as the operations that they are made of.

A sum is taken as Gaussian, so that what is computed from it and from known numbers alone is an
element-wise function of one Gaussian like any other: its moments are those of `curves`, exact
where these are, and not an expansion around the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import JaxprEqn, Var
from jax.typing import DTypeLike

from cgjax._beliefs.curves.elementwise import elementwise
from cgjax._beliefs.values import Gaussian, Value, is_random, settle

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TheSum:
    """Stands for the sum itself, of a dtype."""

    dtype: DTypeLike


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a function of a sum.

    Attributes:
        eqn: the operation.
        operands: the sum, other steps, and arrays in the refined shape.
    """

    eqn: JaxprEqn
    operands: tuple[Step | TheSum | jax.Array, ...]


OfOneSum = Step | TheSum


def refined(step: OfOneSum, finer: Callable[[jax.Array], jax.Array]) -> OfOneSum:
    """The same with its arrays in a finer shape."""
    if isinstance(step, TheSum):
        return step
    operands = tuple(
        refined(x, finer) if isinstance(x, Step | TheSum) else finer(x) for x in step.operands
    )
    return replace(step, operands=operands)


def joined(eqn: JaxprEqn, operands: Sequence[OfOneSum | jax.Array | None]) -> Step | None:
    """An operation on functions of one sum; None if one of them is none."""
    found = [x for x in operands if x is not None]
    return Step(eqn, tuple(found)) if len(found) == len(operands) else None


def moments(
    step: OfOneSum, mean: jax.Array, variance: jax.Array, shape: Shape, order: int
) -> tuple[jax.Array, jax.Array] | None:
    """Mean and variance of the function; None where its operations have no rule.

    Args:
        step: the function.
        mean, variance: those of the sum.
        shape: the result's shape, to which they broadcast.
        order: 1 for the first-order rule.
    """
    dtype = _dtype(step)
    root = Gaussian(*(jnp.broadcast_to(a, shape).astype(dtype) for a in (mean, variance)))

    def value(step: OfOneSum | jax.Array) -> Value:
        if isinstance(step, TheSum):
            return root
        if not isinstance(step, Step):
            return jnp.broadcast_to(step, shape)
        operands = [value(x) for x in step.operands]
        if any(x is None for x in operands):
            return None
        if not any(map(is_random, operands)):
            return None
        out = ShapedArray(shape, step.eqn.outvars[0].aval.dtype)
        return elementwise(step.eqn.replace(outvars=[Var(out)]), operands, order)

    found = value(step)
    found = None if found is None else settle(found, order)
    return (found.mean, found.variance) if isinstance(found, Gaussian) else None


def _dtype(step: OfOneSum) -> DTypeLike:
    if isinstance(step, TheSum):
        return step.dtype
    return next(_dtype(x) for x in step.operands if isinstance(x, Step | TheSum))
