"""Immutable records of numbers and settings as pytrees: what every node family is."""

import dataclasses

import jax
import numpy as np
from jax.core import Tracer

from cgjax._static import Leaf


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A frozen dataclass whose numbers are the leaves of a pytree, and all else static."""

    def _numeric_parameters(self) -> list[tuple[str, Leaf]]:
        return [
            (field.name, value)
            for field in dataclasses.fields(self)
            if not _is_static(field, value := getattr(self, field.name))
        ]

    def _static_parameters(self) -> tuple[tuple[str, Leaf], ...]:
        return tuple(
            (field.name, value)
            for field in dataclasses.fields(self)
            if _is_static(field, value := getattr(self, field.name))
        )

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_with_keys(
            cls, _flatten_with_keys, lambda aux, leaves: _unflatten(cls, aux, leaves), _flatten
        )

    def __eq__(self, other: object) -> bool:
        """Same class, same static parts, and numeric parameters equal or the same objects."""
        if type(self) is not type(other) or not isinstance(other, Record):
            return False
        if self._static_parameters() != other._static_parameters():
            return False
        pairs = zip(self._numeric_parameters(), other._numeric_parameters(), strict=True)
        return all(name == its and same(mine, theirs) for (name, mine), (its, theirs) in pairs)

    def __hash__(self) -> int:
        numeric = tuple(
            (name, value if isinstance(value, int | float) else np.shape(value))
            for name, value in self._numeric_parameters()
        )
        return hash((type(self), self._static_parameters(), numeric))


def _is_static(field: dataclasses.Field, value: object) -> bool:
    return field.metadata.get("static", False) or callable(value)


def _flatten_with_keys(record: Record):
    numeric = record._numeric_parameters()
    names = tuple(name for name, _ in numeric)
    keyed = [(jax.tree_util.GetAttrKey(name), value) for name, value in numeric]
    return keyed, (names, record._static_parameters())


def _flatten(record: Record):
    numeric = record._numeric_parameters()
    names = tuple(name for name, _ in numeric)
    return [value for _, value in numeric], (names, record._static_parameters())


def _unflatten(cls: type[Record], aux, leaves) -> Record:
    # Not through __init__: transformations put tracers, axes and placeholders where numbers were,
    # and the numbers have been checked when the user made the record.
    names, static = aux
    record = object.__new__(cls)
    for name, value in (*zip(names, leaves, strict=True), *static):
        object.__setattr__(record, name, value)
    return record


def same(mine: Leaf, theirs: Leaf) -> bool:
    """Whether two numbers or arrays are the same object, or are known to be equal."""
    if mine is theirs:
        return True
    if isinstance(mine, Tracer) or isinstance(theirs, Tracer):
        return False
    return np.array_equal(np.asarray(mine), np.asarray(theirs))
