"""The joint log-probability of all nodes ([A] Eq. 1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw
from cgjax.inference._clamp import named_values
from cgjax.nodes import Family


@dataclass(frozen=True)
class _LogJoint(Visitor):
    """Gives nodes their values and records their log-probabilities."""

    absent: ClassVar[float] = 0.0

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self,
        site: Site,
        family: Family,
        activation: Array,
        e: Array,
        draw: Draw,
        given: Array | None,
    ):
        if site.kind == "observe":
            return activation, None
        assert given is not None  # all nodes are given
        value = jnp.broadcast_to(given, site.shape).astype(site.dtype)
        return value, jnp.sum(family.log_prob(value, e))


@method
class LogJoint(Method):
    """Options of `log_joint`."""

    inline: bool
    lead = "values"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        if not isinstance(lead, Mapping):
            raise TypeError(
                "log_joint's first argument is a dict from node names to values, got "
                f"{type(lead).__name__}. Call it as `log_joint(net)(values, *args)`."
            )
        given = named_values(program, lead)
        random = [s for s in program.sites if s.kind != "observe"]
        missing = [s.name for s in random if s.index not in given]
        if missing:
            raise ValueError(
                f"log_joint needs a value for every node; missing: {', '.join(missing)}."
            )
        _, records = walk(program, _LogJoint(inline=self.inline), arrays, given=given)
        parts = {i: record for i, record in records.items() if record is not None}
        total = sum((jnp.sum(part) for part in parts.values()), jnp.zeros(()))
        return total, {i: jnp.asarray(given[i]) for i in parts} if capture else {}


def log_joint(net: Network, *, inline: bool = False) -> Procedure:
    """The log-probability of a value for every node: the chain rule of the chain graph.

        log P(X | input) = sum_l log P(X_l | parents of X_l)

    Densities are taken with respect to the families' own measures: counting for discrete nodes, and
    for rectified Gaussians the Lebesgue measure plus a point mass at 0.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch).
        inline: as in `forward_sample`.

    Returns:
        `procedure(values, *args)`, a scalar. `values` has every node's statistic by full name,
        noise nodes included and observed ones not, with a leading time axis inside `lax.scan`.

    Raises:
        ValueError: for nodes without a value, which are listed, unknown names, values that do not
            broadcast, or nodes in a `while_loop`.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Spin(), e, name="x")
        >>> cg.log_joint(net)({"x": jnp.array([1.0, -1.0])}, jnp.zeros(2))
        Array(-1.3862944, dtype=float32)

    Source: [A] Eq. 1-3.
    """
    return intern(Procedure(net, LogJoint(inline)))
