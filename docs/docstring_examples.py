"""A Griffe extension: the section "Example:" of a docstring is a doctest, shown as one."""

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames "Example:" to the name of the section that Griffe parses as a doctest."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
