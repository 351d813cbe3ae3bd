"""Boxes and lines as SVG and as a picture."""

from cgjax._drawing.drawing import Box, Line, drawing
from cgjax._drawing.formats import save, svg
from cgjax._drawing.mermaid import mermaid

__all__ = ["Box", "Line", "drawing", "mermaid", "save", "svg"]
