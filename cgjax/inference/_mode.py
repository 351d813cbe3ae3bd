"""The most probable values: every node at its mode, given the modes of its parents."""

from dataclasses import dataclass

from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.nodes import Family


@dataclass(frozen=True)
class _MostProbable(Visitor):
    """Puts each node at its mode; noise and observed nodes stay collapsed."""

    def changes(self, site: Site) -> bool:
        return site.kind == "node"

    def passes(self, site: Site) -> bool:
        return not self.capture and not self.changes(site)

    def value(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> Array:
        return family.mode(e) if self.changes(site) else activation


@method
class Mode(Method):
    """Options of the mode."""

    inline: bool

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        return walk(program, _MostProbable(capture=capture, inline=self.inline), arrays)


def mode(net: Network, *, inline: bool = False) -> Procedure:
    """Every node takes its most probable value, given those that its parents take.

        x_l = argmax P(X_l | e_l(T(x_{l-1})))

    component by component: of a `LinearChain` the best path (Viterbi), of a `Categorical` the
        likeliest
    class, of a Gaussian its mean. That is the most probable joint state of each component given
    those below, not of the whole network: a value that is likely by itself may make all that
    follows unlikely. Noise nodes are marginalised, as in feed-forward, and observed ones keep their
    values.

    Args:
        net: a network, as a function of arrays.
        inline: as in `forward_sample`.

    Returns:
        `procedure(*args)`, with the result of `net(*args)` at these values. No gradient flows
        through nodes of discrete families.

    Raises:
        TypeError: when called, for a node of a continuous family that does not say where its
            density is largest.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.Spin(), x, name="hidden")
        >>> cg.mode(net)(jnp.array([-0.1, 3.0]))
        Array([-2.,  2.], dtype=float32)

    Source: [A] section 2.2, the factorisation of the joint distribution.
    """
    return intern(Procedure(net, Mode(inline)))
