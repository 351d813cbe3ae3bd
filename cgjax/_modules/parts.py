"""What a module is split into."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax

from cgjax import _static
from cgjax._static import Function, Leaf, Tree


class Parts(NamedTuple):
    """A module as a pure function and its arrays.

    Attributes:
        function: `f(params, state, *args) -> (out, new_state)`.
        params: the arrays that are trained.
        state: whatever else may change.
    """

    function: Function
    params: Tree
    state: Tree


class State(dict[str, Tree]):
    """The state of a module whose library keeps it in dicts: a dict that can be told from data.

    Where a function of cgjax.functional is called within another one, this tells `lift` and
    `chain_graph` that its arrays are no data of the network.
    """

    def __repr__(self) -> str:
        return f"State({super().__repr__()})"


def _flatten(state: State) -> tuple[list[tuple[Leaf, Tree]], tuple[str, ...]]:
    names = tuple(sorted(state))
    return [(jax.tree_util.DictKey(name), state[name]) for name in names], names


def _unflatten(names: tuple[str, ...], values: Iterable[Tree]) -> State:
    return State(zip(names, values, strict=True))


jax.tree_util.register_pytree_with_keys(State, _flatten, _unflatten)


# A method of a module: its name, or the function itself.
MethodOf = str | Callable[..., object] | None


def method_of(module: Leaf, method: MethodOf) -> Function:
    """A method of a module as a function of its arguments; None is the module's call.

    Raises:
        TypeError: the module has no such method.
    """
    if callable(method):
        return partial(method, module)
    if method is None and callable(module):
        return module
    name = "__call__" if method is None else method
    found = getattr(module, name, None)
    if not callable(found):
        raise TypeError(
            f"{type(module).__name__} has no method `{name}`. Name the one that f is with `method`."
        )
    return found


def misfit(params: Tree, state: Tree, reason: object) -> TypeError:
    """The error for trees that do not fit a module."""
    return TypeError(
        "A function of `cgjax.functional` is called as `f(params, state, *args)`, with "
        "trees of the structure that `functional` returned. These do not fit: params is "
        f"{_static.described(params)} with {len(jax.tree.leaves(params))} arrays, state "
        f"{_static.described(state)} with {len(jax.tree.leaves(state))}; {reason}"
    )
