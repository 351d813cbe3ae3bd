"""Every cache and registry of cgjax: what is kept, how long, and what empties it.

| kept | for | until |
|---|---|---|
| `programs`, `codes` | a function, shapes of arguments, JAX's settings | the function is gone |
| `plans` | a program, and what `lift` was asked for | the program is gone |
| `procedures` | a network and a procedure's options | the network is gone, or 64 newer ones |
| `lowest_points` | a function of numbers, as it is written | `clear()` |
| `recent` functions | their arguments | as many newer ones as they say |
| `once` functions | nothing: they take no arguments | the function is gone |
| `Registry` | what users have registered | the process ends: it is no cache |

`clear()` empties all but the registries and what `once` functions hold. What JAX keeps (compiled
programs, traces of functions under `jax.jit`) is emptied by `jax.clear_caches()`, and made anew
after a registry has changed: the state of the registries is one of the settings that JAX traces
and compiles for.
"""

import functools
import gc
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, ParamSpec, TypeVar

import jax

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
P = ParamSpec("P")

# How often a registry has changed. A context of JAX: part of the key of all that it keeps, and of
# `jax_config.trace_context()`, for functions that users have jitted too.
_changes = jax.make_user_context(0)


class Registry(Generic[Key, Value]):
    """What users have registered. After a change, JAX traces again whatever may depend on it."""

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}

    def __setitem__(self, key: Key, value: Value) -> None:
        if self._values.get(key) is value:
            return
        self._values[key] = value
        _changes.set_global(_changes.get_global() + 1)

    def get(self, key: Key) -> Value | None:
        """What is registered, or None."""
        return self._values.get(key)


_clearing: list[Callable[[], object]] = []


def clear() -> None:
    """Empties all caches."""
    for empty in _clearing:
        empty()


class PerObject(Generic[Value]):
    """Values that are kept as long as the object that they belong to, which they may not hold."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[object, dict[Hashable, Value]] = (
            weakref.WeakKeyDictionary()
        )
        _clearing.append(self._of.clear)

    def of(self, owner: object) -> dict[Hashable, Value]:
        """The values of one object, to read and to add to.

        Raises:
            TypeError: the object cannot be hashed, or takes no weak reference.
        """
        return self._of.setdefault(owner, {})


class WhileInUse(Generic[Key]):
    """Objects that hold what they are made of, kept as long as somebody else holds that too.

    Args:
        most: how many are kept for one such owner; the oldest go first.
    """

    # Neither a weak dictionary, whose values would hold its keys, nor an attribute of the owner,
    # which belongs to the user. So owners are looked at whenever Python collects garbage.

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: dict[object, dict[Key, Key]] = {}
        _clearing.append(self._of.clear)
        gc.callbacks.append(self._collect)

    def first(self, owner: object, made: Key) -> Key:
        """The first of all equal objects, which is `made` if none is kept.

        Args:
            owner: what it is made of.
            made: it holds its owner, once. Unless both can be hashed, nothing is kept.
        """
        try:
            kept = self._of.setdefault(owner, {})
            found = kept.setdefault(made, made)
        except TypeError:
            return made
        if len(kept) > self._most:
            del kept[next(iter(kept))]
        return found

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if phase != "start" or info["generation"] < 2:
            return
        while True:  # what is kept may be the owner of more
            before = len(self._of)
            for owner in list(self._of):
                # By the dictionary, the list, the variable and the call, and by what is kept.
                ours = 4 + len(self._of[owner])
                if sys.getrefcount(owner) <= ours:
                    del self._of[owner]
            if len(self._of) == before:
                return


def recent(most: int) -> Callable[[Callable[P, Value]], Callable[P, Value]]:
    """A decorator that keeps a function's newest results, where its arguments can be hashed."""

    def decorate(function: Callable[P, Value]) -> Callable[P, Value]:
        cached = functools.lru_cache(most)(function)
        _clearing.append(cached.cache_clear)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Value:
            try:
                hash((args, tuple(kwargs.items())))
            except TypeError:
                return function(*args, **kwargs)
            return cached(*args, **kwargs)  # pyright: ignore[reportArgumentType]

        return call

    return decorate


def once(function: Callable[[], Value]) -> Callable[[], Value]:
    """A value that is computed when it is first asked for, and kept with who may ask again."""
    return functools.cache(function)


# Programs traced from functions, and what is the same in all that are traced from a function that
# closes over arrays.
programs: PerObject[Any] = PerObject()
codes: PerObject[Any] = PerObject()
# What `lift` does to a program.
plans: PerObject[Any] = PerObject()
# Where functions of numbers are lowest, by their program.
lowest_points: dict[Hashable, float | None] = {}
_clearing.append(lowest_points.clear)
# Procedures, by their networks.
procedures: WhileInUse[Any] = WhileInUse(64)
