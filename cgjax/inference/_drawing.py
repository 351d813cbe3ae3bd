"""One walk that draws every node and says how probable what it drew is."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cgjax import _static
from cgjax._procedure import (
    Arrays,
    Method,
    Procedure,
    Result,
    check_capture,
    intern,
    method,
    named,
    own_key,
)
from cgjax._program import Program, Site
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._sampling import Estimator, ForwardSample
from cgjax.nodes import Family


class Drawn(NamedTuple):
    """What is known of a node that was drawn; each has a time axis in front for each scan.

    Attributes:
        value: its statistic.
        log_prob: its log-probability, summed over its elements.
        taken: 1; NaN where the node lies in a branch that was not taken.
        e, parameters: its natural parameter and its family's arrays, where they are asked for.
    """

    value: Array
    log_prob: Array
    taken: Array
    e: Array | None = None
    parameters: tuple[Leaf, ...] = ()

    def total(self) -> Array:
        """The log-probability over all steps; 0 in branches that were not taken."""
        return jnp.sum(jnp.where(jnp.isnan(self.taken), 0, self.log_prob))


@dataclass(frozen=True)
class _Drawing(Visitor):
    """Draws every node but the observed ones, and records it.

    Attributes:
        natural: the nodes whose natural parameters are recorded.
        estimator: as in `forward_sample`.
    """

    natural: frozenset[int] = frozenset()
    estimator: Estimator = "pathwise"

    def draws(self, site: Site) -> bool:
        return site.kind != "observe"

    def changes(self, site: Site) -> bool:
        return self.draws(site)

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Drawn]:
        one = jnp.ones((), jnp.promote_types(site.dtype, jnp.float32))
        if not self.draws(site):
            return activation, Drawn(activation, 0 * one, one)
        value, log_prob = family.from_words_with_log_prob(draw()[1], e)
        if self.estimator == "straight_through" and not family.reparameterised:
            value = jax.lax.stop_gradient(value)
            value = value + (activation - jax.lax.stop_gradient(activation))
        drawn = Drawn(value, jnp.sum(log_prob), one)
        if site.index in self.natural:
            drawn = drawn._replace(e=e, parameters=tuple(_static.split(family)[1]))
        return value, drawn


def draw(
    program: Program, key: Array, arrays: Arrays, visitor: _Drawing
) -> tuple[Tree, dict[str, Drawn]]:
    """The network's result, and each node by name."""
    out, records = walk(program, visitor, arrays, key=key)
    return out, named(program, records)


def drawing(estimator: Estimator, natural: frozenset[int] = frozenset()) -> _Drawing:
    """What draws the nodes of a guide, by its own derivative where one is known."""
    return _Drawing(natural=natural, estimator=estimator)


@method
class WithLogProb(Method):
    """Options of `with_log_prob`: those of the procedure that it is made of."""

    sampler: ForwardSample
    lead = "key"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        options = self.sampler
        visitor = _Drawing(
            rounds=options.rounds, inline=options.inline, estimator=options.estimator
        )
        check_capture(program)
        out, nodes = draw(program, own_key(lead), arrays, visitor)
        total = sum((drawn.total() for drawn in nodes.values()), jnp.zeros(()))
        return (out, {name: drawn.value for name, drawn in nodes.items()}, total), {}

    def check(self, net: Function, program: Program) -> None:
        self.sampler.check(net, program)


def with_log_prob(procedure: Leaf) -> Function:
    """Makes forward sampling return the nodes that it drew, and their log-probability.

        x_l ~ P(X_l | parents of X_l),    log P(x) = sum_l log P(x_l | parents of x_l)

    One walk does both. It draws what `with_nodes(procedure)` draws with the same key, and of a
    Gaussian node the log-density comes from the standard normal number that was drawn, so that no
    digits are lost where the mean is large.

    Args:
        procedure: `forward_sample(net)`, with any of its options.

    Returns:
        A procedure with the same arguments, those of one example, that returns `(out, nodes,
        log_prob)`: the network's result, `{name: statistic}` as `with_nodes` has it, and the sum
        over all nodes, noise included and observed inputs not: what `log_joint(net)(nodes, *args)`
        is. Its derivative follows the samples as `forward_sample`'s does.

    Raises:
        TypeError: if the argument is not `forward_sample` of a network; other procedures collapse
            nodes or average, and no probability belongs to what they return.
        ValueError: when called, if a node lies in a `while_loop`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: 2 * cg.node(cg.nodes.Spin(), e, name="x")
        >>> sample = cg.with_log_prob(cg.forward_sample(net))
        >>> out, nodes, log_prob = sample(jax.random.key(0), jnp.zeros(3))
        >>> bool(jnp.all(out == 2 * nodes["x"])), log_prob.round(3)  # 3 log 1/2
        (True, Array(-2.079, dtype=float32))
    """
    if not isinstance(procedure, Procedure) or not isinstance(procedure.method, ForwardSample):
        known = isinstance(procedure, Procedure)
        got = f"{procedure.method.procedure()}(net)" if known else _static.described(procedure)
        raise TypeError(
            "with_log_prob takes forward sampling, `with_log_prob(cgjax.forward_sample(net))`, got "
            f"{got}. Of values that you have, `cgjax.log_joint(net)` is the log-probability."
        )
    return intern(Procedure(procedure.net, WithLogProb(procedure.method)))
