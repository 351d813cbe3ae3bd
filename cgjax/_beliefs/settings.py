"""How beliefs are propagated, and what is said where they cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jax.extend.core import JaxprEqn

from cgjax._program.jaxprs import source, source_inside
from cgjax._program.primitives import facts
from cgjax._walk import Visitor

Nodes = Literal["collapsed", "random"]


class NoMomentRuleError(TypeError):
    """A primitive that no rule says the mean and variance of."""


@dataclass(frozen=True)
class Beliefs(Visitor):
    """How beliefs are propagated.

    Attributes:
        nodes: whether a node is its activation, or adds its own noise.
        order: 1 for the first-order Taylor rule, else 2: moments are matched.
        positions: whether what positions share is followed.
        first_order: names of primitives without a rule that may be linearised.
        not_negative: which of the network's constants hold nothing below 0, as far as it is known.
    """

    nodes: Nodes = "collapsed"
    order: int = 2
    positions: bool = True
    first_order: frozenset[str] = field(default_factory=frozenset)
    not_negative: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Unknown:
    """The result of an operation without a rule, which raises where it is used in earnest."""

    error: NoMomentRuleError


@dataclass(frozen=True)
class Place:
    """Where in a program an operation stands.

    Attributes:
        calls: the equations that the walk is inside of, outermost first.
        is_offset: whether the result is a largest value that serves as any number near it would.
        positive: whether no operand can be negative.
    """

    calls: tuple[JaxprEqn, ...] = ()
    is_offset: bool = False
    positive: bool = False

    def line(self, eqn: JaxprEqn) -> str:
        """The user's line that an equation comes from."""
        lines = (*map(source, (eqn, *reversed(self.calls))), source_inside(eqn))
        return next(filter(None, lines), "an unknown line")


def no_rule(eqn: JaxprEqn, place: Place, differentiable: bool, why: str = "") -> NoMomentRuleError:
    """The error for an operation without a rule, with the ways out that there are."""
    name = eqn.primitive.name
    ways = "register one with `@cgjax.moment_rule(…)`"
    ways += ", for it or for the function around it"
    known = facts(eqn)
    if known.curvature == "stepped" and known.rises:
        ways = (
            f"It is level between its steps: with `first_order=[{name!r}]` the result would count "
            f"as known, since the derivative is 0. To say how uncertain it is, {ways}."
        )
    elif differentiable:
        ways = (
            f"Either {ways}, or accept a first-order approximation with "
            f"`cgjax.moments(net, first_order=[{name!r}])`."
        )
    else:
        ways = f"JAX has no derivative of it to approximate it by: {ways}."
    return NoMomentRuleError(
        f"There is no rule for the mean and variance of `{name}`{why}, used at {place.line(eqn)}. "
        f"{ways}"
    )
