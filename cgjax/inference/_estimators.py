"""What bounds compute: samples of a guide, their weights under a model, derivatives."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax import _static
from cgjax._procedure import Arrays, Network, own_key
from cgjax._program import trace
from cgjax._static import Tree
from cgjax.inference._drawing import Drawn, draw, drawing
from cgjax.inference._guides import Pair, paired
from cgjax.inference._rows import warn_of_rows
from cgjax.inference._scoring import Scored

Gradient = Literal["pathwise", "straight_through", "doubly_reparameterised", "vimco"]


OF_ONE = "The logarithm belongs inside the sum over examples: `jax.vmap` it over rows."


class Bound(NamedTuple):
    """An estimate of a lower bound on log p(observed), and what it is made of.

    Attributes:
        value: the estimate, a scalar; its derivative is the estimate of the bound's gradient.
        kl: the part that the latent nodes cost, KL(guide || model's conditionals): in closed form
            where it is, else the average of log q - log p over the samples.
        log_joint: log p(observed, latent) of each sample, (num_samples,).
        log_q: the guide's log-probability of each sample, (num_samples,).
    """

    value: Float[Array, ""]
    kl: Float[Array, ""]
    log_joint: Float[Array, " num_samples"]
    log_q: Float[Array, " num_samples"]

    @property
    def log_weights(self) -> Float[Array, " num_samples"]:
        """The importance weight of each sample, log_joint - log_q, (num_samples,)."""
        return self.log_joint - self.log_q


@dataclass(frozen=True)
class _Samples:
    """What the guide drew, and what the model says of it, with one row for each sample."""

    drawn: dict[str, Drawn]
    scored: dict[str, Scored]
    log_q: dict[str, Array]
    log_p: dict[str, Array]
    kl: dict[str, Array]

    @property
    def log_joint(self) -> Array:
        return sum(self.log_p.values(), jnp.zeros(()))

    @property
    def total_log_q(self) -> Array:
        return sum(self.log_q.values(), jnp.zeros(()))

    @property
    def cost(self) -> Array:
        """log q - log p of the latent nodes, or its expectation, for each sample."""
        terms = [self.kl.get(n, log_q - self.log_p[n]) for n, log_q in self.log_q.items()]
        return sum(terms, jnp.zeros(()))

    @property
    def log_likelihood(self) -> Array:
        """log p of the observed nodes given the latent ones, for each sample."""
        observed = (log_p for name, log_p in self.log_p.items() if name not in self.log_q)
        return sum(observed, jnp.zeros(()))


@dataclass(frozen=True)
class BoundOf:
    """A bound as a function of a key, what is observed, and the model's arguments."""

    model: Network
    guide: Network
    num_samples: int
    gradient: Gradient
    importance: bool
    analytic: bool

    @property
    def name(self) -> str:
        return "importance_weighted" if self.importance else "elbo"

    def __call__(self, key: Array, observed: Tree, /, *args: Tree, **kwargs: Tree) -> Bound:
        model, guide = trace(self.model, args, kwargs), trace(self.guide, (observed, *args), kwargs)
        warn_of_rows(self.model, model, self.name, OF_ONE, depth=2)
        pair = paired(model, guide, observed, self.name, analytic=self.analytic)
        self._check_gradient(pair)
        of_model = _static.split((args, kwargs), numbers=True)[1]
        of_guide = _static.split(((observed, *args), kwargs), numbers=True)[1]
        samples = self._samples(pair, own_key(key), of_model, of_guide)
        kl = jnp.mean(jnp.broadcast_to(samples.cost, (self.num_samples,)))
        count = (self.num_samples,)
        log_joint, log_q = (
            jnp.broadcast_to(x, count) for x in (samples.log_joint, samples.total_log_q)
        )
        if not self.importance:
            value = self._average(pair, samples)
        elif self.gradient == "doubly_reparameterised":
            value = _doubly_reparameterised(pair, samples, of_model, of_guide)
        else:
            value = log_mean_exp(log_joint - log_q)
            if self.gradient == "vimco":
                value += _score(_signals(log_joint - log_q), _without_derivative(pair, samples))
        return Bound(value, kl, log_joint, log_q)

    def _samples(self, pair: Pair, key: Array, of_model: Arrays, of_guide: Arrays) -> _Samples:
        estimator = "straight_through" if self.gradient == "straight_through" else "pathwise"
        visitor = drawing(estimator, pair.of_guide(pair.analytic))
        latent = {site.name for site in pair.latent}

        def one(key: Array) -> dict[str, Drawn]:
            nodes = draw(pair.guide, key, of_guide, visitor)[1]
            return {name: drawn for name, drawn in nodes.items() if name in latent}

        drawn = jax.vmap(one)(jax.random.split(key, self.num_samples))
        values = {name: node.value for name, node in drawn.items()}
        count = self.num_samples if not values else None  # nothing to map over
        scored = jax.vmap(lambda v: pair.score(of_model, v), axis_size=count)(values)
        log_p = {name: _total(node.log_prob) for name, node in scored.items()}
        log_q = {name: jax.vmap(Drawn.total)(node) for name, node in drawn.items()}
        proposed = {name: drawn[name] for name in pair.analytic}
        prior = {name: scored[name] for name in pair.analytic}
        kl = jax.vmap(pair.divergences)(proposed, prior) if proposed else {}
        return _Samples(drawn, scored, log_q, log_p, kl)

    def _average(self, pair: Pair, samples: _Samples) -> Array:
        each = jnp.broadcast_to(samples.log_likelihood - samples.cost, (self.num_samples,))
        value = jnp.mean(each)
        if self.gradient == "straight_through":
            return value
        # What one sample tells of the others is no reason to prefer it: a baseline.
        count = self.num_samples
        others = (jnp.sum(each) - each) / max(count - 1, 1)
        return value + _score(each - others, _without_derivative(pair, samples)) / count

    def _check_gradient(self, pair: Pair) -> None:
        flat = [s.name for s in pair.latent if not s.family_type.reparameterised]
        if self.importance and flat and self.gradient != "vimco":
            raise ValueError(
                f"importance_weighted: samples of {', '.join(flat)} have no derivative, so that "
                f'gradient="{self.gradient}" would leave out what the guide\'s parameters do to '
                'them. Use gradient="vimco".'
            )


def _total(log_prob: Array) -> Array:
    """The sum over all axes but the one of samples."""
    return jnp.sum(log_prob, tuple(range(1, log_prob.ndim)))


def _without_derivative(pair: Pair, samples: _Samples) -> Array | None:
    """The guide's log-probability of the nodes whose samples pass no derivative, if any."""
    names = [s.name for s in pair.latent if not s.family_type.reparameterised]
    return sum((samples.log_q[name] for name in names), jnp.zeros(())) if names else None


def _score(signals: Array, log_q: Array | None) -> Array:
    """0, with the derivative sum_k signal_k d log q_k."""
    if log_q is None:
        return jnp.zeros(())
    signals = jax.lax.stop_gradient(jnp.where(jnp.isfinite(signals), signals, 0))
    return jnp.sum(signals * (log_q - jax.lax.stop_gradient(log_q)))


def log_mean_exp(log_weights: Float[Array, " num_samples"]) -> Float[Array, ""]:
    """log of the average weight; -inf, with a gradient of zero, if all are 0."""
    top = jax.lax.stop_gradient(jnp.max(log_weights))
    none = top == -jnp.inf
    shifted = jnp.where(none, 0, log_weights - jnp.where(none, 0, top))
    return jnp.where(none, -jnp.inf, jnp.log(jnp.mean(jnp.exp(shifted))) + top)


def _signals(log_weights: Array) -> Array:
    """The bound less the bound in which a sample's weight is the geometric mean of the others'.

    Source: Mnih and Rezende, "Variational inference for Monte Carlo objectives", 2016.
    """
    count = log_weights.shape[0]
    others = (jnp.sum(log_weights) - log_weights) / (count - 1)
    replaced = jnp.where(jnp.eye(count, dtype=bool), others[:, None], log_weights[None, :])
    return log_mean_exp(log_weights) - jax.vmap(log_mean_exp)(replaced)


def _doubly_reparameterised(
    pair: Pair, samples: _Samples, of_model: Arrays, of_guide: Arrays
) -> Array:
    """The bound, with sum_k w_k^2 (d log w_k / d z_k) dz_k as the derivative through samples.

    Source: Tucker et al., "Doubly reparameterized gradient estimators", 2019.
    """
    values = {name: drawn.value for name, drawn in samples.drawn.items()}
    fixed = jax.lax.stop_gradient(values)

    def one(latent: dict[str, Array]) -> Array:
        scored = pair.score(of_model, latent).values()
        log_joint = sum((jnp.sum(node.log_prob) for node in scored), jnp.zeros(()))
        return log_joint - pair.fixed_log_prob(of_guide, latent)

    log_weights, pull = jax.vjp(jax.vmap(one), fixed)
    shares = jax.lax.stop_gradient(jax.nn.softmax(log_weights))
    slopes = jax.lax.stop_gradient(pull(shares**2)[0])
    through = jax.tree.map(lambda s, z, at: jnp.sum(s * (z - at)), slopes, values, fixed)
    return log_mean_exp(log_weights) + sum(jax.tree.leaves(through), jnp.zeros(()))
