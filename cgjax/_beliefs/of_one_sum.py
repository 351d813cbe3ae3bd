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
from cgjax._beliefs.curves.form import dtype_of
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
    known: dict[int, OfOneSum] = {}

    def of(x: OfOneSum | jax.Array) -> OfOneSum | jax.Array:
        if not isinstance(x, Step):
            return x if isinstance(x, TheSum) else finer(x)
        if id(x) not in known:
            known[id(x)] = replace(x, operands=tuple(map(of, x.operands)))
        return known[id(x)]

    found = of(step)
    assert isinstance(found, Step | TheSum)
    return found


def joined(eqn: JaxprEqn, operands: Sequence[OfOneSum | jax.Array | None]) -> Step | None:
    """An operation on functions of one sum; None if one of them is none."""
    found = [x for x in operands if x is not None]
    return Step(eqn, tuple(found)) if len(found) == len(operands) else None


def moments(
    step: OfOneSum, mean: jax.Array, variance: jax.Array, shape: Shape
) -> tuple[jax.Array, jax.Array] | None:
    """Mean and variance of the function; None where its operations have no rule.

    Args:
        step: the function.
        mean, variance: those of the sum.
        shape: the result's shape, to which they broadcast.
    """
    dtype = _dtype(step)
    mean, variance = (jnp.broadcast_to(a, shape).astype(dtype) for a in (mean, variance))
    root = Gaussian(mean, variance)
    known: dict[int, Value] = {}

    def value(x: OfOneSum | jax.Array) -> Value:
        if isinstance(x, TheSum):
            return root
        if not isinstance(x, Step):
            return jnp.broadcast_to(x, shape)
        if id(x) not in known:
            known[id(x)] = _after(x.eqn, [value(y) for y in x.operands], shape)
        return known[id(x)]

    found = value(step)
    found = None if found is None else settle(found, 2)
    return (found.mean, found.variance) if isinstance(found, Gaussian) else None


def _after(eqn: JaxprEqn, operands: Sequence[Value], shape: Shape) -> Value | None:
    """The value of an operation whose operands all have one shape; None where it has no rule."""
    if any(x is None for x in operands) or not any(map(is_random, operands)):
        return None
    out = ShapedArray(shape, dtype_of(eqn.outvars[0]))
    return elementwise(eqn.replace(outvars=[Var(out)]), operands, 2)


def _dtype(step: OfOneSum) -> DTypeLike:
    """The dtype of the sum."""
    while isinstance(step, Step):
        step = next(x for x in step.operands if isinstance(x, Step | TheSum))
    return step.dtype
