"""The ELBO without samples: moments of the guide's nodes, through the model."""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from cgjax import _static
from cgjax._of_beliefs import Moments, OfBeliefs, checked_options, is_belief
from cgjax._procedure import Arrays, Network, Procedure, check_network, named
from cgjax._program import Site, parents, trace
from cgjax._static import Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._drawing import Drawn
from cgjax.inference._estimators import OF_ONE, Bound
from cgjax.inference._guides import Pair, descendants, paired
from cgjax.inference._of_observed import check_word, expected_of_observed
from cgjax.inference._rows import warn_of_rows
from cgjax.inference._scoring import Natural
from cgjax.nodes import Belief, Family, Gaussian, GaussianMask

Covariance = Literal["linear", "none"]


class _Proposal(NamedTuple):
    """What a guide says of a node: as if its mean had been drawn, with -entropy for log q."""

    drawn: Drawn
    variance: Array


@dataclass(frozen=True)
class _Proposing(Visitor):
    """Records the mean and the variance of every node, which no other one depends on."""

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, _Proposal | None]:
        if site.kind == "observe":
            return activation, None
        mean, one = family.mean(e), jnp.ones((), jnp.promote_types(site.dtype, jnp.float32))
        arrays = tuple(_static.split(family)[1])
        drawn = Drawn(mean, -jnp.sum(family.entropy(e)), one, e, arrays)
        return activation, _Proposal(drawn, family.variance(e))


@dataclass(frozen=True)
class _ExpectedBoundOf:
    """The expectation as a function of what is observed, and the model's arguments."""

    model: Network
    guide: Network
    options: Moments
    covariance: Covariance

    @property
    def name(self) -> str:
        return "deterministic_elbo"

    def __call__(self, observed: Tree, /, *args: Tree, **kwargs: Tree) -> Bound:
        model, guide = trace(self.model, args, kwargs), trace(self.guide, (observed, *args), kwargs)
        warn_of_rows(self.model, model, self.name, OF_ONE, depth=2)
        pair = paired(model, guide, observed, self.name, analytic=True, read=False)
        _check_proposals(pair, self.name)
        _check_observed(pair, self.name)
        pair = replace(pair, analytic=pair.analytic & _with_known_prior(pair))
        of_model = _static.split((args, kwargs), numbers=True)[1]
        of_guide = _static.split(((observed, *args), kwargs), numbers=True)[1]
        proposals = named(guide, walk(guide, _Proposing(), of_guide)[1])
        drawn = {site.name: proposals[site.name].drawn for site in pair.latent}
        divergences = self._divergences(pair, of_model, drawn)
        _check_moments(pair, drawn.keys() - divergences.keys(), self.name)
        log_p = self._expected(pair, of_model, proposals, without=divergences.keys())
        log_q = {name: node.total() for name, node in drawn.items()}
        costs = [
            divergences[name] if name in divergences else log_q[name] - log_p[name]
            for name in drawn
        ]
        kl = sum(costs, jnp.zeros(()))
        value = sum((p for name, p in log_p.items() if name not in drawn), jnp.zeros(())) - kl
        total = sum(log_q.values(), jnp.zeros(()))
        return Bound(value, kl, (value + total)[None], total[None])

    def _expected(
        self, pair: Pair, of_model: Arrays, proposals: dict[str, _Proposal], without: Set[str]
    ) -> dict[str, Array]:
        """The expected log-probability of each node that has a value, but for some."""

        def natural(latent: dict[str, Array], arrays: Arrays) -> dict[str, Natural]:
            found = pair.natural(arrays, latent)
            return {name: node for name, node in found.items() if name not in without}

        def score(
            natural: dict[str, Natural], latent: dict[str, Array], arrays: Arrays
        ) -> dict[str, Array]:
            return {name: pair.log_prob(name, node, latent) for name, node in natural.items()}

        latent = {
            site.name: Belief(proposals[site.name].drawn.value, proposals[site.name].variance)
            for site in pair.latent
        }
        laws = OfBeliefs(natural, self.options)
        if self.covariance == "none":
            believed = laws(latent, list(of_model))
        else:
            believed = _linear(lambda latent: laws(latent, list(of_model)), latent)
        found = OfBeliefs(score, self.options)(believed, latent, list(of_model))
        return {name: belief.mean for name, belief in found.items()}

    def _divergences(
        self, pair: Pair, of_model: Arrays, drawn: dict[str, Drawn]
    ) -> dict[str, Array]:
        means = {name: node.value for name, node in drawn.items()}
        return pair.divergences(drawn, pair.score(of_model, means)) if pair.analytic else {}


def _linear(through: Callable[[Tree], Tree], latent: dict[str, Belief]) -> Tree:
    """The mean that moments give, and the variance of what is linear in the latent nodes.

    By Stein's lemma, Cov(y, z_k) = Var(z_k) E[dy/dz_k] = Var(z_k) dE[y]/dE[z_k] of a function y of
    independent Gaussian z. So the variance of its best linear fit is the sum over k of
    Var(z_k) (dE[y]/dE[z_k])^2.
    """
    means, unravel = ravel_pytree({name: belief.mean for name, belief in latent.items()})
    variances = ravel_pytree({name: belief.variance for name, belief in latent.items()})[0]

    def mean_of(flat: Array) -> Tree:
        beliefs = {n: Belief(m, latent[n].variance) for n, m in unravel(flat).items()}
        found = through(beliefs)
        return jax.tree.map(lambda belief: belief.mean, found, is_leaf=is_belief)

    mean, along = jax.linearize(mean_of, means)
    slopes = jax.vmap(along)(jnp.eye(len(means), dtype=means.dtype))
    return jax.tree.map(
        lambda m, slope: Belief(m, jnp.tensordot(variances, slope**2, 1)), mean, slopes
    )


def _check_proposals(pair: Pair, procedure: str) -> None:
    below = descendants(pair.guide)
    for site in pair.latent:
        if site.family_type.touching is not None:
            raise TypeError(
                f"{procedure}: the guide's node {site.name!r} is a {site.family_type.__name__}, "
                "whose elements depend on each other; moments are those of independent ones. Use "
                "`cgjax.elbo`, which draws samples."
            )
        if below[site.index]:
            after = ", ".join(pair.guide.sites[k].name for k in sorted(below[site.index]))
            raise ValueError(
                f"{procedure}: in the guide, {after} depends on {site.name}. Its nodes must be "
                "independent of each other, given what is observed; for others use `cgjax.elbo`, "
                "which draws samples."
            )


def _check_observed(pair: Pair, procedure: str) -> None:
    for site in (pair.model.sites[index] for index in pair.observed.all):
        if site.family_type.touching is not None:
            raise TypeError(
                f"{procedure}: the observed node {site.name!r} is a {site.family_type.__name__}, "
                "whose elements depend on each other; the expectation of its log-probability does "
                "not follow from moments of its natural parameter. Use `cgjax.elbo`, which draws "
                "samples."
            )


def _check_moments(pair: Pair, names: Set[str], procedure: str) -> None:
    """Of a Gaussian, the log-density is a square of its value, whose mean moments tell."""
    for name in sorted(names):
        family = pair.model.by_name[name].family_type
        if not issubclass(family, Gaussian | GaussianMask):
            raise TypeError(
                f"{procedure}: the expected log-probability of the latent node {name!r}, a "
                f"{family.__name__}, does not follow from its mean and variance, and there is no "
                "divergence in closed form: the guide's family is "
                f"{pair.guide.by_name[name].family_type.__name__}, or the model's node depends on "
                "other latent ones. Use `cgjax.elbo`, which draws samples."
            )


def _with_known_prior(pair: Pair) -> set[str]:
    """The latent nodes whose natural parameter in the model depends on no other latent one."""
    above, by_name = parents(pair.model, deciding=True)[0], pair.model.by_name
    latent = {by_name[site.name].index for site in pair.latent}
    return {
        site.name
        for site in pair.latent
        if latent.isdisjoint(index for index, _ in above[by_name[site.name].index])
    }


def deterministic_elbo(
    model: Network,
    guide: Network,
    *,
    covariance: Covariance = "linear",
    order: Literal[1, 2] = 2,
    first_order: Iterable[str] = (),
) -> Procedure:
    """The evidence lower bound of a model with latent nodes, by moments in place of samples.

        E_q[log p(x | z)] - KL(q(z | x) || p(z)),    z ~ q with its mean and variance

    The mean and the variance of every node of the guide go through the model as `moments` does it,
    and the log-probability of what is observed is integrated over the natural parameter that
    arrives, which is taken as Gaussian. So the value has no noise, and neither has its gradient.

    It is exact where the model is linear in Gaussian nodes. Elsewhere it is an approximation of
    the ELBO, which may be above log p(x): measure with `elbo` what a model has learnt by it.

    Args:
        model, guide: as in `elbo`. The guide's nodes are independent of each other, given what is
            observed; those of the model may depend on each other.
        covariance: hidden units that see the same latent node depend on each other, which decides
            how uncertain the natural parameter is. "linear" has the variance of its best linear fit
            to the latent nodes, sum_k Var(z_k) (dE[e]/dE[z_k])^2, at the cost of a forward pass for
            each of their elements; what is not linear is left out. "none" takes the variance of
            `moments`, in which the inputs of every product are independent: it may be far off, and
            is exact for a function of one number.
        order, first_order: as in `moments`.

    Returns:
        `procedure(observed, *args) -> Bound`, of one example, without a key; `jax.vmap` for a
        batch. `log_q` is minus the guide's entropy, and `log_joint` the expected one, (1,) both.

    Raises:
        ValueError: as `elbo`; for another covariance or order; when called, if nodes of the guide
            depend on each other.
        TypeError: as `elbo`; when called, for a family of the guide without an entropy in closed
            form; for elements that touch, proposed or observed; for latent nodes that are not
            Gaussian and depend on other ones in the model; for an operation without a rule for
            moments, which is named.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def model(weight):
        ...     z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        ...     return cg.node(cg.nodes.Bernoulli(), weight @ jnp.tanh(z), name="x")
        >>> def guide(observed, weight):
        ...     mean = 0.5 * weight.T @ observed["x"]
        ...     return cg.node(cg.nodes.Gaussian(0.6), mean, name="z")
        >>> bound = cg.deterministic_elbo(model, guide)({"x": jnp.ones(3)}, jnp.ones((3, 2)))
        >>> bound.value.round(2), bound.kl.round(2)
        (Array(-3.15, dtype=float32), Array(2.63, dtype=float32))

    Source: Kingma and Welling 2014; [B] section 2, Eq. 3-5.
    """
    check_network(model, "deterministic_elbo")
    check_network(guide, "deterministic_elbo")
    check_word("deterministic_elbo", "covariance", covariance, get_args(Covariance))
    options = checked_options("collapsed", order, True, first_order)
    return expected_of_observed(_ExpectedBoundOf(model, guide, options, covariance), model)
