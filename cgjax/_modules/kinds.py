"""Which library an object comes from, told without importing any."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from cgjax import _static
from cgjax._modules.parts import State
from cgjax._static import Leaf

Library = Literal["nnx", "linen", "equinox", "haiku"]
_MODULES: dict[Library, str] = {"linen": "flax.linen", "equinox": "equinox", "haiku": "haiku"}
# What a module, or a transformed function, is made of.
_CLASSES: dict[Library, Sequence[str]] = {
    "linen": ("Module",),
    "equinox": ("Module",),
    "haiku": (
        "Transformed",
        "TransformedWithState",
        "MultiTransformed",
        "MultiTransformedWithState",
    ),
}
# What is used of a library beyond these, and the name that it is installed by. (Flax is required.)
_USED: dict[Library, tuple[str, Sequence[str]]] = {
    "equinox": ("equinox", ("nn.State", "nn.StateIndex")),
    "haiku": ("dm-haiku", _CLASSES["haiku"]),
}


def member(library: Library, path: str) -> Leaf:
    """What a library calls by a name; None if it has not been imported, or has no such thing."""
    found: Leaf = sys.modules.get(_MODULES[library])
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def check_version(library: Library) -> None:
    """Raises unless a library has what is used of it.

    Raises:
        ImportError: it has not.
    """
    if library not in _USED:
        return
    name, used = _USED[library]
    for path in used:
        if member(library, path) is None:
            version = member(library, "__version__") or "of an unknown version"
            raise ImportError(
                f"cgjax takes modules of newer versions of {name}: {name} {version} has no "
                f"`{path}`. Install a newer one: `pip install --upgrade {name}`."
            )


def library_of(value: object) -> Library | None:
    """The library whose module, or transformed function, a value is; None if it is none."""
    if isinstance(value, nnx.Module):
        return "nnx"
    for library, paths in _CLASSES.items():
        for path in paths:
            cls = member(library, path)
            if cls is not None and isinstance(value, cls):
                return library
    return None


def holds_parameters(value: object) -> bool:
    """Whether a value is a module that can be called and holds its parameters itself.

    Equinox's modules without arrays are functions: what `filter_jit` makes of one, for example.
    """
    match library_of(value):
        case "nnx":
            return True
        case "equinox":
            return callable(value) and any(map(is_parameter, jax.tree.leaves(value)))
    return False


def is_parameter(leaf: Leaf) -> bool:
    """Whether a leaf of a module is an array that can be trained."""
    return _static.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def check_complete(value: object, expected: str) -> None:
    """Raises if a value is a module, or a transformed function, without its parameters.

    Args:
        value: what was passed for a network.
        expected: the first part of the message.

    Raises:
        TypeError: a module of Linen, or a transformed function of Haiku.
    """
    name = type(value).__name__
    match library_of(value):
        case "linen":
            raise TypeError(
                f"{expected}; got the Linen module {name}, which does not hold its parameters. "
                "Bring them together: `f, params, state = cgjax.functional(module, variables)`, "
                "with the variables that `module.init` returned, and pass f."
            )
        case "haiku":
            raise TypeError(
                f"{expected}; got Haiku's {name}, which does not hold its parameters. Bring them "
                "together: `f, params, state = cgjax.functional(transformed, params)`, with what "
                "`transformed.init` returned, and pass f."
            )


def is_variables(value: object) -> bool:
    """Whether a value holds the variables of a module, or is a module that does."""
    return is_trained_class(type(value)) or is_state_class(type(value))


def is_trained_class(cls: type) -> bool:
    """Whether instances of a class hold parameters of a module, or any of its variables.

    Of Equinox's modules those that can be called do: others may hold data.
    """
    if issubclass(cls, nnx.State | nnx.Variable | nnx.Module):
        return True
    module = member("equinox", "Module")
    is_module = module is not None and issubclass(cls, module)
    return is_module and any("__call__" in vars(c) for c in cls.__mro__)


def is_state_class(cls: type) -> bool:
    """Whether instances of a class hold variables of a module that are no parameters."""
    state = member("equinox", "nn.State")
    return issubclass(cls, State if state is None else (State, state))
