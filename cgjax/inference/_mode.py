"""The most probable values: every node at its mode, given the modes of its parents."""

from dataclasses import dataclass

from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._condition import Conditioned
from cgjax.inference._exact_marginals import MAX_STATES, check_max_states
from cgjax.inference._joint_mode import JointMode
from cgjax.inference._posterior import Posterior
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


def mode(
    net: Network | Conditioned, *, max_states: int = MAX_STATES, inline: bool = False
) -> Procedure:
    """The most probable values of all nodes, decided one after the other, or jointly.

    Of a network every node takes its most probable value, given those that its parents take,

        x_l = argmax P(X_l | e_l(T(x_{l-1})))

    component by component: of a `LinearChain` the best path (Viterbi), of a `Categorical` the
    likeliest class, of a Gaussian its mean. That is the most probable joint state of each component
    given those below, not of the whole network: a value that is likely by itself may make all that
    follows unlikely. Noise nodes are marginalised, as in feed-forward, and observed ones keep their
    values.

    Of a network with evidence (`condition`) all nodes that were not seen take their most probable
    joint values, given what was seen,

        x = argmax P(X | evidence) = argmax_x prod_l P(x_l, evidence | parents of x_l)

    exactly, by maxima in place of the sums of `exact_marginals`. Noise nodes are variables like
    others. `condition(net, {})` is a network of which nothing was seen: its most probable joint
    values. Of equally probable ones one is taken, always the same.

    Args:
        net: a network, as a function of arrays; with evidence, of the arrays of *one* example
            (`jax.vmap` for a batch), of nodes of discrete families where they were not seen.
        max_states: as in `exact_marginals`, of a network with evidence.
        inline: as in `forward_sample`.

    Returns:
        `procedure(*args)`, with the result of `net(*args)` at these values. No gradient flows
        through nodes of discrete families. Evidence of probability 0 that is traced gives NaN.

    Raises:
        TypeError: when called, for a node of a continuous family that does not say where its
            density is largest; with evidence, for one that was not seen.
        ValueError: when called, with evidence: if the graph is too large, or if the evidence is
            known and has probability 0.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.Spin(), x, name="hidden")
        >>> cg.mode(net)(jnp.array([-0.1, 3.0]))
        Array([-2.,  2.], dtype=float32)

        One that is unlikely by itself, and explains what was seen:

        >>> def net(e):
        ...     rain = cg.node(cg.nodes.Bernoulli(), e, name="rain")
        ...     wet = cg.node(cg.nodes.Bernoulli(), 6 * rain - 3, name="wet")
        ...     return rain
        >>> cg.mode(net)(jnp.float32(-1)), cg.mode(cg.condition(net, {"wet": 1.0}))(jnp.float32(-1))
        (Array(0., dtype=float32), Array(1., dtype=float32))

    Source: [A] section 2.2, the factorisation of the joint distribution; Dawid 1992 (maxima in
        place of sums).
    """
    check_max_states(max_states)
    if isinstance(net, Conditioned):
        return intern(Posterior(net.net, JointMode(max_states, inline, net.values)))
    return intern(Procedure(net, Mode(inline)))
