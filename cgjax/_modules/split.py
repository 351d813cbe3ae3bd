"""A module to its parts, by the file of its library."""

from __future__ import annotations

from cgjax import _static
from cgjax._modules import equinox_modules, haiku_functions, linen_modules, nnx_modules
from cgjax._modules.kinds import check_version, library_of
from cgjax._modules.parts import MethodOf, Parts
from cgjax._static import Leaf, Tree

_SPLIT = {
    "nnx": nnx_modules.split,
    "linen": linen_modules.split,
    "equinox": equinox_modules.split,
    "haiku": haiku_functions.split,
}


def split(module: Leaf, variables: tuple[Tree, ...] = (), method: MethodOf = None) -> Parts:
    """The parts of a module; see `cgjax.functional`."""
    library = library_of(module)
    if library is not None:
        check_version(library)
        return _SPLIT[library](module, variables, method)
    if isinstance(module, type):
        raise TypeError(
            f"functional takes a module, got the class {module.__name__}. Pass an instance of it."
        )
    raise TypeError(
        "functional takes a module of Flax NNX, Flax Linen or Equinox, or a function that Haiku "
        f"has transformed, got {_static.described(module)}. A plain function needs no splitting: "
        "pass it to the procedure as it is."
    )


def split_for_calls(module: Leaf) -> Parts:
    """The parts of a module that a procedure was given.

    It is called as the module is: the state of Equinox's layers is an argument, and is returned.
    """
    if library_of(module) == "equinox":
        return equinox_modules.alone(module)
    return split(module)
