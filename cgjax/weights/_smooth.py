"""What a network's nodes are believed to be once a target is seen: smoothing ([B] Eq. 6-7).

The forward pass of `moments` gives the filtered beliefs, the backward pass the smoothed ones. The
mean is the gradient form of Theorem 1, x_{l|L} = x_l - P_l dJ/dx_l. The variance is computed as
P_{l|L} = P^1/2 T T^T P^1/2, a sum of squares, from the square root T of

    T T^T = (I + B^T B)^-1,    B = information^1/2 (derivative of the outputs) P^1/2,

so it is positive by construction. (The difference forms P_l - …, and the element-wise recursion
of [B] Algorithm 1, are not; the gain form divides by P_l, which is 0 at a dead unit.)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from cgjax import _beliefs as beliefs
from cgjax._functional import output_of
from cgjax._gaussian.numerics import root, wide
from cgjax._of_beliefs import OfBeliefs, checked_options
from cgjax._procedure import (
    Arrays,
    Method,
    Network,
    Procedure,
    Result,
    check_capture,
    intern,
    method,
)
from cgjax._program import Program
from cgjax._static import Tree
from cgjax._walk import Records, walk
from cgjax.nodes import Belief
from cgjax.weights._deterministic import check_jacobian
from cgjax.weights._heads import GaussianHead, Head
from cgjax.weights._smoothing import (
    Shifted,
    belief_like,
    check_examples,
    check_floating,
    derivatives,
    half_information,
    kept_variance,
)


class SmoothedNodes(NamedTuple):
    """What is believed about the nodes of a network before and after its targets are seen.

    Attributes:
        prior: for each node, by name, the filtered belief about its statistic.
        posterior: the smoothed belief.
        output: the filtered belief about the network's outputs.
    """

    prior: dict[str, Belief]
    posterior: dict[str, Belief]
    output: Belief

    def innovations(self) -> dict[str, Float[Array, "..."]]:
        """x_{l|L} - x_l for each node: how far the targets move its mean."""
        return {name: self.posterior[name].mean - self.prior[name].mean for name in self.prior}


@method
class Smooth(Method):
    """Options of `smooth`."""

    lead: ClassVar[str | None] = "targets"

    head: Head
    covariance: Literal["diagonal", "full"]
    jacobian: Literal["exact", "frozen"]
    nodes: Literal["collapsed", "random"]
    order: int
    positions: bool
    first_order: frozenset[str]

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        if not program.sites:
            raise ValueError(
                "The network has no nodes to smooth. Mark the values of interest with "
                '`cgjax.node(family, e, name="…")`, or let `cgjax.lift` mark its activations.'
            )
        check_capture(program)
        if program.out_tree != jax.tree.structure(0):
            raise TypeError(
                "smooth takes a network that returns one array, what the likelihood is of; this "
                f"one returns {program.out_tree}."
            )
        check_floating(program.result_dtypes[0])
        run = self.diagonal if self.covariance == "diagonal" else self.full
        prior, posterior, output = run(program, lead, arrays)

        def named(parts: Records) -> dict[str, Belief]:
            return {site.name: parts[site.index] for site in program.sites}

        return SmoothedNodes(named(prior), named(posterior), output), {}

    # -- the elements of every layer taken as independent

    def diagonal(
        self, program: Program, y: Array, arrays: Arrays
    ) -> tuple[Records, Records, Belief]:
        visitor = beliefs.Beliefs(
            True,
            nodes=self.nodes,
            order=self.order,
            positions=self.positions,
            first_order=self.first_order,
        )

        check_examples(program.sites, program.result_shapes[0])

        def forward(shifts: Records) -> tuple[Belief, Records]:
            result, records = beliefs.propagate(program, visitor, arrays, shifts)
            return result, records

        shifts = {s.index: jnp.zeros(s.stacked_shape, s.dtype) for s in program.sites}
        output, pull, prior = jax.vjp(forward, shifts, has_aux=True)
        by_output = jax.grad(lambda output: self.head.marginal_nll(output, y).sum())(output)
        if self.jacobian == "frozen":
            # To first order the variances depend on the means through the Jacobians alone.
            by_output = Belief(by_output.mean, jnp.zeros_like(by_output.variance))
        (by_mean,) = pull(by_output)

        examples, *inner = output.mean.shape
        number = output.mean[0].size
        basis = jnp.eye(number, dtype=output.mean.dtype)
        seeds = jnp.broadcast_to(basis.reshape(number, 1, *inner), (number, examples, *inner))
        # The rows of a batch depend on their own outputs only, so one seed serves all examples.
        (sensitivity,) = jax.vmap(lambda s: pull(Belief(s, jnp.zeros_like(s))))(seeds)
        half = half_information(self.head, output.mean)
        spread = wide(output.variance).reshape(examples, number)

        posterior = {}
        for site in program.sites:
            before, axis = prior[site.index], len(site.lengths)
            variance = wide(before.variance)
            by_example = jnp.moveaxis(variance, axis, 0)
            loading = jnp.moveaxis(wide(sensitivity[site.index]), axis + 1, 0)
            loading = loading.reshape(examples, number, -1)
            loading = loading * root(by_example.reshape(examples, 1, -1))
            kept = kept_variance(half, loading, spread).reshape(by_example.shape)
            posterior[site.index] = belief_like(
                before,
                wide(before.mean) - variance * by_mean[site.index],
                variance * jnp.moveaxis(kept, 0, axis),
            )
        return prior, posterior, output

    # -- the linearised network, with all covariances

    def full(self, program: Program, y: Array, arrays: Arrays) -> tuple[Records, Records, Belief]:
        visitor = Shifted(capture=True, inline=True, random=self.nodes == "random")
        means = [x.mean if isinstance(x, Belief) else x for x in arrays]
        uncertain = {i: x for i, x in enumerate(arrays) if isinstance(x, Belief)}
        random = [s for s in program.sites if visitor.changes(s)]

        def forward(standard: Records, shifts: Records) -> tuple[tuple[Array, Records], Records]:
            """Outputs and statistics, as functions of independent standard Gaussians."""
            moved = list(means)
            for i, x in uncertain.items():
                moved[i] = x.mean + root(x.variance) * standard[i]
            result, records = walk(program, visitor, moved, given=shifts)
            statistics = {i: r[0] for i, r in records.items()}
            return (result, statistics), {i: r[1] for i, r in records.items()}

        zeros = {i: jnp.zeros_like(x.mean) for i, x in uncertain.items()}
        still = {s.index: jnp.zeros(s.stacked_shape, s.dtype) for s in random}
        (mean, statistics), own = forward(zeros, still)
        deviation = {s.index: root(own[s.index]) for s in random}

        def of_roots(roots: tuple[Records, Records]) -> list[Array]:
            standard, noise = roots
            shifts = {i: deviation[i] * n for i, n in noise.items()}
            (out, nodes), _ = forward(standard, shifts)
            return [out, *(nodes[s.index] for s in program.sites)]

        loadings = derivatives(of_roots, (zeros, still))
        outputs, *of_nodes = loadings
        half = half_information(self.head, mean[None])[0]
        scaled = half @ outputs
        square = scaled @ scaled.T
        lower = jnp.linalg.cholesky(jnp.eye(len(square)) + square)

        def loss(f: Array) -> Array:
            return self.head.expected_nll(Belief(f, jnp.zeros_like(f)), y).sum()

        score = -wide(jax.grad(loss)(mean)).reshape(-1)
        # (I + A^T L A)^-1 A^T = A^T (I + L A A^T)^-1, in which nothing cancels for small noise.
        system = jnp.eye(len(score)) + half.T @ (scaled @ outputs.T)
        standard = outputs.T @ jnp.linalg.solve(system, score)
        prior, posterior = {}, {}
        for site, loading in zip(program.sites, of_nodes, strict=True):
            centre = statistics[site.index]
            before = belief_like(centre, centre, (loading**2).sum(-1).reshape(centre.shape))
            inner = solve_triangular(lower, scaled @ loading.T, lower=True)
            inner = solve_triangular(lower + jnp.eye(len(lower)), inner, lower=True, trans=1)
            left = loading - inner.T @ scaled
            prior[site.index] = before
            posterior[site.index] = belief_like(
                centre,
                wide(centre) + (loading @ standard).reshape(centre.shape),
                (left**2).sum(-1).reshape(centre.shape),
            )
        spread = (outputs**2).sum(-1).reshape(mean.shape)
        return prior, posterior, belief_like(mean, mean, spread)


def smooth(
    f: Network,
    head: Head | None = None,
    *,
    covariance: Literal["diagonal", "full"] = "diagonal",
    jacobian: Literal["exact", "frozen"] = "exact",
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
) -> Callable[..., SmoothedNodes]:
    """What all nodes are believed to be once the targets are seen, from one backward pass.

        mean:      x_{l|L} = x_l - P_l dJ/dx_l,    J = -log p(y)
        variance:  P_{l|L} = (P_l^-1 + A^T N^-1 A)^-1

    where A is the derivative of the outputs by the node's elements, and N what the targets vary by
    beside it. The variance is computed as a sum of squares, so it lies between 0 and P_l whatever
    the network, and a node that is known exactly stays as it is.

    `covariance="diagonal"` is the scalable form of [B] Algorithm 1: forward beliefs are those of
    `moments`, and all elements count as independent. One backward pass serves a batch, with as many
    seeds as an example has outputs. It is exact for a node of independent elements whose outputs
    are one product of them with known weights, and noise that is independent between outputs: the
    variance for any number of outputs, the mean for one (or if no two share an element). So it is
    for the hidden layer of a network with one, below one output. In deeper networks the
    correlations that it drops make it an approximation.

    `covariance="full"` linearises the network at the means ([B] Eq. 3) and conditions on the
    targets with all covariances, through skip connections and shared weights: the Kalman smoother,
    exact for every network that is affine in what is uncertain, and for others to first order in
    the variances. It needs the derivatives of all nodes by all uncertain numbers, and
    takes one example: all targets of a call are one joint observation (`jax.vmap` for a batch).

    Both hold for Gaussian noise. With `CategoricalHead` the mean of "diagonal" is the gradient of
    the marginal likelihood, and information is that of the logits at their mean.

    Args:
        f: a network `f(params, *args)` that returns one array, or a function of
            `cgjax.functional`, whose state then follows the posterior.
        head: the likelihood of the targets; by default `GaussianHead()`, with noise of variance 1.
        covariance: "diagonal" or "full".
        jacobian: "exact", or "frozen" for the recursion as [B] prints it, whose gradients take
            Jacobians as constants; with `order=1`. "full" takes them so in any case.
        nodes: whether nodes are "collapsed" into their activations, or "random", with noise of
            their own, as for `cgjax.moments`.
        order, positions, first_order: of the forward pass of "diagonal", as for `cgjax.moments`.

    Returns:
        `procedure(posterior, *args, y) -> SmoothedNodes`; y are the targets, of the outputs' shape,
        or integer labels. With "diagonal", outputs and nodes have a leading axis of examples.

    Raises:
        ValueError: another value of an option; when called, a network without nodes, a node in a
            `while_loop` or without the examples' axis, targets of another shape.
        TypeError: when called, a network that returns more than one array.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def f(params, x):
        ...     h = cg.node(cg.nodes.Gaussian(1.0), x @ params["w"], name="hidden")
        ...     return h.sum(-1)
        >>> posterior = {"w": cg.Belief(jnp.zeros((1, 2)), jnp.array([[1.0, 2.0]]))}
        >>> seen = cg.weights.smooth(f)(posterior, jnp.ones((1, 1)), jnp.array([4.0]))
        >>> print(seen.prior["hidden"].variance, seen.innovations()["hidden"])
        [[1. 2.]] [[1. 2.]]
        >>> print(seen.posterior["hidden"].variance)
        [[0.75 1.  ]]

    Source: [B] Eq. 6-8, Theorem 1, Algorithm 1; corrected where the print is wrong.
    """
    checked_options(nodes, order, positions, first_order)
    if covariance not in ("diagonal", "full"):
        raise ValueError(f'covariance is "diagonal" or "full", got {covariance!r}.')
    check_jacobian(jacobian, order if covariance == "diagonal" else 1)
    net = output_of(f) if getattr(f, "returns_state", False) else f
    head = GaussianHead() if head is None else head
    options = (covariance, jacobian, nodes, order, bool(positions), frozenset(first_order))
    return intern(_Smoother(net, Smooth(head, *options)))


@dataclass(frozen=True, eq=False)
class _Smoother(OfBeliefs):
    """`smooth` of one network."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> SmoothedNodes:
        if len(args) < 2:
            raise TypeError(
                "smooth(f) is called with the arguments of f and, last, the targets: "
                f"`smooth(f)(posterior, …, y)`; got {len(args)} arguments."
            )
        *inputs, y = args
        call = super().__call__
        return call(jnp.asarray(y), *inputs, **kwargs)

    def with_nodes(self) -> Procedure:
        """Not needed: the result is the nodes."""
        raise TypeError("smooth returns what is believed about the nodes already.")
