"""Splits a pytree into its arrays and everything else, so that the rest can be hashed.

Families, procedures and the arguments of networks mix arrays, which may be traced, with numbers,
names and functions, which may not. Everything that needs a hashable description of such a tree
(a primitive's parameters, a cache key, a static argument of a jitted function) uses this split.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import jax
import numpy as np
from jax.core import Tracer

# A pytree of anything: the arguments and the results of networks, and a procedure's options. Of
# these nothing narrower is true; everything else has a type.
Tree: TypeAlias = Any
# A leaf of such a tree: an array, a number, a belief, or a setting.
Leaf: TypeAlias = Any
# The structure of such a tree; JAX has no public type for it.
Treedef: TypeAlias = Any
# A function of such trees to such a tree.
Function: TypeAlias = Callable[..., Any]


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

    treedef: Treedef
    leaves: tuple[Leaf, ...]

    @property
    def num_arrays(self) -> int:
        """How many arrays were taken out."""
        return sum(leaf is _HOLE for leaf in self.leaves)


def is_hole(leaf: Leaf) -> bool:
    """Whether an array was taken out here."""
    return leaf is _HOLE


def is_array(leaf: Leaf) -> TypeGuard[jax.Array]:
    """Whether a leaf is an array or a tracer (numbers of Python are not)."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_number(leaf: Leaf) -> bool:
    """Whether a leaf is a number of Python that JAX would trace (booleans are settings)."""
    return isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)


def split(tree: Tree, *, numbers: bool = False) -> tuple[Structure, list[Leaf]]:
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


def join(structure: Structure, arrays: Iterable[Leaf]) -> Tree:
    """Puts arrays back into the places that `split` took them from."""
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is _HOLE else leaf for leaf in structure.leaves]
    return jax.tree.unflatten(structure.treedef, leaves)


def is_traced(tree: Tree) -> bool:
    """Whether any leaf of a tree is a tracer."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def described(value: object) -> str:
    """An object in a few words, for messages: no array is printed."""
    if is_array(value):
        return f"an array of {value.dtype}{list(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    name = type(value).__name__
    return f"a {name}" if name in ("dict", "list", "set", "tuple") else f"an object of type {name}"
