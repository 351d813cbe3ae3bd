"""The walker: the only package that knows jaxprs.

`trace` turns a function into a `Program` with the list of its nodes (`Site`); `walk` evaluates it
and hands every node to a visitor, which is all that an inference procedure is; `parents` follows
the flow of data between nodes.
"""

from cgjax._interpret._flow import parents
from cgjax._interpret._program import Program, Site
from cgjax._interpret._trace import UnsupportedPrimitiveError, trace
from cgjax._interpret._walk import Records, Visitor, walk

__all__ = [
    "Program",
    "Records",
    "Site",
    "UnsupportedPrimitiveError",
    "Visitor",
    "parents",
    "trace",
    "walk",
]
