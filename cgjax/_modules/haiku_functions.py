"""Functions that Haiku has transformed: `init` and `apply`, the parameters beside them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cgjax import _static
from cgjax._cache import recent
from cgjax._modules.kinds import member
from cgjax._modules.parts import MethodOf, Parts, State
from cgjax._static import Function, Leaf, Tree


@dataclass(frozen=True)
class HaikuFunction:
    """A function `f(params, state, *args, rng=None) -> (out, new_state)`.

    Attributes:
        apply: the transformed function.
        with_state: whether it takes and returns a state.
        with_rng: whether it takes a key.
    """

    apply: Function
    with_state: bool
    with_rng: bool
    returns_state: ClassVar[bool] = True

    def __call__(
        self, params: Tree, state: Tree, *args: Tree, rng: Leaf = None, **kwargs: Tree
    ) -> tuple[Tree, Tree]:
        if rng is not None and not self.with_rng:
            raise TypeError(
                "f was given a key, `rng`, and its function was made by `hk.without_apply_rng`, "
                "which takes none. Split the function itself, or leave the key out."
            )
        variables = (params, state) if self.with_state else (params,)
        keys = (rng,) if self.with_rng else ()
        try:
            out = self.apply(*variables, *keys, *args, **kwargs)
        except ValueError as error:
            # The error's class is private to Haiku.
            if rng is not None or type(error).__name__ != "MissingRNGError":
                raise
            without = "" if self.with_rng else " Leave `hk.without_apply_rng` out."
            raise ValueError(
                "The function draws random numbers and was given no key for them. Pass it by name, "
                f"`f(params, state, *args, rng=key)`, or evaluate without noise.{without} {error}"
            ) from error
        if not self.with_state:
            return out, state
        out, state = out
        return out, State(state)


_function = recent(256)(HaikuFunction)


def split(transformed: Leaf, variables: tuple[Tree, ...], method: MethodOf) -> Parts:
    """The parts of a transformed function, with what its `init` returned.

    Raises:
        TypeError: without parameters or state, or with what are none; for several functions.
    """
    name = type(transformed).__name__
    if name.startswith("Multi"):
        one = name.removeprefix("Multi")
        raise TypeError(
            f"Haiku's {name} holds several functions, and a network is one. Choose it: "
            f"`cgjax.functional(hk.{one}(multi.init, multi.apply[…]), …)`."
        )
    if method is not None:
        raise TypeError(
            "`method` names a method of a module; what Haiku has transformed is one function. "
            "Transform the function that calls the method."
        )
    with_state = isinstance(transformed, member("haiku", "TransformedWithState"))
    needed = ("params", "state")[: 1 + with_state]
    if len(variables) != len(needed):
        listed = ", ".join(needed)
        raise TypeError(
            f"Haiku's {name} does not hold its {' and '.join(needed)}. Pass what its `init` "
            f"returned: `{listed} = transformed.init(key, *args)`, "
            f"`cgjax.functional(transformed, {listed})`; got {len(variables) or 'nothing'} "
            "beside it."
        )
    for what, value in zip(needed, variables, strict=True):
        if not isinstance(value, Mapping):
            raise TypeError(
                f"The {what} of a function of Haiku is a dict that its `init` returned, got "
                f"{_static.described(value)}."
            )
    names = list(inspect.signature(transformed.apply).parameters)
    with_rng = names[len(needed) : len(needed) + 1] == ["rng"]
    params, state = (*variables, {})[:2]
    return Parts(_function(transformed.apply, with_state, with_rng), params, State(state))
