"""The log-likelihood of a model with latent nodes, estimated by importance sampling."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax import _static
from cgjax._gaussian.numerics import root
from cgjax._procedure import Arrays, Network, Procedure, own_key
from cgjax._program import Program, Site, trace
from cgjax._static import Leaf, Tree
from cgjax._walk import walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._drawing import draw, drawing
from cgjax.inference._estimators import OF_ONE
from cgjax.inference._guides import Pair, descendants, observations, paired
from cgjax.inference._monte_carlo import Estimate, whole
from cgjax.inference._of_observed import check_pair, of_observed
from cgjax.inference._rows import warn_of_rows
from cgjax.inference._scoring import Scored, Scoring, weighted_law
from cgjax.inference._states import at_states, component
from cgjax.kernels._structures import chosen
from cgjax.kernels.random_bits import open_uniform
from cgjax.nodes import Family
from cgjax.nodes._one_hot import OneHotPositions

LogWeight = Callable[[Array], Array]


class _Sums(NamedTuple):
    """Logarithms of the sums of weights and of their squares."""

    weights: Array
    squares: Array


@dataclass(frozen=True)
class _Weighted(Scoring):
    """Draws the nodes that are not observed, and records how probable the observed ones are.

    Attributes:
        completed: nodes that are observed in part, of which the rest is drawn, given that part.
    """

    completed: frozenset[int] = frozenset()

    def draws(self, site: Site) -> bool:
        hidden = site.index not in self.scored or site.index in self.completed
        return site.kind != "observe" and hidden

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Scored | None]:
        if self.draws(site) and site.index not in self.scored:
            return family.from_words(draw()[1], e), None
        value, scored = super().visit(site, family, activation, e, draw, given)
        if site.index not in self.completed:
            return value, scored
        assert given is not None  # a part of it
        drawn = self._completed(site, family, draw()[1], given, e)
        # What was seen may be impossible: then the weight is 0, whatever follows.
        return jnp.where(jnp.isnan(drawn), activation, drawn), scored

    def _completed(self, site: Site, family: Family, words: Array, given: Array, e: Array) -> Array:
        """A sample of a node given what is known of it."""
        given = jnp.broadcast_to(given, self.handed(site))
        if isinstance(family, OneHotPositions):
            told = self.told(site, family, given, e)
            return family.from_words(words, told).astype(e.dtype)
        if (weights := self.weights(site, family, given)) is None:
            return jnp.where(jnp.isnan(given), family.from_words(words, e), given.astype(e.dtype))
        kind = component(site)
        logits = weighted_law(family, kind, weights, e)
        one_a_node = words if kind.axis is None else lax.index_in_dim(words, 0, kind.axis)
        index = chosen(logits, open_uniform(one_a_node, logits.dtype))
        return at_states(family, kind, index, site.shape)


def _by_the_model(program: Program, arrays: Arrays, observed: Leaf, procedure: str) -> LogWeight:
    """The weight of a sample of the model: how probable it makes what is observed."""
    known = observations(program, observed, procedure)
    given, below = known.all, descendants(program)
    in_part = (*known.partly, *known.weights)
    completed = frozenset(i for i in in_part if not below[i].isdisjoint(given))
    visitor = replace(_Weighted.of(known, frozenset(given)), completed=completed)

    def log_weight(key: Array) -> Array:
        records = walk(program, visitor, arrays, key=key, given=given)[1]
        return sum((jnp.sum(scored.log_prob) for scored in records.values()), jnp.zeros(()))

    return log_weight


def _by_a_guide(pair: Pair, of_model: Arrays, of_guide: Arrays) -> LogWeight:
    """The weight of a sample of the guide."""
    visitor, latent = drawing("pathwise"), {site.name for site in pair.latent}

    def log_weight(key: Array) -> Array:
        nodes = draw(pair.guide, key, of_guide, visitor)[1]
        drawn = {name: node for name, node in nodes.items() if name in latent}
        scored = pair.score(of_model, {name: node.value for name, node in drawn.items()})
        log_joint = sum((jnp.sum(node.log_prob) for node in scored.values()), jnp.zeros(()))
        return log_joint - sum((node.total() for node in drawn.values()), jnp.zeros(()))

    return log_weight


@dataclass(frozen=True)
class _LikelihoodOf:
    """The estimate as a function of a key, what is observed, and the model's arguments."""

    model: Network
    guide: Network | None
    num_samples: int
    chunk: int

    @property
    def name(self) -> str:
        return "log_likelihood"

    def __call__(self, key: Array, observed: Tree, /, *args: Tree, **kwargs: Tree) -> Estimate:
        model = trace(self.model, args, kwargs)
        warn_of_rows(self.model, model, self.name, OF_ONE, depth=2)
        of_model = _static.split((args, kwargs), numbers=True)[1]
        if self.guide is None:
            log_weight = _by_the_model(model, of_model, observed, self.name)
        else:
            guide = trace(self.guide, (observed, *args), kwargs)
            of_guide = _static.split(((observed, *args), kwargs), numbers=True)[1]
            pair = paired(model, guide, observed, self.name, analytic=False)
            log_weight = _by_a_guide(pair, of_model, of_guide)
        return self._estimate(jax.random.split(own_key(key), self.num_samples), log_weight)

    def _estimate(self, keys: Array, log_weight: LogWeight) -> Estimate:
        def sums(keys: Array) -> _Sums:
            found = jax.vmap(log_weight)(keys)
            return _Sums(jax.nn.logsumexp(found), jax.nn.logsumexp(2 * found))

        count, size = self.num_samples, min(self.chunk, self.num_samples)
        chunks = count // size
        total = sums(keys[:size])
        if chunks > 1:
            later = keys[size : chunks * size].reshape(chunks - 1, size)
            total = lax.scan(lambda t, k: (_together(t, sums(k)), None), total, later)[0]
        if count % size:
            total = _together(total, sums(keys[chunks * size :]))
        log_count = jnp.log(jnp.asarray(count, total.weights.dtype))
        # Of the logarithm of a mean: its standard error over the mean, Var[w] / E[w]^2 / count.
        spread = jnp.exp(total.squares + log_count - 2 * total.weights) - 1
        error = jnp.where(total.weights == -jnp.inf, jnp.inf, root(spread / (count - 1)))
        return Estimate(total.weights - log_count, error)


def _together(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(jnp.logaddexp(a.weights, b.weights), jnp.logaddexp(a.squares, b.squares))


def log_likelihood(
    model: Network, guide: Network | None = None, *, num_samples: int = 5000, chunk: int = 100
) -> Procedure:
    """The log-likelihood of what is observed, by importance sampling.

        log p(x) ~ log (1/S sum_s w_s),  w_s = p(x, z_s) / q(z_s | x),  z_s ~ q

    The average of the weights has no bias; its logarithm is too low, by half the square of the
    standard error. That error is known only as far as samples found where the weights are large:
    a guide that misses a part of the posterior shows a small one.

    Args:
        model: as in `elbo`.
        guide: as in `elbo`; None draws the latent nodes from the model itself, given the observed
            nodes among their parents, so that the weights are the probabilities of what is
            observed (likelihood weighting). That suits few observations. What a node that is
            observed in part leaves open is drawn given that part, where others depend on it.
        num_samples: S, at least 2.
        chunk: how many samples are computed at a time; more need more memory.

    Returns:
        `procedure(key, observed, *args) -> Estimate`, of one example: mean is the estimate of
        log p(x), and standard_error that of it. -inf and inf if all weights are 0.

    Raises:
        ValueError, TypeError: as `elbo`; for fewer than 2 samples, or a chunk below 1.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def model():
        ...     z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(()), name="z")
        ...     return cg.node(cg.nodes.Gaussian(1.0), z, name="x")
        >>> estimate = cg.log_likelihood(model)(jax.random.key(0), {"x": jnp.array(0.0)})
        >>> bool(abs(estimate.mean - -1.2655) < 5 * estimate.standard_error)  # log N(0; 0, 2)
        True

    Source: Burda, Grosse and Salakhutdinov 2016, section 5; Fung and Chang 1990 without a guide.
    """
    check_pair(model, model if guide is None else guide, num_samples, "log_likelihood")
    num_samples, chunk = whole("num_samples", num_samples), whole("chunk", chunk)
    if num_samples < 2:
        raise ValueError(f"A standard error needs at least 2 samples, got {num_samples}.")
    if chunk < 1:
        raise ValueError(f"chunk is at least 1, got {chunk}.")
    return of_observed(_LikelihoodOf(model, guide, num_samples, chunk), model)
