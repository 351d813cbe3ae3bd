"""Walking: evaluates a program and hands every node to a visitor, which is what a procedure is."""

from cgjax._walk.arrays import evaluator, walk
from cgjax._walk.evaluate import Domain, Evaluator, Frame, Records, Results
from cgjax._walk.unroll import unroll
from cgjax._walk.visitor import Visitor

__all__ = [
    "Domain",
    "Evaluator",
    "Frame",
    "Records",
    "Results",
    "Visitor",
    "evaluator",
    "unroll",
    "walk",
]
