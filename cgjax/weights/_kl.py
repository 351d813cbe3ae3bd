"""The divergence of a posterior from its prior, in closed form, and priors learnt from it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cgjax._gaussian.belief import Belief, Normal
from cgjax._gaussian.numerics import wide
from cgjax._static import Tree, Treedef
from cgjax.weights._posterior import (
    as_belief,
    broadcasts,
    is_uncertain,
    names,
    not_positive,
    per_parameter,
    total,
)

# Mean, variance and its logarithm.
Parts = tuple[Array | float, Array | float, Array | float]


def kl(posterior: Tree, prior: Tree = 1.0) -> Float[Array, ""]:
    """The Kullback-Leibler divergence of a mean-field posterior from a Gaussian prior, in nats.

        KL = sum_i 1/2 (v_i / p_i + (m_i - m0_i)^2 / p_i - 1 - log(v_i / p_i))

    Args:
        posterior: a tree with `Normal` or `Belief` leaves; other leaves contribute nothing.
        prior: the standard deviation of N(0, prior^2), one number for all weights or numbers by
            a glob pattern over their names (the first match wins, every distribution must be
            matched); or a tree like the posterior, with `Normal` or `Belief` leaves. The numbers
            may be traced: they are learnt by descending the loss, or by `empirical_bayes`.

    Returns:
        The divergence, summed over all weights, in at least float32.

    Raises:
        ValueError: a prior is not positive, matches nothing, or leaves a distribution without one.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.zeros(3)}, 0.25)
        >>> print(cg.weights.kl(posterior, prior=0.5), cg.weights.kl(posterior, prior=1.0).round(4))
        0.0 0.9544

    Source: [B] Eq. 2.
    """
    leaves, structure = jax.tree.flatten(posterior, is_leaf=is_uncertain)
    parts = []
    for leaf, (mean, variance, log_variance) in zip(
        leaves, _priors(posterior, structure, prior), strict=True
    ):
        if is_uncertain(leaf):
            m, v, log_v = _parts(leaf)
            # A scalar prior divides sums, not weights: fewer arrays of the weights' size.
            square = (
                _sum((m - mean) ** 2) / variance
                if jnp.ndim(variance) == 0
                else _sum((m - mean) ** 2 / variance)
            )
            parts.append((_sum(_excess(log_v - log_variance, v / variance)) + square) / 2)
    return total(parts)


@jax.custom_jvp
def _excess(log_ratio: Array, ratio: Array) -> Array:
    """r - 1 - log r, without cancellation at r = 1.

    The derivative is that by log r; r itself, which is given beside it, is taken as a constant.
    """
    near = jnp.abs(log_ratio) < 0.05
    x = jnp.where(near, log_ratio, 0)
    series = x**2 * (1 / 2 + x / 6 + x**2 / 24 + x**3 / 120)
    return jnp.where(near, series, _finite(ratio) - 1 - log_ratio)


@_excess.defjvp
def _excess_jvp(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Array]:
    log_ratio, ratio = primals
    near = jnp.abs(log_ratio) < 0.05
    x = jnp.where(near, log_ratio, 0)
    series = x * (1 + x / 2 + x**2 / 6 + x**3 / 24)
    return _excess(*primals), jnp.where(near, series, _finite(ratio) - 1) * tangents[0]


def _finite(ratio: Array) -> Array:
    return jnp.minimum(ratio, jnp.finfo(jnp.float32).max ** 0.9)


def _sum(each: Array) -> Array:
    # Row by row: one sum over millions of numbers loses digits.
    return jnp.sum(jnp.sum(each, -1)) if each.ndim else each


def _parts(leaf: Belief | Normal) -> Parts:
    """Mean, variance and its logarithm, in at least float32."""
    if isinstance(leaf, Normal):
        log_variance = wide(leaf.clipped_log_variance)
        return wide(leaf.mean), jnp.exp(log_variance), log_variance
    v = jnp.maximum(wide(leaf.variance), jnp.finfo(jnp.float32).tiny)
    return wide(leaf.mean), v, jnp.log(v)


def _priors(posterior: Tree, structure: Treedef, prior: Tree) -> list[Parts]:
    """Mean, variance and its logarithm of the prior of each leaf."""
    if jax.tree.leaves(prior, is_leaf=is_uncertain) and any(
        map(is_uncertain, jax.tree.leaves(prior, is_leaf=is_uncertain))
    ):
        leaves, other = jax.tree.flatten(prior, is_leaf=is_uncertain)
        if other != structure:
            raise ValueError(
                f"A prior with distributions has the posterior's structure, {structure}, got "
                f"{other}."
            )
        mine = jax.tree.leaves(posterior, is_leaf=is_uncertain)
        for name, leaf, own in zip(names(posterior), leaves, mine, strict=True):
            if is_uncertain(own) and not is_uncertain(leaf):
                raise ValueError(f"The prior of {name!r} is no distribution, got {type(leaf)}.")
            if is_uncertain(own) and leaf.mean.shape != own.mean.shape:
                raise ValueError(
                    f"The prior of {name!r} has shape {leaf.mean.shape}, and the posterior "
                    f"{own.mean.shape}."
                )
        return [_parts(leaf) if is_uncertain(leaf) else (0.0, 1.0, 0.0) for leaf in leaves]
    scales = per_parameter("the prior", prior, posterior)
    found = jax.tree.leaves(posterior, is_leaf=is_uncertain)
    out = []
    for name, leaf, scale in zip(names(posterior), found, scales, strict=True):
        if not is_uncertain(leaf):
            out.append((0.0, 1.0, 0.0))
            continue
        if scale is None:
            raise ValueError(
                f"No pattern of the prior matches the parameter {name!r}. Add a last pattern '*'."
            )
        if not_positive(scale):
            raise ValueError(f"A prior's standard deviation must be positive, got {scale}.")
        scale = wide(jnp.asarray(scale))
        if not broadcasts(scale.shape, leaf.mean.shape):
            raise ValueError(
                f"The prior of {name!r} has shape {scale.shape}, which does not broadcast to "
                f"{leaf.mean.shape}."
            )
        out.append((0.0, scale**2, 2 * jnp.log(scale)))
    return out


def empirical_bayes(posterior: Tree, groups: Sequence[str] = ("*",)) -> dict[str, Array]:
    """The standard deviations of zero-mean priors that minimise the divergence.

        prior^2 = average over the group of (m_i^2 + v_i)

    Args:
        posterior: a tree with `Normal` or `Belief` leaves.
        groups: glob patterns over the names of parameters; those that one pattern is the first to
            match share a prior. By default all do.

    Returns:
        `{pattern: standard deviation}`, a prior for `kl`. The derivative of the divergence by these
        numbers is 0, so it may be computed anew at every step, inside the gradient.

    Raises:
        ValueError: a pattern matches no parameter, or none that has a distribution.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.array([3.0, -3.0])}, 1.0)
        >>> print(cg.weights.empirical_bayes(posterior)["*"].round(4))
        3.1623
    """
    which = per_parameter("groups", {pattern: pattern for pattern in groups}, posterior)
    leaves = jax.tree.leaves(posterior, is_leaf=is_uncertain)
    scales = {}
    for pattern in groups:
        own = [
            as_belief(leaf)
            for leaf, group in zip(leaves, which, strict=True)
            if group == pattern and is_uncertain(leaf)
        ]
        if not own:
            raise ValueError(
                f"The group {pattern!r} holds no parameter with a distribution that an earlier "
                "pattern does not match."
            )
        square = total([jnp.sum(wide(b.mean) ** 2 + wide(b.variance)) for b in own])
        scales[pattern] = jnp.sqrt(square / sum(b.mean.size for b in own))
    return scales
