"""Procedures of two networks, such as a model and its guide: how they are called and kept."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, NoReturn

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
from cgjax.inference._condition import check_parts
from cgjax.inference._grey import check_grey
from cgjax.inference._monte_carlo import whole


@method
class OfPair(Method):
    """Options of functions of two networks: they are in the function that is traced."""

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        return walk(program, Visitor(), arrays)[0], {}


@dataclass(frozen=True, eq=False)
class OfTwoNetworks(Procedure):
    """A function of a key, of data, and of the networks' arguments, which draws samples.

    Attributes:
        first: what comes before the data, "key" or None.
        networks: what the two are, and which of them is drawn.
        data: the name of the data, and what they are.
    """

    first: ClassVar[str | None] = "key"

    networks: ClassVar[tuple[str, str, str]] = ("a generator", "a critic", "generator")
    data: ClassVar[tuple[str, str]] = ("real", "an example that was not generated,")

    def with_nodes(self) -> NoReturn:
        one, other, drawn = self.networks
        raise TypeError(
            f"with_nodes takes a procedure on one network, and this one is of {one} and {other}. "
            f"The {drawn}'s samples are those of `with_nodes(forward_sample({drawn}))`."
        )

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        lead, args = split_lead(self.first, args)
        net: Leaf = self.net
        if not args:
            name, what = self.data
            called = ", ".join(filter(None, (self.first, name, "*args")))
            raise TypeError(f"{net.name} is called as `procedure({called})`; {what} is missing.")
        self.look(net, args, kwargs)
        return super().__call__(*lead, *args, **kwargs)

    def look(self, net: Leaf, args: tuple[Tree, ...], kwargs: dict[str, Tree]) -> None:
        """Looks at the arguments where they are known."""


@dataclass(frozen=True, eq=False)
class OfObserved(OfTwoNetworks):
    """A function of a key, what is observed, and a model's arguments, which draws samples."""

    networks = ("a model", "a guide", "guide")
    data = ("observed", "what is observed, a dict from node names to values,")

    def look(self, net: Leaf, args: tuple[Tree, ...], kwargs: dict[str, Tree]) -> None:
        check_grey(net.model, args[0], args[1:], kwargs)
        check_parts(net.model, args[0], args[1:], kwargs)


@dataclass(frozen=True, eq=False)
class ExpectedOfObserved(OfObserved):
    """A function of what is observed and a model's arguments, without samples."""

    first = None


def of_two_networks(
    function: Function, first: Network, kind: type[OfTwoNetworks] = OfTwoNetworks
) -> OfTwoNetworks:
    """The procedure of such a function: the first of all equal ones while a network is in use."""
    return intern(kind(_cache.procedures.first(first, function), OfPair()))


def of_observed(function: Function, model: Network) -> OfTwoNetworks:
    """The procedure of a function of a key, and of a model and a guide."""
    return of_two_networks(function, model, OfObserved)


def expected_of_observed(function: Function, model: Network) -> OfTwoNetworks:
    """The procedure of a function of a model and a guide that takes no key."""
    return of_two_networks(function, model, ExpectedOfObserved)


def check_pair(model: Leaf, guide: Leaf, num_samples: Leaf, procedure: str) -> int:
    """Raises unless these are two networks and a number of samples, which is returned."""
    check_network(model, procedure)
    check_network(guide, procedure)
    number = whole("num_samples", num_samples)
    if number < 1:
        raise ValueError(f"{procedure} takes at least 1 sample, got {number}.")
    return number


def check_word(procedure: str, name: str, word: Hashable, words: tuple[str, ...]) -> None:
    """Raises unless an option is one of some words."""
    if word not in words:
        listed = " or ".join(f'"{w}"' for w in words)
        raise ValueError(f"{name} of {procedure} is {listed}, got {word!r}.")
