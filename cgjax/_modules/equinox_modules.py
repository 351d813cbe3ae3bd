"""Modules of Equinox: trees that hold their parameters; the state of some layers goes beside."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import jax

from cgjax import _static
from cgjax._cache import recent
from cgjax._module_names import named_modules
from cgjax._modules.kinds import is_parameter, member
from cgjax._modules.parts import MethodOf, Parts, State, method_of, misfit
from cgjax._static import Function, Leaf, Tree, Treedef


@dataclass(frozen=True, eq=False)
class _Same:
    """A leaf that is compared by what it is: an array that is no parameter cannot be otherwise."""

    leaf: Leaf

    def _identity(self) -> Hashable:
        return id(self.leaf) if _static.is_array(self.leaf) else self.leaf

    def __hash__(self) -> int:
        return hash(self._identity())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same)
            and type(self.leaf) is type(other.leaf)
            and self._identity() == other._identity()
        )


@dataclass(frozen=True)
class EquinoxFunction:
    """A module as a pure function `f(params, state, *args, **kwargs) -> (out, new_state)`.

    Attributes:
        treedef: the structure of the module.
        trained: that of its parameters, in which None stands for all other leaves.
        rest: its leaves that are no parameters, and None for those that are.
        method: the method that f is.
        with_state: whether the module's call takes an `eqx.nn.State` and returns it.
    """

    treedef: Treedef
    trained: Treedef
    rest: tuple[_Same | None, ...]
    method: MethodOf
    with_state: bool
    returns_state: ClassVar[bool] = True

    def __call__(self, params: Tree, state: Tree, *args: Tree, **kwargs: Tree) -> tuple[Tree, Tree]:
        leaves, structure = jax.tree.flatten(params)
        if structure != self.trained:
            raise misfit(params, state, f"the structure is {structure}, not {self.trained}.")
        remaining = iter(leaves)
        whole = [next(remaining) if same is None else same.leaf for same in self.rest]
        module = jax.tree.unflatten(self.treedef, whole)
        call = method_of(module, self.method)
        with named_modules(call, args, kwargs):
            return self._called(call, state, args, kwargs)

    def _called(
        self, call: Function, state: Tree, args: tuple[Tree, ...], kwargs: dict[str, Tree]
    ) -> tuple[Tree, Tree]:
        if not self.with_state:
            return _called(call, args, kwargs), state
        _check_state(state)
        # Rebuilt: a layer that sets a state makes the object that it was given useless.
        args, kwargs = _with_state(call, jax.tree.map(lambda x: x, state), args, kwargs)
        result = _called(call, args, kwargs)
        if not (isinstance(result, tuple) and len(result) == 2 and _is_state(result[1])):
            raise TypeError(
                "A module that is split with its `eqx.nn.State` returns `(out, state)` when "
                f"called; this one returned {_static.described(result)}."
            )
        return result


_function = recent(256)(EquinoxFunction)


def _called(call: Function, args: tuple[Tree, ...], kwargs: dict[str, Tree]) -> Tree:
    try:
        return call(*args, **kwargs)
    except RuntimeError as error:
        if "requires a key" not in str(error):
            raise
        raise ValueError(
            "The module draws random numbers and was given no key for them. Pass it as the module "
            "takes it, `f(params, state, *args, key=key)`, or split the module without noise, "
            f"`equinox.nn.inference_mode(module)`; {error}"
        ) from error


def _is_state(value: object) -> bool:
    return isinstance(value, member("equinox", "nn.State"))


def _check_state(state: Tree) -> None:
    if not _is_state(state):
        raise TypeError(
            "The state of this module is the `eqx.nn.State` that `eqx.nn.make_with_state(Module)"
            f"(…)` returned beside it, got {_static.described(state)}."
        )


def _with_state(
    call: Function, state: Tree, args: tuple[Tree, ...], kwargs: dict[str, Tree]
) -> tuple[tuple[Tree, ...], dict[str, Tree]]:
    """The arguments of a module's call with the state in its place, which is called `state`."""
    names = list(inspect.signature(call).parameters)
    if "state" not in names:
        raise TypeError(
            "A module with an `eqx.nn.State` takes it as the argument `state` of its call, which "
            f"has the arguments {', '.join(names) or 'none'}."
        )
    place = names.index("state")
    kind = inspect.signature(call).parameters["state"].kind
    if len(args) >= place and kind is not inspect.Parameter.KEYWORD_ONLY:
        return (*args[:place], state, *args[place:]), kwargs
    return args, {**kwargs, "state": state}


def split(module: Leaf, variables: tuple[Tree, ...], method: MethodOf) -> Parts:
    """The parts of a module; with its state, if its layers have one.

    Raises:
        TypeError: without the state of its layers, or with what is none.
    """
    name = type(module).__name__
    if len(variables) > 1:
        raise TypeError(
            f"The Equinox module {name} is split alone, or with its state, "
            f"`cgjax.functional(module, state)`; got {len(variables)} arguments beside the module."
        )
    for state in variables:
        _check_state(state)
    if not variables and has_state(module):
        raise TypeError(
            f"The Equinox module {name} has layers with a state, which is an object of its own: "
            "`module, state = eqx.nn.make_with_state(Module)(…)`, "
            "`cgjax.functional(module, state)`."
        )
    return alone(module, variables, method)


def alone(module: Leaf, variables: tuple[Tree, ...] = (), method: MethodOf = None) -> Parts:
    """The parts of a module; without `variables` a state is one of its call's arguments."""
    if method is not None or not callable(module):
        method_of(module, method)  # raises now if there is none
    leaves, treedef = jax.tree.flatten(module)
    rest = tuple(None if is_parameter(leaf) else _Same(leaf) for leaf in leaves)
    params = jax.tree.unflatten(
        treedef, [leaf if same is None else None for leaf, same in zip(leaves, rest, strict=True)]
    )
    trained = jax.tree.structure(params)
    # What holds a tracer is not kept: it is of use in the transformation alone that made it.
    make = EquinoxFunction if _static.is_traced(leaves) else _function
    function = make(treedef, trained, rest, method, bool(variables))
    return Parts(function, params, variables[0] if variables else State())


def has_state(module: Leaf) -> bool:
    """Whether some layer of a module has a state."""
    index = member("equinox", "nn.StateIndex")
    leaves = jax.tree.leaves(module, is_leaf=lambda x: isinstance(x, index))
    return any(isinstance(leaf, index) for leaf in leaves)
