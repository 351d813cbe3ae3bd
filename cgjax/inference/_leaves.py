"""Many tables, of which the small ones stand in one array: few operations do something with all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cgjax.inference._scaled import Table

# Tables of more entries are arrays of their own.
MOST_TOGETHER = 1 << 12

_ENTRY = lax.GatherDimensionNumbers(offset_dims=(), collapsed_slice_dims=(0,), start_index_map=(0,))


def taken(x: jax.Array, places: np.ndarray | np.integer | jax.Array) -> jax.Array:
    """Entries of a vector, whose places are known to be there."""
    index = jnp.asarray(places)[..., None]
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(x, index, _ENTRY, (1,), mode=mode)


class Leaves(NamedTuple):
    """Tables, of which the small ones stand in one array.

    Attributes:
        axes: the variables of each table.
        sizes: the number of states of each variable.
        starts: where the entries of a small table begin.
        mantissa, exponent: the entries of all small tables.
        large: the other tables.
    """

    axes: Sequence[tuple[int, ...]]
    sizes: Mapping[int, int]
    starts: Mapping[int, int]
    mantissa: jax.Array
    exponent: jax.Array | None
    large: Mapping[int, Table]

    @classmethod
    def of(
        cls,
        axes: Sequence[tuple[int, ...]],
        sizes: Mapping[int, int],
        starts: Mapping[int, int],
        parts: Sequence[tuple[jax.Array, jax.Array | None]],
        large: Mapping[int, Table],
    ) -> Leaves:
        """With the entries of small tables in parts."""
        mantissa = jnp.concatenate([m for m, _ in parts]) if parts else jnp.zeros(0)
        exponents = [x for _, x in parts if x is not None]
        exponent = jnp.concatenate(exponents) if exponents else None
        return cls(axes, sizes, starts, mantissa, exponent, large)

    @property
    def numbers(self) -> tuple[jax.Array, dict[int, jax.Array]]:
        """The mantissas."""
        return self.mantissa, {k: t.mantissa for k, t in self.large.items()}

    def at(self, numbers: tuple[jax.Array, dict[int, jax.Array]]) -> Leaves:
        """With other mantissas."""
        mantissa, large = numbers
        tables = {k: t._replace(mantissa=large[k]) for k, t in self.large.items()}
        return self._replace(mantissa=mantissa, large=tables)

    def shape(self, number: int) -> tuple[int, ...]:
        """The shape of a table."""
        return tuple(self.sizes[v] for v in self.axes[number])

    def table(self, number: int) -> Table:
        """One of the tables."""
        if number not in self.starts:
            return self.large[number]
        shape, start = self.shape(number), self.starts[number]
        own = slice(start, start + math.prod(shape))
        exponent = None if self.exponent is None else self.exponent[own].reshape(shape)
        return Table(self.axes[number], self.mantissa[own].reshape(shape), exponent)

    @property
    def has_exponents(self) -> bool:
        """Whether entries are multiplied by powers of 2."""
        every = [self.exponent, *(t.exponent for t in self.large.values())]
        return any(x is not None for x in every)

    def tables(self) -> list[Table]:
        """All tables."""
        return [self.table(k) for k in range(len(self.axes))]


def ones(scopes: Sequence[tuple[int, ...]], sizes: Mapping[int, int]) -> Leaves:
    """Tables of ones, of which those with few entries stand in one array."""
    starts: dict[int, int] = {}
    large: dict[int, Table] = {}
    end = 0
    for k, scope in enumerate(scopes):
        shape = [sizes[v] for v in scope]
        if math.prod(shape) > MOST_TOGETHER:
            large[k] = Table(scope, jnp.ones(shape))
        else:
            starts[k] = end
            end += math.prod(shape)
    return Leaves(scopes, sizes, starts, jnp.ones(end), None, large)


class Laws(Mapping[tuple[int, ...], jax.Array]):
    """The joint distributions of sets of variables, by the variables in ascending order."""

    def __init__(self, leaves: Leaves):
        self.leaves = leaves
        self.number = {tuple(a): k for k, a in enumerate(leaves.axes)}

    def __getitem__(self, scope: tuple[int, ...]) -> jax.Array:
        return self.leaves.table(self.number[scope]).mantissa

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return iter(self.number)

    def __len__(self) -> int:
        return len(self.number)

    def places(self, scope: tuple[int, ...]) -> np.ndarray | None:
        """Where the probabilities of the joint states of variables, in any order, stand among those
        of all small tables; None if they are elsewhere."""
        known = tuple(sorted(scope))
        number = self.number[known]
        if number not in self.leaves.starts:
            return None
        shape = self.leaves.shape(number)
        turned = np.arange(math.prod(shape)).reshape(shape)
        turned = turned.transpose([known.index(v) for v in scope])
        return self.leaves.starts[number] + turned.reshape(-1)

    def rows(self, scopes: Sequence[tuple[int, ...]]) -> jax.Array:
        """The distributions of as many variables each, in any order: (scopes, joint states)."""
        places = list(map(self.places, scopes))
        if any(x is None for x in places):
            return stacked(self, scopes)
        return self.leaves.mantissa[np.stack([x for x in places if x is not None])]


def stacked(
    laws: Mapping[tuple[int, ...], jax.Array], scopes: Sequence[tuple[int, ...]]
) -> jax.Array:
    """Distributions of as many variables each, in any order: (scopes, joint states)."""
    ordered = [tuple(sorted(s)) for s in scopes]
    turned = [
        laws[known].transpose([known.index(v) for v in scope]).reshape(-1)
        for scope, known in zip(scopes, ordered, strict=True)
    ]
    return jnp.stack(turned)
