"""The walker: the only package that knows jaxprs.

`trace` turns a function into a `Program` with the list of its nodes (`Site`); `walk` evaluates it
and hands every node to a visitor, which is all that an inference procedure is; `parents` follows
the flow of data between nodes, and `linear` finds what the expectation of a result needs.
`activations` recognises activations that are not marked as nodes, and marks them; `beliefs`
evaluates a program on means and variances in place of values.
"""

from cgjax._interpret import _beliefs as beliefs
from cgjax._interpret._flow import parents
from cgjax._interpret._jaxprs import split_source
from cgjax._interpret._linear import Linear, linear
from cgjax._interpret._mark import Activation, activations, evaluate, holds_weights, nobody_looks
from cgjax._interpret._program import Program, Site
from cgjax._interpret._trace import UnsupportedPrimitiveError, trace
from cgjax._interpret._unroll import unroll
from cgjax._interpret._visitor import Visitor
from cgjax._interpret._walk import Records, walk
from cgjax._interpret._weight_noise import flipout, local_noise

__all__ = [
    "Activation",
    "Linear",
    "Program",
    "Records",
    "Site",
    "UnsupportedPrimitiveError",
    "Visitor",
    "activations",
    "beliefs",
    "evaluate",
    "flipout",
    "holds_weights",
    "linear",
    "local_noise",
    "nobody_looks",
    "parents",
    "split_source",
    "trace",
    "unroll",
    "walk",
]
