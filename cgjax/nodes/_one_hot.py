"""What nodes of several positions share, whose statistic is one-hot along the last axis."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Num

from cgjax._gaussian.numerics import wide
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

    def weighted(
        self, e: Num[ArrayLike, "*nodes"], log_weights: Num[Array, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """The natural parameter of a node each of whose states has a weight, at least float32: in
        half precision a large score would swallow a weight."""
        return wide(self.natural_parameter(e)) + log_weights

    def log_evidence(
        self, e: Num[ArrayLike, "*nodes"], given: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """log P(what was seen) of each node, of the shape `mask_shape`.

        It is the log-partition less that of e, and -inf where what was seen is impossible.

        Args:
            e: natural parameter.
            given: that of the node given what was seen: `conditioned` or `weighted`.

        Raises:
            TypeError: the family's sums are approximate.
        """
        known, every = self._log_partition(given), self._log_partition(e)
        never = jnp.isneginf(known)
        found = jnp.where(never, -jnp.inf, known - jnp.where(jnp.isneginf(every), 0, every))
        return found.reshape(self.mask_shape(jnp.shape(e)))

    @abc.abstractmethod
    def _log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """log Z of each node, (...,)."""


def value_of(
    family: Family, x: Num[ArrayLike, "..."], shape: tuple[int, ...], own: int
) -> Num[Array, "*nodes"]:
    """A value of each node of a natural parameter of this shape, whose last `own` axes are a node.

    Raises:
        ValueError: x has other axes of a node, or those before them do not broadcast.
    """
    got, batch = jnp.shape(x), shape[:-own]
    lead = got[:-own]
    fits = all(n in (1, m) for n, m in zip(lead[::-1], batch[::-1], strict=False))
    if got[-own:] != shape[-own:] or len(lead) > len(batch) or not fits:
        raise ValueError(
            f"{type(family).__name__} needs a value of the shape {shape} of its natural parameter, "
            f"one-hot along the last axis, got shape {got}; of numbers of states `jax.nn.one_hot` "
            "makes one"
        )
    return jnp.broadcast_to(jnp.asarray(x), shape)


def digits(numbers: Int[Array, "*numbers"], count: int, base: int) -> Int[Array, "*numbers count"]:
    """The digits of numbers in a base, the first one the highest."""
    left, found = numbers, []
    for _ in range(count):
        left, digit = jnp.divmod(left, base)
        found.append(digit)
    return jnp.stack(found[::-1], -1) if found else jnp.zeros((*numbers.shape, 0), numbers.dtype)
