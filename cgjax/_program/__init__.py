"""A traced function as data: the only package that knows jaxprs.

`trace` turns a function into a `Program` with the list of its nodes (`Site`); `parents` follows the
flow of data between nodes, and `linear` finds what the expectation of a result needs.

What JAX's operations are stands in one place each: `primitives` says what is known of each (and how
to classify one that JAX adds), `control` reads loops, branches and calls, and `jaxprs` knows what
differs between versions of JAX.
"""

from cgjax._program.flow import parents
from cgjax._program.jaxprs import split_source
from cgjax._program.linear import Linear, linear
from cgjax._program.meetings import Meetings, meetings
from cgjax._program.program import Program, Site
from cgjax._program.steps import Sources, Steps, steps
from cgjax._program.trace import UnsupportedPrimitiveError, trace

__all__ = [
    "Linear",
    "Meetings",
    "Program",
    "Site",
    "Sources",
    "Steps",
    "UnsupportedPrimitiveError",
    "linear",
    "meetings",
    "parents",
    "split_source",
    "steps",
    "trace",
]
