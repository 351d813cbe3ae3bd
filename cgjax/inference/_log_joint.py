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
from cgjax.inference._grey import check_grey
from cgjax.inference._monte_carlo import whole
from cgjax.inference._rows import warn_of_rows
from cgjax.inference._states import mask_shape
from cgjax.nodes import Family


@dataclass(frozen=True)
class _LogJoint(Visitor):
    """Gives nodes their values and records their log-probabilities."""

    absent: ClassVar[float] = 0.0
    pseudo: bool = False
    batch_axes: int = 0

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
        log_prob = of_one(value, e)
        return value, jnp.sum(log_prob, tuple(range(self.batch_axes, log_prob.ndim)))


@method
class LogJoint(Method):
    """Options of `log_joint`."""

    inline: bool
    batch_axes: int | None
    lead = "values"
    pseudo: ClassVar[bool] = False

    def check(self, net: Network, program: Program) -> None:
        if self.batch_axes is None:
            name = self.procedure()
            remedy = (
                f"Of each row: `{name}(net, batch_axes=1)`, or `jax.vmap` it. Where their sum is "
                f"meant, as for the words of one sentence: `{name}(net, batch_axes=0)`."
            )
            warn_of_rows(net, program, name, remedy, depth=5)

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
        batch = self._batch(random)
        visitor = _LogJoint(inline=self.inline, pseudo=self.pseudo, batch_axes=len(batch))
        _, records = walk(program, visitor, arrays, given=given)
        parts = {i: record for i, record in records.items() if record is not None}
        # Scans add their steps in front.
        sums = (jnp.sum(part, tuple(range(part.ndim - len(batch)))) for part in parts.values())
        return sum(sums, jnp.zeros(batch)), {
            i: jnp.asarray(given[i]) for i in parts
        } if capture else {}

    def _batch(self, sites: list[Site]) -> tuple[int, ...]:
        """The lengths of the axes that hold examples."""
        count = self.batch_axes or 0
        if not count:
            return ()
        found = {site.name: mask_shape(site)[:count] for site in sites}
        if len(set(found.values())) > 1 or any(len(shape) < count for shape in found.values()):
            listed = ", ".join(f"{name} {shape}" for name, shape in found.items())
            raise ValueError(
                f"{self.procedure()} with batch_axes={count} needs the same {count} axes of "
                f"examples in front of every node's variables, got {listed}. `jax.vmap` it instead."
            )
        return next(iter(found.values()), ())


@dataclass(frozen=True, eq=False)
class _OfValues(Procedure):
    """Looks at the values where they are known: in what is compiled, they are not."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        if args:
            check_grey(self.net, args[0], args[1:], kwargs)
        return super().__call__(*args, **kwargs)


def _checked(batch_axes: int | None) -> int | None:
    if batch_axes is None:
        return None
    number = whole("batch_axes", batch_axes)
    if number < 0:
        raise ValueError(f"batch_axes is the number of axes of examples, got {number}.")
    return number


@method
class PseudoLikelihood(LogJoint):
    """Options of `pseudo_likelihood`."""

    pseudo = True


def log_joint(net: Network, *, batch_axes: int | None = None, inline: bool = False) -> Procedure:
    """The log-probability of a value for every node: the chain rule of the chain graph.

        log P(X | input) = sum_l log P(X_l | parents of X_l)

    Densities are taken with respect to the families' own measures: counting for discrete nodes, and
    for rectified Gaussians the Lebesgue measure plus a point mass at 0.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch).
        batch_axes: how many leading axes of every node hold examples, which get a number each: 1
            for a batch. 0 sums over all there is. None does so too, and warns if that looks like
            a batch.
        inline: as in `forward_sample`.

    Returns:
        `procedure(values, *args)`, a scalar, or an array of the shape of the axes of examples.
        `values` has every node's statistic by full name, noise nodes included and observed ones
        not, with a leading time axis inside `lax.scan`. It is of the nodes alone: a result that is
        a function of nodes and no node itself has no density (`chain_graph` calls it implicit).

    Raises:
        ValueError: for nodes without a value, which are listed, unknown names, values that do not
            broadcast, or nodes in a `while_loop`; for nodes without such axes of examples; where
            values are known, for one between 0 and 1 of a Bernoulli node, with what to do.
        TypeError: for a family whose probabilities have a sum that nobody can compute
            (`Grid`, `DenseGrid`): see `pseudo_likelihood`.

    Warns:
        UserWarning: when called, if batch_axes is None, all nodes have a leading axis of one
            length, and the network does to each row of its arguments what it does to one alone.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Spin(), e, name="x")
        >>> cg.log_joint(net)({"x": jnp.array([1.0, -1.0])}, jnp.zeros(2))
        Array(-1.3862944, dtype=float32)
        >>> cg.log_joint(net, batch_axes=1)({"x": jnp.ones((3, 2))}, jnp.zeros((3, 2)))
        Array([-1.3862944, -1.3862944, -1.3862944], dtype=float32)

    Source: [A] Eq. 1-3.
    """
    return intern(_OfValues(net, LogJoint(inline, _checked(batch_axes))))


def pseudo_likelihood(
    net: Network, *, batch_axes: int | None = None, inline: bool = False
) -> Procedure:
    """The log-pseudo-likelihood of a value for every node: `log_joint` without normalising sums.

        sum_l sum_i log P(X_l,i | all other elements of X_l, parents of X_l)

    over the elements i of components whose elements touch (`Grid`, `DenseGrid`). For all other
    families the term of a node is its log-probability, so that without such components the result
    is `log_joint`'s. Its maximum is a consistent estimate of the parameters; it is no likelihood,
    and is not compared between models.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch).
        batch_axes: as in `log_joint`.
        inline: as in `forward_sample`.

    Returns:
        `procedure(values, *args)`, as `log_joint`'s.

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
    return intern(_OfValues(net, PseudoLikelihood(inline, _checked(batch_axes))))
