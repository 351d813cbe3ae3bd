"""The moment rules that users have registered, and which operations of a program they are for.

A rule is for a primitive, or for a function. What a program keeps of a function is its name and
where it was written; a function that shares these with others (a local one, a lambda, …) is told
from them by its program: equal programs are equal functions.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType

import jax
import jax.extend.core.primitives
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.interpreters import ad, batching
from jax.typing import ArrayLike

from cgjax import _cache
from cgjax._component import tracing_a_network
from cgjax._program.called import CalledFunction, called_function
from cgjax._program.jaxprs import aval, consts, same_code, source
from cgjax._program.primitives import facts_of
from cgjax.nodes import Belief

# What a rule returns for each result of the operation.
Result = Belief | ArrayLike
Rule = Callable[..., Result | Sequence[Result]]


@dataclass(frozen=True)
class _OfFunction:
    """A function and its rule."""

    function: Callable[..., object]
    rule: Rule


_of_primitives: _cache.Registry[Primitive, Rule] = _cache.Registry()
# By name and place of the function, newest first.
_of_functions: _cache.Registry[str, tuple[_OfFunction, ...]] = _cache.Registry()


def register(target: Primitive | Callable[..., object] | str, rule: Rule) -> None:
    """Registers the rule of a primitive, which may be named, or of a function.

    Raises:
        ValueError: JAX has no primitive of that name, or several.
        TypeError: the target cannot have a rule, or the rule is not callable.
    """
    if not callable(rule):
        raise TypeError(
            f"A moment rule is a function of the operands that returns a Belief, got {rule!r}. "
            "Use `moment_rule(target)` as a decorator, or `moment_rule(target)(rule)`."
        )
    found = key_of(target)
    if isinstance(found, Primitive):
        _of_primitives[found] = rule
        return
    assert callable(target) and not isinstance(target, str | Primitive)
    others = [r for r in _of_functions.get(found) or () if r.function is not target]
    _of_functions[found] = (_OfFunction(target, rule), *others)


def key_of(target: object) -> Primitive | str:
    """What a rule is kept under: the primitive, or the name and place of the function.

    Raises:
        ValueError, TypeError: as `register`.
    """
    if isinstance(target, str):
        target = _named(target)
    if isinstance(target, Primitive):
        if facts_of(target).entered:
            raise TypeError(
                f"`{target.name}` holds functions, through which moments go by themselves. "
                "Register a rule for the function, or for the operations inside it."
            )
        return target
    if not callable(target) or isinstance(target, type):
        raise TypeError(
            f"A moment rule is for a primitive of JAX, its name, or a function, got {target!r}."
        )
    place = _place(target)
    if place is None:
        raise TypeError(
            f"{target!r} leaves no name in a program that calls it. Register a rule for a function "
            "that is under `jax.jit` or has a custom derivative, and was written with `def`."
        )
    return place


def rule_of_primitive(primitive: Primitive) -> Rule | None:
    """The rule that a user has registered for a primitive."""
    return _of_primitives.get(primitive)


def rule_of_call(eqn: JaxprEqn) -> Rule | None:
    """The rule that a user has registered for the function that an equation calls.

    It takes the operands from `called_function(eqn).closed_over` on.

    Raises:
        TypeError: whether it is that function cannot be told.
    """
    called = called_function(eqn)
    for candidate in _of_functions.get(called.place) or ():
        if _is_called(candidate.function, called, eqn):
            return candidate.rule
    return None


def is_call_of_jax(eqn: JaxprEqn, names: frozenset[str]) -> bool:
    """Whether an equation calls one of JAX's own functions, by name."""
    called = called_function(eqn)
    return called.name in names and called.file.startswith(_JAX)


_JAX = jax.__file__.removesuffix("__init__.py")


def _named(name: str) -> Primitive:
    """The primitive of a name."""
    modules = (jax.extend.core.primitives, lax)
    public = {v for m in modules for v in vars(m).values() if isinstance(v, Primitive)}
    tables = (batching.fancy_primitive_batchers, ad.primitive_jvps)
    found = {p for p in public if p.name == name}
    found = found or {p for table in tables for p in table if p.name == name}
    if not found:
        raise ValueError(
            f"JAX has no primitive {name!r}. The error about a missing rule says the name; "
            "`jax.make_jaxpr(f)(*args)` shows those of a function. A primitive of your own is "
            "passed itself."
        )
    if len(found) > 1:
        raise ValueError(f"There are {len(found)} primitives {name!r}: pass the one you mean.")
    return found.pop()


def _inner(function: Callable[..., object]) -> Callable[..., object]:
    """The function of Python inside, as JAX looks for it to say where it was written."""
    while True:
        inner = inspect.unwrap(function)
        inner = inner.func if isinstance(inner, functools.partial) else inner
        if inner is function:
            return function
        function = inner


def _place(function: Callable[..., object]) -> str | None:
    """The name of a function and where it was written, as JAX keeps it in programs."""
    inner = _inner(function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return None
    return f"{inner.__name__} at {code.co_filename}:{code.co_firstlineno}"


def _is_called(function: Callable[..., object], called: CalledFunction, eqn: JaxprEqn) -> bool:
    """Whether an equation calls a function, of those that share its name and place."""
    if called.is_derivative:
        return False
    traced = _traced(function, [aval(v) for v in eqn.invars[called.closed_over :]])
    if traced is None or not same_code(traced, called.body):
        if traced is not None and _all_arguments_are_operands(function, called):
            return False  # another one, or this one under `vmap`, for which its rule was not made
    elif not called.closed_over:
        ours, theirs = consts(traced), consts(called.body)
        return all(x is y or np.array_equal(x, y) for x, y in zip(ours, theirs, strict=True))
    # Arguments that are static, or trees, or arrays that a custom derivative closes over.
    if _is_the_only_one(function):
        return True
    raise TypeError(
        f"{called.place} has a moment rule, and is called at {source(eqn)}; but other functions "
        "may have that name and place, and which one this is cannot be told. Define the function "
        "at the top level of a module, or with arrays for its arguments, and none closed over."
    )


def _traced(function: Callable[..., object], avals: Sequence[ShapedArray]) -> ClosedJaxpr | None:
    """The program of a function; None if it takes other arguments."""
    arguments = [
        jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=getattr(a, "weak_type", False))
        for a in avals
    ]
    try:
        with tracing_a_network():
            return jax.make_jaxpr(_called_inside(function))(*arguments)
    except Exception:  # whatever a function says to arguments that are not its own
        return None


def _called_inside(function: Callable[..., object]) -> Callable[..., object]:
    """What stands under `jit` or a custom derivative."""
    if isinstance(function, MethodType):
        return functools.partial(_called_inside(function.__func__), function.__self__)
    inner = None if isinstance(function, FunctionType) else getattr(function, "__wrapped__", None)
    return function if inner is None else _called_inside(inner)


def _all_arguments_are_operands(function: Callable[..., object], called: CalledFunction) -> bool:
    """Whether nothing that the function was called with is missing among the operands."""
    if called.arguments is None:
        return True
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return set(parameters) <= set(called.arguments)


def _is_the_only_one(function: Callable[..., object]) -> bool:
    """Whether no other function can have its name and place."""
    inner = _inner(function)
    if _called_inside(function) is not inner:
        return False  # a method of one object; one of several `partial`s
    if inner.__code__.co_filename.startswith("<"):
        return False  # typed in, where all is in the first lines
    module = sys.modules.get(inner.__module__)
    known = getattr(module, inner.__qualname__, None)
    if known is not None and _inner(known) is inner:
        return True
    plain = not (inner.__closure__ or inner.__defaults__ or inner.__kwdefaults__)
    return plain and inner.__name__ != "<lambda>"
