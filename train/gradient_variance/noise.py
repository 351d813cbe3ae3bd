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

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# gradient(key, ...) -> {group of parameters: tree of arrays}
Gradient = Callable[..., dict[str, Any]]


class Variance(NamedTuple):
    """Independent unbiased estimates, of mean the trace of a covariance."""

    weights: Float[Array, " pairs"]
    total: Float[Array, " pairs"]


class Distance(NamedTuple):
    """Independent unbiased estimates of squared norms of expected gradients at one batch."""

    difference: Float[Array, " groups"]  # |E g - E reference|^2
    reference: Float[Array, " groups"]  # |E reference|^2


class Source(NamedTuple):
    """A gradient, and whether it depends on its key; if not, it need not be computed anew."""

    gradient: Gradient
    random: bool


_subtract = functools.partial(jax.tree.map, jnp.subtract)
_zeros = functools.partial(jax.tree.map, jnp.zeros_like)


def _inner(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Array]:
    """The inner product of two gradients, by group."""
    products = {group: jax.tree.leaves(jax.tree.map(jnp.vdot, a[group], b[group])) for group in a}
    return {group: jnp.sum(jnp.stack(parts)) for group, parts in products.items()}


def variance(
    gradient: Gradient, key: Any, x: Array, y: Array, *, batch_size: int, pairs: int, draws: int
) -> dict[str, Variance]:
    """The variance of `gradient(key, x, y)`, by its named groups of arrays, for batches of B =
    `batch_size` examples of a data set x, y.

    With batch means m_1, m_2 of R = `draws` >= 2 draws of the noise each, and the average s of the
    two sample variances, a pair of batches gives

        weights = s,    total = |m_1 - m_2|^2 / 2 + s (R - 1) / R.

    Source: [B] Figure 1 a, c, which does not define its variance; the estimator is that of a
    one-way analysis of variance with random effects.
    """

    def batch(key: Any) -> tuple[Any, Any]:
        """Mean of the draws, and their sample variance, by Welford's recursion: the variance of
        equal draws is exactly 0."""
        choose, noise = jax.random.split(key)
        rows = jax.random.randint(choose, (batch_size,), 0, len(x))
        some = x[rows], y[rows]

        def draw(carry: Any, counted: Any) -> Any:
            mean, squares = carry
            number, key = counted
            new = gradient(key, *some)
            delta = _subtract(new, mean)
            mean = jax.tree.map(lambda m, d: m + d / (number + 1), mean, delta)
            squares = jax.tree.map(jnp.add, squares, _inner(delta, _subtract(new, mean)))
            return (mean, squares), None

        like = jax.eval_shape(gradient, noise, *some)
        start = _zeros(like), {group: jnp.zeros(()) for group in like}
        counted = jnp.arange(draws), jax.random.split(noise, draws)
        (mean, squares), _ = jax.lax.scan(draw, start, counted)
        return mean, {group: s / (draws - 1) for group, s in squares.items()}

    def pair(key: Any) -> dict[str, Variance]:
        # A loop over the two, so that the gradient is compiled once.
        means, within = jax.lax.map(batch, jax.random.split(key))
        difference = jax.tree.map(lambda m: m[0] - m[1], means)
        between, own = _inner(difference, difference), {g: s.mean() for g, s in within.items()}
        return {
            group: Variance(own[group], between[group] / 2 + own[group] * (draws - 1) / draws)
            for group in own
        }

    return jax.lax.map(pair, jax.random.split(key, pairs))


def distances(
    sources: dict[str, Source], reference: Gradient, key: Key[Array, ""], *, draws: int, groups: int
) -> dict[str, dict[str, Distance]]:
    """How far the expectations of gradients, `gradient(key)` by name, are from that of another one,
    at one batch; all are compared with the same draws of that one.

    For independent draws d_1 .. d_M of a difference, M = `draws` >= 2, (|sum d|^2 - sum |d|^2) / (M
    (M - 1)) is an unbiased estimate of |E d|^2: what noise adds to the norm of an average is taken
    off. Estimates, of which there are `groups`, may therefore be below 0.
    """
    fixed = {n: s.gradient(key) for n, s in sources.items() if not s.random}

    def draw(key: Any) -> tuple[Any, Any]:
        """The reference ("") and the differences from it, and their squared norms."""
        first, second = jax.random.split(key)
        true = reference(second)
        seen = {"": true}
        for number, (name, source) in enumerate(sources.items()):
            own = fixed.get(name)
            if own is None:
                own = source.gradient(jax.random.fold_in(first, number))
            seen[name] = _subtract(own, true)
        return seen, {name: _inner(d, d) for name, d in seen.items()}

    def one(key: Any) -> dict[str, dict[str, Distance]]:
        def add(totals: Any, key: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, totals, draw(key)), None

        start = _zeros(jax.eval_shape(draw, key))
        sums, squares = jax.lax.scan(add, start, jax.random.split(key, draws))[0]
        whole = {name: _inner(total, total) for name, total in sums.items()}
        unbiased = jax.tree.map(lambda a, b: (a - b) / (draws * (draws - 1)), whole, squares)
        return {name: jax.tree.map(Distance, unbiased[name], unbiased[""]) for name in sources}

    return jax.lax.map(one, jax.random.split(key, groups))
