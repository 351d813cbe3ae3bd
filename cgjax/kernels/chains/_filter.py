"""Probabilities of states given the past, with their derivative.

With alpha_t(j) = log P(z_t = j given the potentials up to t), a change of the potentials gives

    d_t(j) = de_t(j) + sum_i P(z_{t-1} = i given z_t = j and the past)
                             (dalpha_{t-1}(i) + dA_t(i, j))
    dalpha_t(j) = d_t(j) - sum_k exp(alpha_t(k)) d_t(k)

so the derivative is one more loop, linear in the changes, with probabilities as its coefficients.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cgjax._static import Tree
from cgjax.kernels.chains import _sums
from cgjax.kernels.chains._chain import Chain, by_edge, edges, matrix_of


def filtered(chain: Chain) -> Float[Array, "B T K"]:
    """log P(z_t given the potentials up to t), normalised.

    Derivatives of every order, of 0 at what is impossible: a loop with the steps of this one.

    Args:
        chain: as in `expectations`.

    Returns:
        (B, T, K), -inf for what is impossible. At a masked position that of the last one before it.

    Example:
        >>> import jax.numpy as jnp
        >>> from cgjax.kernels.chains import Chain, filtered
        >>> chain = Chain(jnp.array([[[0.0, 0.0], [0.0, -jnp.inf]]]), jnp.zeros((1, 1, 2, 2)))
        >>> print(jnp.exp(filtered(chain)).round(3))
        [[[0.5 0.5]
          [1.  0. ]]]

    Source: as `expectations`.
    """
    return _filtered(chain)


@jax.custom_jvp
def _filtered(chain: Chain) -> Array:
    return jnp.transpose(_sums.filtered(chain), (2, 0, 1))


@_filtered.defjvp
def _filtered_jvp(primals: Tree, tangents: Tree) -> tuple[Array, Array]:
    (chain,), (change,) = primals, tangents
    found = _filtered(chain)
    if not chain.length:
        return found, jnp.zeros_like(found)
    states, unary = jnp.moveaxis(found, 1, 0), jnp.moveaxis(change.unary, 1, 0)
    shared = chain.transitions[:, 0] if chain.homogeneous else None
    moved_alike = change.transitions[:, 0] if chain.homogeneous else None
    here = None if chain.mask is None else (chain.mask.T[1:], edges(chain).T)

    @jax.checkpoint
    def step(changed: Array, inputs: Tree) -> tuple[Array, Array]:
        before, after, unary, own, moved, masks = inputs
        came_from = _shares(before[:, :, None] + matrix_of(own, shared))
        changes = changed[:, :, None] + matrix_of(moved, moved_alike)
        new = jnp.sum(came_from * changes, 1)
        if masks is not None:
            new = jnp.where(masks[1][:, None], new, 0)
        new = _normalised(unary + new, after)
        if masks is not None:
            new = jnp.where(masks[0][:, None], new, changed)
        return new, new

    first = _normalised(unary[0], states[0])
    if chain.mask is not None:
        first = jnp.where(chain.mask[:, :1], first, 0)
    own, moved = by_edge(chain.transitions), by_edge(change.transitions)
    inputs = states[:-1], states[1:], unary[1:], own, moved, here
    _, after = lax.scan(step, first, inputs)
    return found, jnp.moveaxis(jnp.concatenate([first[None], after]), 0, 1)


def _shares(logits: Array) -> Array:
    """Probabilities along axis 1; 0 where nothing is possible."""
    most = lax.stop_gradient(jnp.max(logits, 1, keepdims=True))
    weights = jnp.exp(logits - jnp.where(most == -jnp.inf, 0, most))
    sums = jnp.sum(weights, 1, keepdims=True)
    return weights / jnp.where(sums == 0, 1, sums)


def _normalised(change: Array, states: Array) -> Array:
    """The change of logarithms of probabilities, less that of their sum."""
    change = jnp.where(states == -jnp.inf, 0, change)
    total = jnp.sum(jnp.exp(states) * change, 1, keepdims=True)
    return jnp.where(states == -jnp.inf, 0, change - total)
