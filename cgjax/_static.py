"""Splits a pytree into its arrays and everything else, so that the rest can be hashed.

Families, procedures and the arguments of networks mix arrays, which may be traced, with numbers,
names and functions, which may not. Everything that needs a hashable description of such a tree
(a primitive's parameters, a cache key, a static argument of a jitted function) uses this split.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer


class _Hole:
    """Stands where an array was taken out of a tree."""

    def __repr__(self) -> str:
        return "array"


_HOLE = _Hole()


class Structure(NamedTuple):
    """A pytree without its arrays. Hashable when the leaves that are no arrays are.

    Attributes:
        treedef: the structure of the tree.
        leaves: the leaves in order, with a placeholder where an array was.
    """

    treedef: Any
    leaves: tuple[Any, ...]

    @property
    def num_arrays(self) -> int:
        """How many arrays were taken out."""
        return sum(leaf is _HOLE for leaf in self.leaves)


def is_hole(leaf: Any) -> bool:
    """Whether an array was taken out here."""
    return leaf is _HOLE


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array or a tracer (numbers of Python are not)."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_number(leaf: Any) -> bool:
    """Whether a leaf is a number of Python that JAX would trace (booleans are settings)."""
    return isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)


def split(tree: Any, *, numbers: bool = False) -> tuple[Structure, list[Any]]:
    """Takes the arrays out of a tree.

    Args:
        tree: any pytree.
        numbers: whether Python's numbers count as arrays too.

    Returns:
        The rest of the tree, and its arrays in order. `join` is the inverse.
    """
    leaves, treedef = jax.tree.flatten(tree)
    dynamic = [is_array(leaf) or (numbers and is_number(leaf)) for leaf in leaves]
    kept = tuple(_HOLE if d else leaf for leaf, d in zip(leaves, dynamic, strict=True))
    arrays = [leaf for leaf, d in zip(leaves, dynamic, strict=True) if d]
    return Structure(treedef, kept), arrays


def join(structure: Structure, arrays: Any) -> Any:
    """Puts arrays back into the places that `split` took them from."""
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is _HOLE else leaf for leaf in structure.leaves]
    return jax.tree.unflatten(structure.treedef, leaves)


def is_traced(tree: Any) -> bool:
    """Whether any leaf of a tree is a tracer."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def described(value: Any) -> str:
    """An object in a few words, for messages: no array is printed."""
    if is_array(value):
        return f"an array of {value.dtype}{list(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    name = type(value).__name__
    return f"a {name}" if name in ("dict", "list", "set", "tuple") else f"an object of type {name}"
