"""Procedures of a model and what is observed of it: how they are called and kept."""

from dataclasses import dataclass
from typing import NoReturn

from cgjax import _cache
from cgjax._procedure import (
    Arrays,
    Method,
    Network,
    Procedure,
    Result,
    check_network,
    intern,
    method,
    split_lead,
)
from cgjax._program import Program
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Visitor, walk
from cgjax.inference._grey import check_grey
from cgjax.inference._monte_carlo import whole


@method
class OfPair(Method):
    """Options of functions of a model and a guide: they are in the function that is traced."""

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        return walk(program, Visitor(), arrays)[0], {}


@dataclass(frozen=True, eq=False)
class OfObserved(Procedure):
    """A function of a key, what is observed, and a model's arguments, which draws samples."""

    def with_nodes(self) -> NoReturn:
        raise TypeError(
            "with_nodes takes a procedure on one network, and this one is of a model and a guide. "
            "The guide's samples are those of `with_nodes(forward_sample(guide))`."
        )

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        (key,), args = split_lead("key", args)
        net: Leaf = self.net
        if not args:
            raise TypeError(
                f"{net.name} is called as `procedure(key, observed, *args)`; what is observed, a "
                "dict from node names to values, is missing."
            )
        check_grey(net.model, args[0], args[1:], kwargs)
        return super().__call__(key, *args, **kwargs)


def of_observed(function: Function, model: Network) -> OfObserved:
    """The procedure of such a function: the first of all equal ones while the model is in use."""
    kept = _cache.procedures.first(model, function)
    return intern(OfObserved(kept, OfPair()))


def check_pair(model: Leaf, guide: Leaf, num_samples: Leaf, procedure: str) -> int:
    """Raises unless these are two networks and a number of samples, which is returned."""
    check_network(model, procedure)
    check_network(guide, procedure)
    number = whole("num_samples", num_samples)
    if number < 1:
        raise ValueError(f"{procedure} takes at least 1 sample, got {number}.")
    return number
