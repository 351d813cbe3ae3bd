"""What a model of the zoo consists of.

The zoo is made of small models of the kinds that people use, each in the style of its library. They
are written without cgjax: `lift` has to find their activations, and every procedure has to run on
them or to say truly why it does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Parts(NamedTuple):
    """A model, ready to be called: `f(params, *inputs)`.

    Attributes:
        f: a pure function in evaluation mode, whose state is closed over.
        params: a pytree of arrays.
        inputs: examples; the first is an array of floating-point numbers, the one that may be
            uncertain, and its first axis the batch.
    """

    f: Callable[..., Any]
    params: Any
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Example:
    """A model of the zoo.

    Attributes:
        name: of the model, such as "ResNet"; with the library it names a row of the table.
        library: what it is written in: "nnx", "linen", "equinox", "haiku", "keras" or "jax".
        kind: what it is for, such as "vision" or "sequence".
        make: builds it. Libraries are imported inside: one may be missing.
        activations: the places in its code where a node could be, counted by hand, gates and
            attention included.
        optional: those of them that are nodes only if `include` asks for them.
        errors: what is not possible, by the name of the procedure, with words of the error.
    """

    name: str
    library: str
    kind: str
    make: Callable[[], Parts]
    activations: int
    optional: int = 0
    errors: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}-{self.library}".lower().replace(" ", "-")
