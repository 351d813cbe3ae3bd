"""What all figures share: panels, colours, and one way to save them."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.files import write_atomic

COLOURS = {"none": "#9aa0a6", "dropout": "#4477aa", "pcff": "#cc6677", "both": "#8a5fb0"}


def panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Any, Any]:
    """A figure of some width and height in inches, and its panels as an array [rows, columns],
    which have neither top nor right edge; `shared` is as for `matplotlib.pyplot.subplots`."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **shared
    )
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def digest(results: Sequence[Path]) -> str:
    """What a picture says of the results that it was drawn from: their SHA-256."""
    together = hashlib.sha256()
    for path in results:
        together.update(path.read_bytes())
    return f"SHA-256 of the results: {together.hexdigest()}"


def save(figure: Any, path: Path, *, description: str | None = None, dpi: int = 150) -> None:
    """Writes a Matplotlib figure and closes it, whole or not at all; the same figure makes the same
    bytes.

    The suffix of the path is the format, without one PNG; an unknown one is a ValueError. A
    description is what the file says of itself, in the formats that can (PNG, SVG).
    """
    from matplotlib import pyplot

    kind = path.suffix.lstrip(".") or "png"
    metadata: dict[str, Any] = {}
    if description is not None and kind in ("png", "svg"):
        metadata["Description"] = description
    if kind == "svg":
        metadata["Date"] = None
    buffer = io.BytesIO()
    with pyplot.rc_context({"svg.hashsalt": "cgjax"}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    pyplot.close(figure)
    write_atomic(path, buffer.getvalue())
