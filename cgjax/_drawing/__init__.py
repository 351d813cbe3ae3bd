"""Boxes and lines as SVG and as a picture."""

from cgjax._drawing.drawing import Box, Line, drawing
from cgjax._drawing.formats import save, svg

__all__ = ["Box", "Line", "drawing", "save", "svg"]
