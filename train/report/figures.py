"""One way to save figures."""

import io
from pathlib import Path
from typing import Any

from train.report.files import write_atomic


def save(figure: Any, path: Path, *, description: str | None = None, dpi: int = 150) -> None:
    """Writes a Matplotlib figure, whole or not at all; the same figure makes the same bytes.

    Args:
        figure: the figure; it is closed.
        path: where to; its suffix is the format, without one PNG.
        description: what the file says of itself, in the formats that can (PNG, SVG).
        dpi: dots per inch of formats that have them.

    Raises:
        ValueError: the format is unknown.
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
