"""Modules of Flax NNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
from flax import nnx

from cgjax._cache import recent
from cgjax._module_names import named_modules
from cgjax._modules.parts import MethodOf, Parts, method_of, misfit
from cgjax._static import Tree


@dataclass(frozen=True)
class ModuleFunction:
    """A module as a pure function `f(params, state, *args) -> (out, new_state)`."""

    graphdef: nnx.GraphDef
    method: MethodOf = None
    returns_state: ClassVar[bool] = True

    def __call__(self, params: Tree, state: Tree, *args: Tree, **kwargs: Tree) -> tuple[Tree, Tree]:
        # Rebuilt, so that the variables belong to the transformation that this call is part of:
        # a state that is closed over inside `jax.grad` may then be updated as one passed in.
        params, state = jax.tree.map(lambda x: x, (params, state))
        try:
            module = nnx.merge(self.graphdef, params, state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise misfit(params, state, error) from error
        call = method_of(module, self.method)
        with named_modules(call, args, kwargs):
            out = call(*args, **kwargs)
        return out, nnx.split(module, nnx.Param, ...)[2]


# One object for each module structure, so that what is cached by function outlives a single call.
_function = recent(256)(ModuleFunction)


def split(module: nnx.Module, variables: tuple[Tree, ...], method: MethodOf) -> Parts:
    """The parts of a module, which holds all its variables."""
    if variables:
        raise TypeError(
            f"The Flax NNX module {type(module).__name__} holds its variables: "
            f"`cgjax.functional(module)` takes no others, got {len(variables)}."
        )
    if method is not None:
        method_of(module, method)  # raises now if there is none
    graphdef, params, state = nnx.split(module, nnx.Param, ...)
    return Parts(_function(graphdef, method), params, state)
