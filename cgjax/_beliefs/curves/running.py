"""Sums that go on, such as the state of a solver: what they know of the weights that were added."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._beliefs.curves.form import Coefficient, times
from cgjax._beliefs.curves.total import Part
from cgjax._beliefs.made import Layer, layers_of
from cgjax._beliefs.values import Gaussian, Origin

# The weights that lead from a result to one of the layers it was made by: the last one's first.
Path = tuple[Origin, ...]


class _Weakly(weakref.ref):
    """A value that is not kept alive, equal for the same one; once that is gone, for no other."""

    _hash: int

    def __new__(cls, value: Any):
        self = super().__new__(cls, value)
        self._hash = id(value)
        return self

    def __eq__(self, other: object) -> bool:
        value = self()
        return self is other or (
            value is not None and isinstance(other, _Weakly) and value is other()
        )

    def __hash__(self) -> int:
        return self._hash


def _weakly(path: Path) -> Hashable:
    """For what is static in a pytree, which JAX's caches keep when the trace is over."""
    return tuple((_Weakly(o.value), o.moves) for o in path)


def _path(static: Any) -> Path:
    """The same weights; in the place of those that are gone some that no array is equal to."""
    alive = ((value(), moves) for value, moves in static)
    return tuple(Origin(np.empty(0) if v is None else v, moves) for v, moves in alive)


class Use(NamedTuple):
    """What some weights have added to a sum; all arrays are sums over their uses.

    Attributes:
        mean: the means of what they were multiplied by, times what the result counts.
        level: what the results count.
        base: covariances of what they were functions of, so weighted, with the sum itself.
        ends: what they were functions of, and how much it counts, where that is known.
        layer: the last use: a layer, or the addend itself.
    """

    mean: jax.Array
    level: jax.Array
    base: jax.Array
    ends: tuple[Part, ...] = ()
    layer: Layer | Gaussian | None = None

    def times(self, weight: Coefficient) -> Use:
        """The same of a result that counts so much."""
        mean, level, base = (jnp.asarray(times(weight, a), a.dtype) for a in self[:3])
        ends = tuple(Part(r, times(weight, w)) for r, w in self.ends)
        return Use(mean, level, base, ends, self.layer)

    def plus(self, other: Use) -> Use:
        """Both together."""
        mean, level, base = (a + b for a, b in zip(self[:3], other[:3], strict=True))
        ends, layer = self.ends + other.ends, other.layer or self.layer
        return Use(mean, level, base, ends, layer)


Uses = dict[Path, Use]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class Running(Gaussian):
    """A sum that knows which weights have added to it.

    Attributes:
        uses: what they added.
    """

    uses: Mapping[Path, Use] = field(default_factory=dict)

    def tree_flatten(self) -> tuple[tuple[object, ...], Hashable]:
        """For JAX: the layers themselves do not enter loops."""
        leaves, axes = super().tree_flatten()
        uses = tuple(tuple(use[:3]) for use in self.uses.values())
        return (*leaves, uses), (axes, tuple(map(_weakly, self.uses)))

    @classmethod
    def tree_unflatten(cls, static: Any, leaves: Sequence[Any]) -> Running:
        """For JAX."""
        axes, paths = static
        *inner, uses = leaves
        x = super().tree_unflatten(axes, inner)
        assert isinstance(x, Running)
        known = {_path(path): Use(*a) for path, a in zip(paths, uses, strict=True)}
        object.__setattr__(x, "uses", known)
        return x


def counted_layers(root: Gaussian) -> Iterator[tuple[Layer, Coefficient]]:
    """The layers that a Gaussian is known to be made of, and how much of each."""
    if not isinstance(root, Running):
        yield from ((layer, 1.0) for layer in layers_of(root))
        return
    for path, use in root.uses.items():
        if len(path) == 1 and isinstance(use.layer, Layer):
            yield use.layer, use.level
