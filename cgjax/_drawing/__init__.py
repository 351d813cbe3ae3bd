"""Boxes and lines as SVG and as a picture."""

from cgjax._drawing.drawing import Box, Line, drawing

__all__ = ["Box", "Line", "drawing"]
