"""The recursions as a balanced tree of matrix products: log2(T) steps, and K times the work.

    a_t is proportional to a_0 M_1 ... M_t,   b_t to M_{t+1} ... M_T 1,   M_t = P diag(w_t)

with every product divided by its largest entry.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax.kernels.chains._scaled import Passes, Scaled, start


def of_products(potentials: Scaled) -> Passes:
    """a, b and c from products of all prefixes and of all suffixes."""
    first, constant = start(potentials)
    unary, masks = potentials.unary[1:], potentials.masks
    steps, batch, k = unary.shape
    matrices = potentials.transitions * unary[:, :, None]
    if masks is not None:
        taking_part, following = masks[0][1:], masks[1]
        here = jnp.where(
            following[:, :, None, None],
            matrices,
            jnp.broadcast_to(unary[:, :, None], matrices.shape),
        )
        matrices = jnp.where(
            taking_part[:, :, None, None], here, jnp.eye(k, dtype=first.dtype)[None, None]
        )
    if not steps:
        ones = jnp.ones_like(first)[None]
        return Passes(first[None], ones, constant[None], jnp.sum(ones, 2))

    def product(left: Array, right: Array) -> Array:
        both = jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
        largest = jnp.max(both, (-1, -2), keepdims=True)
        return both / jnp.where(largest == 0, 1, largest)

    prefixes = lax.associative_scan(product, matrices)
    suffixes = lax.associative_scan(lambda x, y: product(y, x), matrices, reverse=True)
    states = jnp.einsum("bi,tbij->tbj", first, prefixes, precision=lax.Precision.HIGHEST)
    states = jnp.concatenate([first[None], states / jnp.sum(states, 2, keepdims=True)])
    laters = jnp.concatenate([jnp.sum(suffixes, 3), jnp.ones_like(first)[None]])
    new = jnp.einsum("tbi,tbij->tbj", states[:-1], matrices, precision=lax.Precision.HIGHEST)
    constants = jnp.sum(new, 2, keepdims=True)
    if masks is not None:
        constants = jnp.where(masks[0][1:, :, None], constants, 1)
    laters = laters / jnp.sum(states * laters, 2, keepdims=True)
    constants = jnp.concatenate([constant[None], constants])
    return Passes(states, laters, constants, jnp.sum(laters, 2))
