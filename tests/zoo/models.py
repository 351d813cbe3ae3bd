"""All models of the zoo."""

import importlib
import pkgutil
from types import ModuleType

from tests import zoo
from tests.zoo.example import Example


def _examples(module: ModuleType) -> tuple[Example, ...]:
    return getattr(module, "EXAMPLES", ())


ZOO: tuple[Example, ...] = tuple(
    example
    for found in pkgutil.iter_modules(zoo.__path__, "tests.zoo.")
    if found.name != __name__ and not found.name.startswith("tests.zoo.test_")
    for example in _examples(importlib.import_module(found.name))
)
