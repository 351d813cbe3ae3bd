"""Walking: evaluates a program and hands every node to a visitor, which is what a procedure is."""

from cgjax._walk.evaluate import Records, walk
from cgjax._walk.unroll import unroll
from cgjax._walk.visitor import Visitor

__all__ = ["Records", "Visitor", "unroll", "walk"]
