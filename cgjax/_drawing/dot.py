"""A graph in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from cgjax._drawing.formats import COLOURS
from cgjax._drawing.layers import Box, Line

_FONT = "Helvetica, Arial, sans-serif"


def dot(boxes: Sequence[Box], lines: Sequence[Line]) -> str:
    """Boxes and the lines between them as a directed graph; lines through time are dashed and do
    not count for the rows, and those without direction have no arrow."""
    number = {box.name: f"v{k}" for k, box in enumerate(boxes)}
    out = [
        "digraph {",
        f'    node [shape=box style="rounded,filled" fontname={_quoted(_FONT)} fontsize=11]',
        f"    edge [fontname={_quoted(_FONT)} fontsize=9 arrowsize=0.7]",
    ]
    for box in boxes:
        fill, border = COLOURS[box.kind]
        label = _quoted("\n".join(x for x in (box.title, box.text) if x))
        out.append(f'    {number[box.name]} [label={label} fillcolor="{fill}" color="{border}"]')
    for line in lines:
        options = ""
        if line.through_time:
            options = ' [style=dashed constraint=false label="earlier step"]'
        elif line.touching:
            options = f" [dir=none label={_quoted(line.touching)}]"
        out.append(f"    {number[line.source]} -> {number[line.target]}{options}")
    return "\n".join([*out, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A quoted string, in which Graphviz takes backslashes for escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
