"""The recursions as a balanced tree of matrix products: log2(T) steps, and K times the work.

    a_t is proportional to a_0 M_1 ... M_t,   b_t to M_{t+1} ... M_T 1,   M_t = P diag(w_t)

with every product divided by its largest entry. An entry may underflow in a product, and still be
most of the chain's probability after what comes before and behind: `_nothing_underflows` says where
it can't.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax.kernels.chains._scaled import LOSS, Passes, Scaled, start


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
    # Without bound where a product may have lost what matters, so that logarithms serve.
    stakes = jnp.where(_nothing_underflows(potentials), jnp.sum(laters, 2), jnp.inf)
    return Passes(states, laters, constants, stakes)


def _nothing_underflows(potentials: Scaled) -> Array:
    """For which chains no product loses more than rounding, (B,): where potentials are moderate.

    With d and u the ranges of a step's transitions and of its unary potentials, on the scale of
    logarithms, the entries of a product of any number of steps have the range 2 d + u: its rows
    differ by the first step's transitions alone, its columns by the last step. Before it is
    divided, a product of two such is smaller by another d + u at most. All that needs steps without
    zeros. With zeros, an entry is a sum of paths, and no path has less than what all steps' ranges
    have together.
    """
    unary, transitions, masks = potentials.unary, potentials.transitions, potentials.masks
    k = unary.shape[2]
    wide, steps = _range(unary, (2,)), _range(transitions, (2, 3))
    dense = jnp.all(unary > 0, 2)
    if masks is not None:
        wide, dense = jnp.where(masks[0], wide, 0), dense | ~masks[0]
    dense = jnp.all(dense, 0) & jnp.all(transitions > 0, (0, 2, 3))
    limit = jnp.log(LOSS / jnp.finfo(unary.dtype).tiny) - jnp.log(k)
    far = 3 * jnp.max(steps, 0) + 2 * jnp.max(wide, 0)
    count = len(unary)
    in_all = jnp.sum(wide, 0) + jnp.mean(steps, 0) * (count - 1) + count * jnp.log(k)
    return (dense & (far < limit)) | (in_all < limit)


def _range(x: Array, axes: tuple[int, ...]) -> Array:
    """By how much the logarithm of the smallest entry above 0 is below that of 1."""
    return -jnp.log(jnp.min(jnp.where(x > 0, x, 1), axes))
