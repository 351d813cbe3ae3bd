"""Boxes and lines as SVG and as a picture."""

from cgjax._drawing.dot import dot
from cgjax._drawing.drawing import drawing
from cgjax._drawing.formats import save, svg
from cgjax._drawing.layers import Box, Line
from cgjax._drawing.mermaid import mermaid

__all__ = ["Box", "Line", "dot", "drawing", "mermaid", "save", "svg"]
