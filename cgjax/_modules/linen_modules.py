"""Modules of Flax Linen: their variables are a dict of collections beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from flax import core as flax_core
from flax import errors as flax_errors

from cgjax import _static
from cgjax._cache import recent
from cgjax._modules.parts import MethodOf, Parts, State, method_of
from cgjax._static import Leaf, Tree


@dataclass(frozen=True)
class LinenFunction:
    """A module as a pure function `f(params, state, *args, rngs=None) -> (out, new_state)`."""

    module: Leaf
    method: MethodOf = None
    returns_state: ClassVar[bool] = True

    def __call__(
        self, params: Tree, state: Tree, *args: Tree, rngs: Tree = None, **kwargs: Tree
    ) -> tuple[Tree, State]:
        name = type(self.module).__name__
        if not isinstance(state, Mapping):
            raise TypeError(
                f"The state of the Linen module {name} is a dict of its collections, got "
                f"{_static.described(state)}. Call `f(params, state, *args)` with what "
                "`cgjax.functional` returned."
            )
        try:
            out, changed = self.module.apply(
                {"params": params, **state},
                *args,
                rngs=rngs,
                method=self.method,
                # A list, even if empty: with it `apply` returns the collections beside the output.
                mutable=list(state),
                **kwargs,
            )
        except flax_errors.InvalidRngError as error:
            raise ValueError(
                f"{name} draws random numbers and was given no key for them. Pass it by its name, "
                "`f(params, state, *args, rngs={'dropout': key})`, or evaluate without noise, by "
                f"the argument that the module has for this; {error}"
            ) from error
        except _MISSING as error:
            known = ", ".join(map(repr, ("params", *state)))
            raise TypeError(
                f"{name} needs a variable that it was not given. `cgjax.functional(module, "
                "variables)` takes all that `module.init` returned, and f its parameters and "
                f"its state; here the collections are {known}; {error}"
            ) from error
        return out, State({**state, **changed})


_MISSING = (
    flax_errors.ScopeParamNotFoundError,
    flax_errors.ScopeCollectionNotFound,
    flax_errors.ScopeVariableNotFoundError,
    flax_errors.ModifyScopeVariableError,
)
_function = recent(256)(LinenFunction)


def split(module: Leaf, variables: tuple[Tree, ...], method: MethodOf) -> Parts:
    """The parts of a module and its variables, which one that is bound has with it.

    Raises:
        TypeError: without variables, or with what are none.
    """
    name = type(module).__name__
    if not variables and module.scope is not None:
        module, bound = module.unbind()
        variables = (bound,)
    if len(variables) != 1:
        raise TypeError(
            f"The Linen module {name} does not hold its variables. Pass what its `init` returned: "
            "`variables = module.init(key, *args)`, `cgjax.functional(module, variables)`; got "
            f"{len(variables) or 'nothing'} beside it."
        )
    (collections,) = variables
    if not isinstance(collections, Mapping):
        raise TypeError(
            f"The variables of the Linen module {name} are a dict of collections, such as "
            f"`{{'params': …}}`, got {_static.described(collections)}."
        )
    if method is not None:
        method_of(module, method)  # raises now if there is none
    state = {k: flax_core.unfreeze(v) for k, v in collections.items() if k != "params"}
    return Parts(_function(module, method), collections.get("params", {}), State(state))
