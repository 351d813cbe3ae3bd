"""Sums over groups of a Gaussian's elements, which values of groups are functions of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax

from cgjax._beliefs.curves import Curve
from cgjax._beliefs.layouts import Shape

Values = Mapping["Sum", jax.Array]
Function = Callable[[jax.Array, Values], jax.Array]


@dataclass(frozen=True)
class Sum:
    """A sum over groups, in a refined shape of the root, of size 1 along the axes summed over.

    Attributes:
        origin: what tells it from other sums, in any shape.
        fine: the refined shape.
        over: the axes of a group.
        of: from (root, values of the sums that it needs) to the sum.
        needs: the sums that it is computed from, each after those it needs.
        summary: its mean and variance.
        affine: whether it is an affine function of the root.
        summand: what is summed, if that is a curve.
        beside: a number that is added to it.
    """

    origin: object
    fine: Shape
    over: frozenset[int] = field(compare=False)
    of: Function = field(compare=False)
    needs: tuple[Sum, ...] = field(compare=False)
    summary: tuple[jax.Array, jax.Array] = field(compare=False)
    affine: bool = field(compare=False)
    summand: Curve | None = field(compare=False)
    beside: float = field(default=0.0, compare=False)
