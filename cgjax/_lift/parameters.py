"""Which arguments of a network are its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cgjax import _static
from cgjax._modules import is_state_class, is_trained_class
from cgjax._procedure import Network, Procedure
from cgjax._program import Program
from cgjax._static import Treedef


class Argument(NamedTuple):
    """An argument of a function, by position (None for keywords alone) and name (if known)."""

    position: int | None
    name: str | None

    def __str__(self) -> str:
        return repr(self.position if self.name is None else self.name)


# Of a function of `cgjax.functional`: whatever else they hold, they are no data.
_PARTS = (Argument(0, "params"), Argument(1, "state"))


def chosen(
    net: Network, parameters: int | str | Sequence[int | str] | None
) -> tuple[Argument, ...] | None:
    """The arguments that are parameters, by the network or the caller; None if that is left open.

    Raises:
        TypeError: for what is no position and no name.
        ValueError: for a position or a name that the network does not have.
    """
    if getattr(net, "returns_state", False):
        if parameters is None:
            return _PARTS
        raise ValueError(
            "`parameters` names arguments of a function; the parameters of a module are its "
            "variables. Leave it out."
        )
    if parameters is None:
        return None
    listed = list(parameters) if isinstance(parameters, tuple | list) else [parameters]
    named, others = _signature(net)
    return tuple(_argument(one, named, others) for one in listed)


def _argument(one: object, named: Sequence[Argument], others: bool) -> Argument:
    """One of a network's arguments.

    Args:
        one: its position or name.
        named: the arguments that have a name.
        others: whether the network takes more.
    """
    if not isinstance(one, int | str) or isinstance(one, bool):
        raise TypeError(
            "`parameters` is the position or the name of an argument of the network, or several of "
            f"these, such as `0`, `'params'` or `(0, 1)`; got {one!r}."
        )
    found = [a for a in named if one in (a.position, a.name)]
    if found:
        return found[0]
    if others and one != "" and (isinstance(one, str) or one >= 0):
        return Argument(None, one) if isinstance(one, str) else Argument(one, None)
    known = ", ".join(f"{a.name!r} (position {a.position})" for a in named) or "none"
    raise ValueError(
        f"`parameters` names the argument {one!r}, which the network does not have. Its arguments: "
        f"{known}."
    )


def _signature(net: Network) -> tuple[list[Argument], bool]:
    """A network's named arguments, and whether it takes others."""
    while isinstance(net, Procedure):
        net = net.net
    try:
        listed = inspect.signature(net).parameters.values()
    except (TypeError, ValueError):  # a function that says nothing about its arguments
        return [], True
    positional = [p for p in listed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    arguments = [Argument(k, p.name) for k, p in enumerate(positional)]
    arguments += [Argument(None, p.name) for p in listed if p.kind == p.KEYWORD_ONLY]
    return arguments, any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in listed)


def parameters_of(program: Program, wanted: tuple[Argument, ...] | None) -> list[bool]:
    """For each array among the arguments whether it is a parameter, or a variable of a module.

    Args:
        program: the traced network.
        wanted: the arguments that are parameters; None for the first container of several.
    """
    args, kwargs = program.in_structure.treedef.children()
    positional, keywords = args.children(), kwargs.children()
    arguments = [*positional, *keywords]
    flags = [variables(a) for a in arguments]
    if wanted is not None:
        names = list((kwargs.node_data() or (dict, []))[1])
        for argument in wanted:
            k = _index(argument, len(positional), names)
            flags[k] = [True] * arguments[k].num_leaves
    elif len(arguments) > 1 and not any(any(_of_class(a, is_trained_class)) for a in arguments):
        for k, argument in enumerate(arguments):
            if argument.node_data() is not None and argument.num_leaves:
                flags[k] = [True] * argument.num_leaves
                break
    leaves = program.in_structure.leaves
    every = [flag for argument in flags for flag in argument]
    # Leaves that are no arrays have been taken out of the flat arguments.
    return [f for f, leaf in zip(every, leaves, strict=True) if _static.is_hole(leaf)]


def _index(argument: Argument, positional: int, names: Sequence[str]) -> int:
    """The place of an argument among those of a call."""
    if argument.position is not None and argument.position < positional:
        return argument.position
    if argument.name in names:
        return positional + names.index(argument.name)
    raise ValueError(
        f"`parameters` names the argument {argument}, and the network was called without it: with "
        f"{positional} arguments by position and {', '.join(map(repr, names)) or 'none'} by name."
    )


def variables(tree: Treedef) -> list[bool]:
    """For each leaf of a tree whether it belongs to the variables of a module."""
    return _of_class(tree, lambda cls: is_trained_class(cls) or is_state_class(cls))


def _of_class(tree: Treedef, wanted: Callable[[type], bool]) -> list[bool]:
    """For each leaf of a tree whether it lies in an instance of certain classes."""
    data = tree.node_data()
    if data is None:
        return [False] * tree.num_leaves
    if isinstance(data[0], type) and wanted(data[0]):
        return [True] * tree.num_leaves
    return [flag for child in tree.children() for flag in _of_class(child, wanted)]
