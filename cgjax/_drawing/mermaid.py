"""A graph as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Sequence

from cgjax._drawing.layers import Box, Line

_STYLES = {
    "input": "fill:#f4f4f4,stroke:#888",
    "result": "fill:#f4f4f4,stroke:#888",
    "operation": "fill:#fff,stroke:#b0b0b0",
    "node": "fill:#e3eefb,stroke:#2f6db5",
    "noise": "fill:#fdeed9,stroke:#c9822b",
    "observe": "fill:#e4f3e5,stroke:#3f8f46",
}

# What Mermaid would take for the end of a label or for HTML.
_ESCAPED = str.maketrans({'"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;"})


def mermaid(boxes: Sequence[Box], lines: Sequence[Line]) -> str:
    """Boxes and the lines between them as a flowchart; lines through time are dotted, and those
    without direction have no arrow."""
    number = {box.name: f"v{k}" for k, box in enumerate(boxes)}
    out = ["flowchart TD"]
    for box in boxes:
        label = "<br/>".join(x.translate(_ESCAPED) for x in (box.title, box.text) if x)
        left, right = ("([", "])") if box.kind in ("input", "result") else ("[", "]")
        out.append(f'    {number[box.name]}{left}"{label}"{right}:::{box.kind}')
    for line in lines:
        arrow = '-. "earlier step" .->' if line.through_time else "-->"
        if line.touching:
            arrow = f'-- "{line.touching.translate(_ESCAPED)}" ---'
        out.append(f"    {number[line.source]} {arrow} {number[line.target]}")
    used = {box.kind for box in boxes}
    out += [f"    classDef {kind} {style}" for kind, style in _STYLES.items() if kind in used]
    return "\n".join(out) + "\n"
