"""Independent Gaussian distributions over parameters: mean-field posteriors."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from cgjax._gaussian.belief import Belief, Normal
from cgjax._gaussian.numerics import root, wide
from cgjax._static import Leaf, Tree
from cgjax.kernels.random_bits import random_words, standard_normal

T = TypeVar("T")

PerParameter = float | Array | Mapping[str, float | Array]


def is_uncertain(leaf: object) -> TypeGuard[Belief | Normal]:
    """Whether a leaf of a tree of parameters has a distribution."""
    return isinstance(leaf, Belief | Normal)


def as_belief(leaf: Belief | Normal) -> Belief:
    """A leaf as a mean and a variance."""
    return leaf if isinstance(leaf, Belief) else Belief(leaf.mean, leaf.variance)


def names(params: Tree) -> list[str]:
    """The names of the leaves of a tree of parameters, in order, such as `layers/0/kernel`."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_uncertain)]
    texts = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return [text.removesuffix("/value") for text in texts]  # the array inside a Flax variable


def not_positive(number: Leaf) -> bool:
    """Whether a number, or an array, is known while tracing and not positive throughout."""
    return not isinstance(number, Tracer) and not np.all(np.asarray(number) > 0)


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of a shape broadcasts to another shape, and does not enlarge it."""
    pairs = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)


def per_parameter(what: str, chosen: Tree, params: Tree) -> list[Leaf]:
    """For each leaf of the parameters its number, or None where no pattern matches.

    Args:
        what: the numbers are, for messages.
        chosen: one for all, or a mapping from patterns of names; the first that matches wins.
        params: the tree of parameters.
    """
    found = names(params)
    if not isinstance(chosen, Mapping):
        return [chosen] * len(found)
    for pattern in chosen:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ValueError(
                f"The pattern {pattern!r} of {what} matches no parameter; there are "
                f"{', '.join(map(repr, found)) or 'none'}."
            )
    return [
        next((v for pattern, v in chosen.items() if fnmatchcase(name, pattern)), None)
        for name in found
    ]


def mean_field(params: Tree, variance: PerParameter = 1e-4) -> Tree:
    """A posterior of independent Gaussian weights around given parameters.

        q(w) = prod_i N(w_i; mean_i, exp(log_variance_i))

    Args:
        params: a tree of floating-point arrays, such as `cgjax.functional` returns.
        variance: of each weight: a number for all, or numbers by a glob pattern over the names of
            parameters (`{"*kernel": 1e-3}`, the first match wins). Parameters that no pattern
            matches stay plain arrays: they are known exactly, and trained as such.

    Returns:
        The same tree with `Normal(mean, log_variance)` leaves. It is a pytree of arrays, for
        `jax.grad`, Optax, `vmap` and checkpoints; every value of its leaves is a valid posterior.

    Raises:
        ValueError: a variance is not positive; a pattern matches nothing.
        TypeError: a parameter to be uncertain is not floating point, or has a distribution already.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
        >>> posterior = cg.weights.mean_field(params, {"kernel": 0.01})
        >>> print(posterior["kernel"].variance[0, 0].round(4), posterior["bias"])
        0.01 [0. 0. 0.]

    Source: [B] section 2 ("mean-field").
    """
    leaves, structure = jax.tree.flatten(params, is_leaf=is_uncertain)
    out = []
    for name, leaf, v in zip(
        names(params), leaves, per_parameter("variance", variance, params), strict=True
    ):
        if v is None:
            out.append(leaf)
            continue
        if is_uncertain(leaf):
            raise TypeError(
                f"The parameter {name!r} is a {type(leaf).__name__} already. `means(posterior)` "
                "gives the parameters back, to begin anew."
            )
        mean = jnp.asarray(leaf)
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            raise TypeError(
                f"The parameter {name!r} holds {mean.dtype}, which has no Gaussian posterior. "
                "Leave it out with patterns: `variance={'*kernel': 1e-4}`."
            )
        if not_positive(v):
            raise ValueError(
                f"A variance must be positive, got {v} for {name!r}. To keep a parameter known "
                "exactly, leave it out with patterns: `variance={'*kernel': 1e-4}`."
            )
        out.append(Normal(mean, jnp.full_like(mean, jnp.log(wide(jnp.asarray(v))))))
    return jax.tree.unflatten(structure, out)


def beliefs(posterior: Tree) -> Tree:
    """The posterior with a `Belief(mean, variance)` in place of each of its distributions."""
    return map_uncertain(as_belief, posterior)


def means(posterior: Tree) -> Tree:
    """The parameters at their means: an ordinary tree of parameters."""
    return map_uncertain(lambda leaf: leaf.mean, posterior)


def map_uncertain(function: Callable[[Belief | Normal], Leaf], posterior: Tree) -> Tree:
    """Applies a function to each distribution of a posterior."""
    return jax.tree.map(
        lambda leaf: function(leaf) if is_uncertain(leaf) else leaf,
        posterior,
        is_leaf=is_uncertain,
    )


def sample(key: Array, posterior: T) -> T:
    """One set of weights: each distribution replaced by a draw, with pathwise gradients.

    Args:
        key: of `jax.random`.
        posterior: a tree with `Normal` or `Belief` leaves.

    Returns:
        The tree with arrays in place of the distributions.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.zeros(3)}, 1.0)
        >>> print(cg.weights.sample(jax.random.key(0), posterior)["w"].shape)
        (3,)
    """
    leaves, structure = jax.tree.flatten(posterior, is_leaf=is_uncertain)
    out = [
        draw(jax.random.fold_in(key, i), as_belief(leaf)) if is_uncertain(leaf) else leaf
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, out)


def draw(key: Array, belief: Belief) -> Float[Array, "..."]:
    """A sample of independent Gaussian elements."""
    noise = standard_normal(random_words(key, belief.mean.shape)[1], jnp.float32)
    return belief.mean + jnp.asarray(root(belief.variance) * noise, belief.mean.dtype)


def total(parts: Sequence[ArrayLike]) -> Float[Array, ""]:
    """The sum of numbers, 0 for none."""
    return jnp.asarray(sum(parts, start=jnp.zeros(())))
