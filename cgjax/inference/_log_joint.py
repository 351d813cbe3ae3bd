"""The joint log-probability of all nodes ([A] Eq. 1), and the pseudo-likelihood in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._clamp import named_values
from cgjax.nodes import Family


@dataclass(frozen=True)
class _LogJoint(Visitor):
    """Gives nodes their values and records their log-probabilities."""

    absent: ClassVar[float] = 0.0
    pseudo: bool = False

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Array | None]:
        if site.kind == "observe":
            return activation, None
        assert given is not None  # all nodes are given
        value = jnp.broadcast_to(given, site.shape).astype(site.dtype)
        of_one = family.pseudo_log_prob if self.pseudo else family.log_prob
        return value, jnp.sum(of_one(value, e))


@method
class LogJoint(Method):
    """Options of `log_joint`."""

    inline: bool
    lead = "values"
    pseudo: ClassVar[bool] = False

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        if not isinstance(lead, Mapping):
            raise TypeError(
                f"{self.procedure()}'s first argument is a dict from node names to values, got "
                f"{type(lead).__name__}. Call it as `{self.procedure()}(net)(values, *args)`."
            )
        given = named_values(program, lead)
        random = [s for s in program.sites if s.kind != "observe"]
        missing = [s.name for s in random if s.index not in given]
        if missing:
            raise ValueError(
                f"{self.procedure()} needs a value for every node; missing: {', '.join(missing)}."
            )
        visitor = _LogJoint(inline=self.inline, pseudo=self.pseudo)
        _, records = walk(program, visitor, arrays, given=given)
        parts = {i: record for i, record in records.items() if record is not None}
        total = sum((jnp.sum(part) for part in parts.values()), jnp.zeros(()))
        return total, {i: jnp.asarray(given[i]) for i in parts} if capture else {}


@method
class PseudoLikelihood(LogJoint):
    """Options of `pseudo_likelihood`."""

    pseudo = True


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
        TypeError: for a family whose probabilities have a sum that nobody can compute
            (`Grid`, `DenseGrid`): see `pseudo_likelihood`.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Spin(), e, name="x")
        >>> cg.log_joint(net)({"x": jnp.array([1.0, -1.0])}, jnp.zeros(2))
        Array(-1.3862944, dtype=float32)

    Source: [A] Eq. 1-3.
    """
    return intern(Procedure(net, LogJoint(inline)))


def pseudo_likelihood(net: Network, *, inline: bool = False) -> Procedure:
    """The log-pseudo-likelihood of a value for every node: `log_joint` without normalising sums.

        sum_l sum_i log P(X_l,i | all other elements of X_l, parents of X_l)

    over the elements i of components whose elements touch (`Grid`, `DenseGrid`). For all other
    families the term of a node is its log-probability, so that without such components the result
    is `log_joint`'s. Its maximum is a consistent estimate of the parameters; it is no likelihood,
    and is not compared between models.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch).
        inline: as in `forward_sample`.

    Returns:
        `procedure(values, *args)`, a scalar, as `log_joint`'s.

    Raises:
        ValueError: as `log_joint`.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Grid(2.0 * jnp.eye(2)), e, name="x")
        >>> equal = jnp.zeros((1, 2, 2)).at[..., 0].set(1.0)  # two neighbours with the first label
        >>> cg.pseudo_likelihood(net)({"x": equal}, jnp.zeros((1, 2, 2))).round(4)
        Array(-0.2539, dtype=float32)

    Source: Besag 1975.
    """
    return intern(Procedure(net, PseudoLikelihood(inline)))
