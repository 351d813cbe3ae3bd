"""Finds the public names of cgjax that lack a docstring or a place in the API reference."""

import importlib
import inspect
import pathlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import cgjax


def problems(docs: pathlib.Path) -> list[str]:
    """One sentence for each public name that is not documented in the reference, `docs`/api."""
    reference = "\n".join(path.read_text() for path in sorted((docs / "api").glob("*.md")))
    listed = set(re.findall(r"^::: ([\w.]+)", reference, flags=re.MULTILINE))
    found = []
    for module in public_modules():
        if not module.__doc__:
            found.append(f"module {module.__name__} has no docstring")
        for name, value in public_members(module):
            full = f"{module.__name__}.{name}"
            if isinstance(value, int | float | str):
                # Python has no docstring for a constant: a page names it and says what it is.
                if f"`{full}`" not in reference:
                    found.append(f"{full} is on no page of docs/api (as `{full}`, in the text)")
                continue
            if not documented(value, name):
                found.append(f"{full} has no docstring")
            if full not in listed and not shown_elsewhere(name, value, listed):
                found.append(f"{full} is on no page of docs/api (a line `::: {full}`)")
            for member, of_class in inspect.getmembers(value) if inspect.isclass(value) else ():
                callable_ = inspect.isroutine(of_class) or isinstance(of_class, property)
                # From a base is good enough.
                if not member.startswith("_") and callable_ and not inspect.getdoc(of_class):
                    found.append(f"{full}.{member} has no docstring")
    return found


def public_modules() -> Iterator[ModuleType]:
    """The modules without an underscore in their path."""
    yield cgjax
    for module in pkgutil.walk_packages(cgjax.__path__, "cgjax."):
        if "._" not in module.name:
            yield importlib.import_module(module.name)


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module offers besides modules: `__all__`, else what is defined in it or below it."""
    for name, value in inspect.getmembers(module, lambda value: not inspect.ismodule(value)):
        origin = str(getattr(value, "__module__", None))
        below = hasattr(module, "__path__") and origin.startswith(module.__name__ + ".")
        constant = name.isupper() and isinstance(value, int | float | str)
        own = not name.startswith("_") and (origin == module.__name__ or below or constant)
        if name in module.__all__ if hasattr(module, "__all__") else own:
            yield name, value


def documented(value: Any, name: str) -> bool:
    """Whether a docstring was written for this very object."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    # Python writes "Name(fields)" for records that have no docstring of their own.
    return bool(text) and not text.startswith(f"{name}(")


def shown_elsewhere(name: str, value: Any, listed: set[str]) -> bool:
    """Whether the reference shows the same thing as a name of another public module."""
    modules = (
        module for module, _, last in (full.rpartition(".") for full in listed) if last == name
    )
    shown = (getattr(importlib.import_module(module), name) for module in modules)
    return any(each.__doc__ == value.__doc__ for each in shown)
