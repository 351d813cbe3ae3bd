"""What checks annotations while examples run: more items than one, and the same ones each time.

Of a tuple of any length, a list, or a sequence, beartype (0.23) checks one item, drawn at random:
what is wrong in one item of five is found in one run of five. Here each check is made for several
draws, the same ones each time, so that the first six items are checked.

It has a name of its own for another reason. jaxtyping keeps the byte code of a package with checks
by the name of what checks. While a package is imported, its kept code also goes by that name for
the packages that it imports, which may be without checks (0.3.11): code that other tests have left
behind would run unchecked.
"""

import functools
import random
import re
from collections.abc import Callable
from typing import Any

import beartype as checker

__all__ = ["beartype"]

# The number that beartype takes modulo the number of items is 0, 1, ..., 5 modulo 60 after these.
_SEEDS = (28, 47, 36, 19, 33, 5)

_MANY = re.compile(r"\.\.\.|list\[|Sequence\[")


def beartype(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose arguments are checked, for each draw if an annotation has many items.

    jaxtyping calls this with functions that do nothing and stand for those that are annotated.
    """
    checked = checker.beartype(function)
    annotations = getattr(function, "__annotations__", {}).values()
    if not any(_MANY.search(str(annotation)) for annotation in annotations):
        return checked

    @functools.wraps(function)
    def repeated(*args: Any, **kwargs: Any) -> Any:
        state = random.getstate()
        try:
            for seed in _SEEDS[1:]:
                random.seed(seed)
                checked(*args, **kwargs)
            random.seed(_SEEDS[0])
            return checked(*args, **kwargs)
        finally:
            random.setstate(state)

    return repeated
