"""Modules of the libraries of neural networks: what is one, and its parts.

A module is split once, by the file of its library, into a pure function, its parameters and its
other state. Flax NNX comes with cgjax. No other library is imported here: who hands over one of
its objects has imported it.
"""

from cgjax._modules.kinds import (
    check_complete,
    holds_parameters,
    is_state_class,
    is_trained_class,
    is_variables,
    library_of,
)
from cgjax._modules.nnx_modules import ModuleFunction
from cgjax._modules.parts import Parts, State
from cgjax._modules.split import split, split_for_calls

__all__ = [
    "ModuleFunction",
    "Parts",
    "State",
    "check_complete",
    "holds_parameters",
    "is_state_class",
    "is_trained_class",
    "is_variables",
    "library_of",
    "split",
    "split_for_calls",
]
