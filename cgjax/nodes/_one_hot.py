"""What nodes of several positions share, whose statistic is one-hot along the last axis."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Num

from cgjax.nodes._family import Family


@dataclasses.dataclass(frozen=True, eq=False)
class OneHotPositions(Family):
    """A node of positions that touch: a path through states, or an image of labels."""

    discrete: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and 1, of each indicator."""
        return 0.0, 1.0

    def conditioned(
        self, e: Num[ArrayLike, "*nodes"], x: Num[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """e with -inf for all states that positions known by x do not have.

        Where x is NaN nothing is known. A position whose x is not one-hot has no possible state.
        """
        e = self.natural_parameter(e)
        known = ~jnp.isnan(x).any(-1, keepdims=True)
        one_hot = ((x == 0) | (x == 1)).all(-1, keepdims=True) & (x.sum(-1, keepdims=True) == 1)
        return jnp.where(known & ((x != 1) | ~one_hot), -jnp.inf, e)


def digits(numbers: Int[Array, "*numbers"], count: int, base: int) -> Int[Array, "*numbers count"]:
    """The digits of numbers in a base, the first one the highest."""
    left, found = numbers, []
    for _ in range(count):
        left, digit = jnp.divmod(left, base)
        found.append(digit)
    return jnp.stack(found[::-1], -1) if found else jnp.zeros((*numbers.shape, 0), numbers.dtype)
