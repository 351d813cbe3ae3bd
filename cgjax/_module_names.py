"""The names of modules, as scopes around what they compute while a network is traced.

Linen and Haiku put the names of their modules on JAX's name stack. Flax NNX and Equinox have trees
of modules that do not know their own names: while such a tree is traced, their classes have methods
that say which module is called. Other threads, and modules that are in no such tree, go through
these as if they were not there.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from inspect import getattr_static
from typing import NamedTuple

import jax
from flax import nnx

from cgjax._static import Function, Leaf, Tree

# A scope of this kind names a module: "cgjax-module:LABEL|NAME". A library's own label for the same
# call is the scope next to it, which NAME stands for.
MODULE_PREFIX = "cgjax-module:"

Path = tuple[str, ...]


class _Known(NamedTuple):
    """A module that has a name."""

    module: object  # held, so that no other object has its identity
    path: Path


_known: ContextVar[Mapping[int, _Known]] = ContextVar("known", default={})  # noqa: B039 (not changed)
# The path of the module that is being called; None if none is.
_within: ContextVar[Path | None] = ContextVar("within", default=None)


def scopes_in(stack: tuple[str, ...]) -> tuple[str, ...]:
    """The names among nested scopes of JAX, of modules and others, each free of "/".

    Args:
        stack: the names of scopes as they were set, outermost first.
    """
    parts: list[str] = []  # one for each scope
    label = ""
    for k, entry in enumerate(stack):
        if entry.startswith(MODULE_PREFIX):
            label, _, name = entry.removeprefix(MODULE_PREFIX).partition("|")
            own = tuple(label.split("/"))
            if stack[max(k - len(own), 0) : k] == own:
                parts[k - len(own) :] = [""] * len(own)
        else:
            # The other scopes that JAX itself sets are those of `jnp.einsum`: "ij,jk->ik".
            name, label = "" if entry == label or "->" in entry else entry, ""
        parts.append(name)
    return tuple(filter(None, "/".join(parts).translate(_NOT_IN_NAMES).split("/")))


# What patterns and full names are made with.
_NOT_IN_NAMES = str.maketrans("#*?[]", "_____")


def _scope(label: str, name: str) -> AbstractContextManager[object]:
    return jax.named_scope(f"{MODULE_PREFIX}{label}|{name}")


@contextmanager
def named_modules(
    function: Function, args: Sequence[Tree] = (), kwargs: Mapping[str, Tree] | None = None
) -> Iterator[None]:
    """Names what modules compute after their places in a tree, such as `blocks/0`.

    Args:
        function: what is called: a module of Flax NNX or Equinox, a method of one, or any function.
        args, kwargs: what it is called with: modules, containers of some, and others. The path of
            the only one that holds modules is empty; of several, that of the function is, and the
            others begin with the names of the arguments.
    """
    trees = _trees(function, args, kwargs or {})
    holding = [(path, tree) for path, tree in trees if _modules(tree, ())]
    known = {}
    for path, tree in holding:
        known = {**_modules(tree, path if len(holding) > 1 else ()), **known}
    if not known:
        yield
        return
    with _knowing(known, None), _saying_names({type(one.module) for one in known.values()}):
        yield


def _trees(
    function: Function, args: Sequence[Tree], kwargs: Mapping[str, Tree]
) -> Iterator[tuple[Path, Tree]]:
    """The trees that modules may be in, each with its own path beside others."""
    while isinstance(function, functools.partial):
        args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        function = function.func
    yield (), getattr(function, "__self__", function)
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        kinds = {name: p.kind for name, p in bound.signature.parameters.items()}
        arguments = bound.arguments
    except (TypeError, ValueError):  # a function that says nothing about its arguments
        arguments, kinds = {**{str(k): a for k, a in enumerate(args)}, **kwargs}, {}
    for name, argument in arguments.items():
        if kinds.get(name) == inspect.Parameter.VAR_KEYWORD:
            yield from (((key,), value) for key, value in argument.items())
        elif kinds.get(name) == inspect.Parameter.VAR_POSITIONAL:
            yield from (((name, str(k)), value) for k, value in enumerate(argument))
        else:
            yield (name,), argument


@contextmanager
def _knowing(known: dict[int, _Known], within: Path | None) -> Iterator[None]:
    """Some more modules that have names, inside one that is called."""
    tokens = _known.set({**_known.get(), **known}), _within.set(within)
    try:
        yield
    finally:
        _known.reset(tokens[0])
        _within.reset(tokens[1])


def _modules(value: Leaf, path: Path) -> dict[int, _Known]:
    """The modules in a tree by identity, each under the path of its first place."""
    found: dict[int, _Known] = {}

    def visit(value: Leaf, path: Path) -> None:
        children: Iterable[tuple[Hashable, Leaf]] = ()
        if isinstance(value, _bases()):
            if id(value) in found:
                return  # another place, or a module that holds one that it is in
            found[id(value)] = _Known(value, path)
            children = ((k, v) for k, v in vars(value).items() if not k.startswith("_pytree__"))
            if type(value).__module__.startswith("equinox."):
                # What `filter_jit` and its like wrap has the place of the wrapper.
                children = (("" if k == "_fun" else k, v) for k, v in children)
        elif isinstance(value, dict):
            children = value.items()
        elif isinstance(value, list | tuple):
            children = enumerate(value)
        for key, child in children:
            visit(child, (*path, str(key)) if key != "" else path)

    visit(value, path)
    return found


def _bases() -> tuple[type, ...]:
    """The classes of modules that do not know their names."""
    equinox = sys.modules.get("equinox")
    return (nnx.Module,) if equinox is None else (nnx.Module, equinox.Module)


# How many traces use the methods of a class that say its modules' names, and what to undo.
_classes: dict[type, list[Callable[[], None]]] = {}
_uses: dict[type, int] = {}
_lock = threading.Lock()


@contextmanager
def _saying_names(classes: set[type]) -> Iterator[None]:
    """Gives classes methods that say which module is called, as long as somebody wants that."""
    with ExitStack() as stack:
        for cls in classes:
            stack.callback(_release, cls)
            with _lock:
                _uses[cls] = _uses.get(cls, 0) + 1
                if _uses[cls] == 1:
                    _classes[cls] = [_replaced(cls, name) for name in _methods(cls)]
        yield


def _release(cls: type) -> None:
    with _lock:
        _uses[cls] -= 1
        if not _uses[cls]:
            del _uses[cls]
            for undo in _classes.pop(cls):
                undo()


def _methods(cls: type) -> list[str]:
    """The names of a class's own public methods, and `__call__`."""
    base = next(b for b in _bases() if issubclass(cls, b))
    own = set(dir(cls)) - set(dir(base)) - set(getattr(cls, "__dataclass_fields__", ()))
    names = {n for n in own if n == "__call__" or not n.startswith("_")}
    static = ((n, getattr_static(cls, n)) for n in sorted(names))
    others = (staticmethod, classmethod, property, type)
    return [
        n
        for n, f in static
        if hasattr(type(f), "__get__") and callable(f) and not isinstance(f, others)
    ]


def _replaced(cls: type, name: str) -> Callable[[], None]:
    """Replaces a method; returns what puts the old one back."""
    method = getattr_static(cls, name)
    inherited = name not in vars(cls)

    @functools.wraps(method)
    def saying_names(self: object, /, *args: Leaf, **kwargs: Leaf) -> Leaf:
        with _named(self):
            return method.__get__(self, cls)(*args, **kwargs)

    def undo() -> None:
        if vars(cls).get(name) is not saying_names:
            return  # somebody else's by now
        if inherited:
            type.__delattr__(cls, name)
        else:
            type.__setattr__(cls, name, method)

    type.__setattr__(cls, name, saying_names)  # not as a library's metaclass would
    return undo


@contextmanager
def _named(module: object) -> Iterator[None]:
    """The scope of a module, if it has a name and is not the one that calls."""
    one, within, more = _known.get().get(id(module)), _within.get(), {}
    if one is None and (one := _copied(module)):
        more = _modules(module, one.path)
    if one is None:
        yield
        return
    scope = _scope(_label(type(module)), "/".join(_below(within or (), one.path)))
    with _knowing(more, one.path), scope:
        yield


def _copied(module: object) -> _Known | None:
    """The module that an unknown one was made from, by a transformation that took it apart.

    It is one of its structure in the module that calls, or among all if none does; of several,
    nobody knows which it is.
    """
    within = _within.get()
    alike = [
        one
        for one in _known.get().values()
        if type(one.module) is type(module)
        and (within is None or one.path != within == one.path[: len(within)])
        and _of_one_structure(one.module, module)
    ]
    # A trace in another knows what is passed on under the same path.
    return alike[-1] if len({one.path for one in alike}) == 1 else None


def _of_one_structure(one: object, other: object) -> bool:
    structure = nnx.graphdef if isinstance(one, nnx.Module) else jax.tree.structure
    try:
        return bool(structure(one) == structure(other))
    except (TypeError, ValueError):  # settings that cannot be compared, such as arrays
        return False


def _below(above: Path, path: Path) -> Path:
    """A path from one that it begins with, else the whole of it."""
    return path[len(above) :] if path[: len(above)] == above else path


def _label(cls: type) -> str:
    """What Equinox calls its own layers on JAX's name stack."""
    return f"eqx.nn.{cls.__name__}" if cls.__module__.startswith("equinox.nn.") else ""


@contextmanager
def named_calls() -> Iterator[None]:
    """Names what modules of Linen and Haiku compute after their places among the parameters.

    The scopes that these libraries set themselves begin with the class of Linen's outermost module,
    and name the methods that are called.
    """
    linen, haiku = sys.modules.get("flax.linen"), sys.modules.get("haiku")
    with ExitStack() as stack:
        if _calling.get() is None and linen is not None:
            stack.enter_context(linen.intercept_methods(_linen))
        if _calling.get() is None and haiku is not None:
            stack.enter_context(haiku.intercept_methods(_haiku))
        token = _calling.set(())
        try:
            yield
        finally:
            _calling.reset(token)


# The paths of the Linen modules, and the Haiku modules, that are being called; None if nobody wants
# to know.
_calling: ContextVar[tuple[Leaf, ...] | None] = ContextVar("calling", default=None)


def _linen(call: Function, args: Leaf, kwargs: Leaf, context: Leaf) -> Leaf:
    """Calls a method of a Linen module in its scope."""
    module, method = context.module, context.method_name
    if module.scope is None:
        return call(*args, **kwargs)
    label = module.name or type(module).__name__
    label += "" if method == "__call__" else f".{method}"
    calling, path = _calling.get() or (), module.path
    above = calling[-1] if calling else None
    if path or above is not None:
        name = "/".join(_below(above or (), path))
    else:
        name = module.name or ""
    return _called(path, label, name, functools.partial(call, *args, **kwargs))


def _haiku(call: Function, args: Leaf, kwargs: Leaf, context: Leaf) -> Leaf:
    """Calls a method of a Haiku module in its scope."""
    module, method = context.module, context.method_name
    if not hasattr(module, "module_name"):  # it is being made
        return call(*args, **kwargs)
    own = module.module_name.split("/")[-1]
    label = own if method == "__call__" else f"{method}/{own}"
    name = "" if (_calling.get() or ())[-1:] == (id(module),) else own
    return _called(id(module), label, name, functools.partial(call, *args, **kwargs))


def _called(module: Leaf, label: str, name: str, call: Callable[[], Leaf]) -> Leaf:
    token = _calling.set((*(_calling.get() or ()), module))
    try:
        with _scope(label, name):
            return call()
    finally:
        _calling.reset(token)
