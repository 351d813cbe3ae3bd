"""How noisy and how biased a stochastic gradient is, estimated without bias and in bounded memory.

Let g be the gradient of the average loss of a batch of B examples, drawn with replacement from a
data set, computed with fresh noise of the weights. Of its covariance only the trace is estimated,
the sum of the variances of its elements:

    weights:  E_batch[ tr Cov[g | batch] ]                     noise of the weights alone
    total:    tr Cov[g] = weights + tr Cov[ E[g | batch] ]     that and the choice of the batch

Each pair of batches gives one unbiased estimate of either, from R draws of the noise for each
batch; estimates of several pairs are independent, so that their spread is a standard error.
Nothing but a few gradients is ever in memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# gradient(key, posterior, x, y) -> {group of parameters: tree of arrays}
Gradient = Callable[[Any, Any, Array, Array], dict[str, Any]]


class Variance(NamedTuple):
    """Independent unbiased estimates, of mean the trace of a covariance."""

    weights: Float[Array, " pairs"]
    total: Float[Array, " pairs"]


class Distance(NamedTuple):
    """Independent unbiased estimates of squared norms of expected gradients at one batch."""

    difference: Float[Array, " groups"]  # |E g - E reference|^2
    reference: Float[Array, " groups"]  # |E reference|^2


def inner(a: Any, b: Any) -> Float[Array, ""]:
    """The inner product of two trees of arrays."""
    parts = jax.tree.map(lambda u, v: jnp.vdot(u, v), a, b)
    return jnp.sum(jnp.stack(jax.tree.leaves(parts)))


def _inner(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {group: inner(a[group], b[group]) for group in a}


def _subtract(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.subtract, a, b)


def variance(
    gradient: Gradient,
    key: Key[Array, ""],
    posterior: Any,
    x: Array,
    y: Array,
    *,
    batch_size: int,
    pairs: int,
    draws: int,
) -> dict[str, Variance]:
    """The variance of a gradient.

    With batch means m_1, m_2 of R draws each, and the average s of the two sample variances, a pair
    of batches gives

        weights = s,    total = |m_1 - m_2|^2 / 2 + s (R - 1) / R.

    Args:
        gradient: `gradient(key, posterior, x, y)`, as named groups of arrays.
        key: of `jax.random`.
        posterior: where it is taken.
        x, y: the data set, examples along the leading axis.
        batch_size: the number B of examples of a batch.
        pairs: how many pairs of batches.
        draws: the number R >= 2 of draws of the noise for each batch.

    Returns:
        `Variance` by group.

    Source: [B] Figure 1 a, c, which does not define its variance; the estimator is that of a
    one-way analysis of variance with random effects.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}; the variance over draws needs at least 2.")

    def batch(key: Any) -> tuple[Any, Any]:
        """Mean of the draws, and their sample variance, by Welford's recursion: the variance of
        equal draws is exactly 0."""
        choose, noise = jax.random.split(key)
        rows = jax.random.randint(choose, (batch_size,), 0, len(x))
        some = x[rows], y[rows]

        def draw(carry: Any, counted: Any) -> Any:
            mean, squares = carry
            number, key = counted
            new = gradient(key, posterior, *some)
            delta = _subtract(new, mean)
            mean = jax.tree.map(lambda m, d: m + d / (number + 1), mean, delta)
            added = _inner(delta, _subtract(new, mean))
            return (mean, {group: squares[group] + added[group] for group in added}), None

        like = jax.eval_shape(gradient, noise, posterior, *some)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        start = zeros, {group: jnp.zeros(()) for group in like}
        counted = jnp.arange(draws), jax.random.split(noise, draws)
        (mean, squares), _ = jax.lax.scan(draw, start, counted)
        return mean, {group: s / (draws - 1) for group, s in squares.items()}

    def pair(key: Any) -> dict[str, Variance]:
        # A loop over the two, so that the gradient is compiled once.
        means, within = jax.lax.map(batch, jax.random.split(key))
        difference = jax.tree.map(lambda m: m[0] - m[1], means)
        between = _inner(difference, difference)
        out = {}
        for group, each in within.items():
            own = each.mean()
            out[group] = Variance(own, between[group] / 2 + own * (draws - 1) / draws)
        return out

    return jax.lax.map(pair, jax.random.split(key, pairs))


class Source(NamedTuple):
    """A gradient to compare, and whether it depends on its key; if not, it is computed once."""

    gradient: Gradient
    random: bool


def distances(
    sources: dict[str, Source],
    reference: Gradient,
    key: Key[Array, ""],
    posterior: Any,
    x: Array,
    y: Array,
    *,
    draws: int,
    groups: int,
) -> dict[str, dict[str, Distance]]:
    """How far the expectations of gradients are from that of another one, at one batch.

    For independent draws d_1 .. d_M of a difference, (|sum d|^2 - sum |d|^2) / (M (M - 1)) is an
    unbiased estimate of |E d|^2: what noise adds to the norm of an average is taken off. Estimates
    may therefore be below 0.

    Args:
        sources: the gradients, by name.
        reference: another one, as for `variance`; all are compared with the same draws of it.
        key: of `jax.random`.
        posterior: where they are taken.
        x, y: the batch.
        draws: the number M >= 2 of draws of each estimate.
        groups: the number of estimates.

    Returns:
        `Distance` by name and by group of parameters.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}; the correction for noise needs at least 2.")
    fixed = {
        name: source.gradient(key, posterior, x, y)
        for name, source in sources.items()
        if not source.random
    }

    def draw(carry: Any, key: Any) -> Any:
        first, second = jax.random.split(key)
        true = reference(second, posterior, x, y)
        seen = {"reference": true}
        for number, (name, source) in enumerate(sources.items()):
            own = fixed.get(name)
            if own is None:
                own = source.gradient(jax.random.fold_in(first, number), posterior, x, y)
            seen[f"of {name}"] = _subtract(own, true)
        sums, squares = carry
        sums = jax.tree.map(jnp.add, sums, seen)
        squares = jax.tree.map(jnp.add, squares, {what: _inner(d, d) for what, d in seen.items()})
        return (sums, squares), None

    def one(key: Any) -> dict[str, dict[str, Distance]]:
        like = jax.eval_shape(reference, key, posterior, x, y)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        none = {group: jnp.zeros(()) for group in like}
        names = ["reference", *(f"of {name}" for name in sources)]
        start = dict.fromkeys(names, zeros), dict.fromkeys(names, none)
        carry: Any = jax.lax.scan(draw, start, jax.random.split(key, draws))[0]
        sums, squares = carry

        def unbiased(what: str, group: str) -> Array:
            whole = inner(sums[what][group], sums[what][group])
            return (whole - squares[what][group]) / (draws * (draws - 1))

        return {
            name: {
                group: Distance(unbiased(f"of {name}", group), unbiased("reference", group))
                for group in like
            }
            for name in sources
        }

    return jax.lax.map(one, jax.random.split(key, groups))
