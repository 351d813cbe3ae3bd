"""Bounds of recurrent weights, with which states neither vanish nor explode ([A] section 4.2.2)."""

import jax
import jax.numpy as jnp
from flax import nnx

from cgjax._static import Leaf, Tree


def recurrent_weight_bound(steps: int, growth: float = 5.0) -> float:
    """The largest recurrent weight with which a state grows by at most a factor over a sequence.

        bound^steps = growth

    Args:
        steps: the length of the sequences.
        growth: the factor, for a state that is copied through all steps.

    Returns:
        `growth ** (1 / steps)`.

    Raises:
        ValueError: unless both are positive.

    Example:
        >>> round(recurrent_weight_bound(784), 6)
        1.002055

    Source: Li et al., "Independently recurrent neural network", CVPR 2018, section 4.
    """
    if steps < 1 or growth <= 0:
        raise ValueError(f"steps and growth are positive, got {steps!r} and {growth!r}.")
    return growth ** (1 / steps)


def clip_recurrent_weights(params: Tree) -> Tree:
    """Projects every bounded recurrent weight of a parameter tree onto [-bound, bound].

    To be applied after each update of an optimiser:
    `params = clip_recurrent_weights(optax.apply_updates(params, updates))`.

    Args:
        params: the parameters of a network, as `cgjax.functional` returns them.

    Returns:
        The same tree with the recurrent weights of each `IndependentRecurrent` clipped, and all
        else unchanged. (Any `nnx.Param` with metadata `recurrent_bound` is clipped to it.)

    Raises:
        ValueError: if no parameter has a bound, as in a tree of plain arrays, which lost theirs.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> layer = cg.layers.IndependentRecurrent(
        ...     1, 2, max_recurrent_weight=0.5, rngs=nnx.Rngs(0))
        >>> layer.recurrent[...] = jnp.array([3.0, -0.25])
        >>> f, params, state = cg.functional(layer)
        >>> clip_recurrent_weights(params)["recurrent"][...]
        Array([ 0.5 , -0.25], dtype=float32)
    """

    def clipped(leaf: Leaf) -> Leaf:
        bound = _bound(leaf)
        return leaf if bound is None else leaf.replace(jnp.clip(leaf[...], -bound, bound))

    def is_leaf(leaf: object) -> bool:
        return isinstance(leaf, nnx.Variable)

    if all(_bound(leaf) is None for leaf in jax.tree.leaves(params, is_leaf=is_leaf)):
        raise ValueError(
            "No parameter has a bound. Either the network has no IndependentRecurrent layer, or "
            "the tree holds plain arrays; the bound is metadata of the `nnx.Param`s that "
            "`cgjax.functional` returns."
        )
    return jax.tree.map(clipped, params, is_leaf=is_leaf)


def _bound(leaf: object) -> float | None:
    return leaf.get_metadata().get("recurrent_bound") if isinstance(leaf, nnx.Variable) else None
