"""What a procedure does at a node: the base class collapses every node, procedures override."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array

from cgjax._program.program import Site
from cgjax._rate import Rate
from cgjax._static import Tree
from cgjax.nodes import Family

# Gives a node its randomness: `draw()` is two words of uniform bits an element.
Draw = Callable[[], tuple[Array, Array]]
# What a procedure hands to a node, if anything.
Handed = Array | None


@dataclass(frozen=True)
class Visitor:
    """Leaves every node collapsed.

    Attributes:
        capture: whether the nodes' statistics are recorded.
        rounds: rounds of the bit generator.
        inline: whether custom-derivative calls that hold nodes may lose their rule.
        implementation: which implementation of a fused component serves, if it has it.
        absent: what a record holds for a branch that was not taken.
        keeps_nodes: whether the walk makes a network again, in which nodes keep their names.
    """

    capture: bool = False
    rounds: int = 20
    inline: bool = False
    implementation: str | None = None
    absent: ClassVar[float] = float("nan")
    keeps_nodes: ClassVar[bool] = False

    def changes(self, site: Site) -> bool:
        """Whether the node's value may differ from its activation."""
        return False

    def passes(self, site: Site) -> bool:
        """Whether the node may go unseen: it keeps its activation, and nothing is recorded."""
        return False

    def draws(self, site: Site) -> bool:
        """Whether the node needs random words."""
        return False

    def handed(self, site: Site) -> tuple[int, ...]:
        """What an array that is handed to the node broadcasts against, in one step of its loops."""
        return site.shape

    def value(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> Array:
        """The node's value."""
        return activation

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Tree]:
        """The node's value, and what to record about it (None: nothing)."""
        value = self.value(site, family, activation, e, draw, given)
        return value, value if self.capture else None

    def rate(self, site: Site, given: Array | None) -> Rate:
        """The probability that the node is sampled, for an implementation of a component."""
        return 0.0
