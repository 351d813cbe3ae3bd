"""The report of `lift`: what became of each activation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cgjax._program import split_source


@dataclass(frozen=True)
class LiftEntry:
    """What became of one activation.

    Attributes:
        label: the function, numbered where `include=` decides, in walking order: "logistic_0".
        function: its name, such as "relu", "gelu" or "softmax"; "output" for a result that
            `output=` made a node.
        shape: the activation's shape, inside a scan that at one step.
        source: the line of code that computes it.
        node: the full name of the node that it became, or None.
        family: the name of the node's family, or None.
        reason: why it is no node; empty if it is one.
        optional: whether `include=` would make it one.
    """

    label: str
    function: str
    shape: tuple[int, ...]
    source: str
    node: str | None = None
    family: str | None = None
    reason: str = ""
    optional: bool = False

    def __str__(self) -> str:
        where = f"  [{', '.join(map(str, self.shape))}]  {_short(self.source)}".rstrip()
        if self.node is not None:
            return f"lifted   {self.label} -> {self.family} {self.node!r}{where}"
        hint = f" (lifted with include={self.label!r})" if self.optional else ""
        return f"skipped  {self.label}: {self.reason}{hint}{where}"


def _short(source: str) -> str:
    """A line of code with its file's path from here, where that is shorter."""
    path, function = split_source(source)
    if not path:
        return ""
    try:
        return f"{Path(path).relative_to(Path.cwd())} {function}"
    except ValueError:
        return f"{'/'.join(Path(path).parts[-2:])} {function}"


@dataclass(frozen=True, repr=False)
class LiftReport:
    """What `lift` found in a network: it prints one line for each activation.

    Attributes:
        entries: the activations in walking order.
        others: the other functions of one value of data that are not linear, each with its reason:
            with the entries, all that bends data element by element; and softmaxes over segments.
    """

    entries: tuple[LiftEntry, ...]
    others: tuple[LiftEntry, ...] = ()

    @property
    def lifted(self) -> tuple[LiftEntry, ...]:
        """The activations that became nodes."""
        return tuple(e for e in self.entries if e.node is not None)

    @property
    def skipped(self) -> tuple[LiftEntry, ...]:
        """The activations that did not, each with its reason."""
        return tuple(e for e in self.entries if e.node is None)

    def __repr__(self) -> str:
        lines = [*map(str, self.entries)] or ["No activation was recognised."]
        lines += [str(e).replace("skipped", "other  ", 1) for e in self.others]
        return "\n".join(lines)
