"""The scaled recursions of many chains with few states: both directions side by side in one loop,
chains along the last axis.

With P and w as in `_scaled`, S_t and R_t the sums of y_t and z_t,

    y_t = w_t (y_{t-1} P) / S_{t-1},   y_1 = w_1      z_t = w_t (P z_{t+1}) / R_{t+1},   z_T = w_T
    b_t = P z_{t+1},   b_T = 1,        N_t = sum y_t b_t
    log Z = sum_t (log S_t + max e_t) + sum of max A
    d log Z / d e_t = y_t b_t / N_t,   d log Z / d A = P sum_t y_t z_{t+1} / N_t

A product with P is a sum of products of entries, which vectorises over chains: a turn of the loop
is one fused loop over both directions and one for their sums. A matrix product would be a call of
its own, and at these sizes most of its time goes into that call.
"""

import functools
import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cgjax.kernels.chains._chain import Chain, batch_last, total
from cgjax.kernels.chains._scaled import LOSS, Scaled, Sums

# Fewer chains than this fill no vector.
_FEWEST = 4
# A sum of so many products is one expression: longer ones spill registers.
_GROUP = 8


def suits(chain: Chain) -> bool:
    """Whether chains are of sizes that this form, and its order of axes, are for."""
    batch = chain.unary.shape[0]
    return batch_last(chain) and batch >= _FEWEST


def times(rows: Float[Array, "... K B"], matrices: Float[Array, "... K L b"]) -> Array:
    """sum_i rows[i] matrices[i], (..., L, B)."""
    each = [rows[..., i, None, :] * matrices[..., i, :, :] for i in range(rows.shape[-2])]
    groups = [_sum(each[i : i + _GROUP]) for i in range(0, len(each), _GROUP)]
    return _sum(groups)


def over_states(x: Float[Array, "... K B"]) -> Float[Array, "... B"]:
    """The sum over states."""
    return _sum([x[..., i, :] for i in range(x.shape[-2])])


def _sum(terms: list[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def columns_times(columns: Float[Array, "T K B"], matrices: Float[Array, "b K K"]) -> Array:
    """The matrix of each chain, or the one of all, times each column, (T, K, B)."""
    exact = lax.Precision.HIGHEST
    if matrices.shape[0] > 1:
        return jnp.einsum("bij,tjb->tib", matrices, columns, precision=exact)
    # By position, so that the transpose is a sum of short products: long ones lose digits.
    each = _repeated(matrices[0], columns.shape[0])
    return jnp.einsum("tij,tjb->tib", each, columns, precision=exact)


def _repeated(matrix: Array, count: int) -> Array:
    """A matrix `count` times, (count, K, L). The transpose is a sum in blocks as in `total`."""
    block = 64
    if count <= block:
        return jnp.broadcast_to(matrix, (count, *matrix.shape))
    blocks = _repeated(matrix, -(-count // block))[:, None]
    each = jnp.broadcast_to(blocks, (len(blocks), block, *matrix.shape))
    return each.reshape(-1, *matrix.shape)[:count]


def _passes(potentials: Scaled) -> tuple[Array, Array]:
    """y and z, each (T, K, B); at a masked position those of the last one before or after it."""
    unary = jnp.swapaxes(potentials.unary, 1, 2)
    matrix = jnp.moveaxis(potentials.transitions[0], 0, 2)
    matrices = jnp.stack([matrix, jnp.swapaxes(matrix, 0, 1)])
    length, k, _ = unary.shape
    forwards = jnp.arange(2).reshape(2, 1, 1) == 0

    def at(turn: Array | int, of: Array, backwards: Array) -> Array:
        """What the positions of a turn have. A choice vectorises, and joined arrays do not."""
        one = lax.dynamic_index_in_dim(of, turn)
        other = lax.dynamic_index_in_dim(backwards, length - 1 - turn)
        return jnp.where(forwards, one, other)

    masks = None
    if potentials.masks is not None:
        here, follows, precedes = (x[:, None] for x in _masks(potentials))
        masks = (here, here), (follows, precedes)

    def step(carry: tuple[Array, Array], turn: Array) -> tuple[tuple[Array, Array], Array]:
        state, inverse = carry
        unary_here = at(turn, unary, unary)
        new = times(state, matrices) * (unary_here * inverse[:, None])
        if masks is not None:
            here, follows = (at(turn, *mask) for mask in masks)
            new = jnp.where(here, jnp.where(follows, new, unary_here), state)
        return (new, 1 / over_states(new)), state

    first = at(0, unary, unary)
    if masks is not None:
        first = jnp.where(at(0, *masks[0]), first, 1 / k)
    # Each turn gives what it is given: the new state in two places would be computed twice. The
    # last one is of no use.
    turns = jnp.minimum(jnp.arange(1, length + 1), length - 1)
    _, found = lax.scan(step, (first, 1 / over_states(first)), turns)
    return found[:, 0], found[::-1, 1]


def _masks(potentials: Scaled) -> tuple[Bool[Array, "T B"], ...]:
    """Where a position takes part, follows another one, and has another one after it."""
    assert potentials.masks is not None
    here, follows = potentials.masks
    count = jnp.cumsum(here[::-1], 0)[::-1]
    return here, jnp.pad(follows, ((1, 0), (0, 0))), here & (count > 1)


def sums(chain: Chain, potentials: Scaled) -> tuple[Sums, Float[Array, "T K B"]]:
    """The sums of chains, and log P(state at t, given the potentials up to t)."""
    states, ahead = _passes(potentials)
    matrix = jnp.moveaxis(potentials.transitions[0], 0, 2)
    laters = times(ahead[1:], jnp.swapaxes(matrix, 0, 1)[None])
    laters = jnp.concatenate([laters, jnp.ones_like(states[:1])])
    constants = over_states(states)
    weights, here = ahead[1:], None
    if potentials.masks is not None:
        here, follows, precedes = _masks(potentials)
        laters = jnp.where((here & ~precedes)[:, None], 1, laters)
        weights = jnp.where(follows[1:, None], weights, 0)
    shares = over_states(states * laters)
    inverse = 1 / shares
    marginals = states * laters * inverse[:, None]
    weights = weights * (constants * inverse)[:-1, None]
    states = states / constants[:, None]
    if here is not None and potentials.masks is not None:
        marginals = jnp.where(here[:, None], marginals, 0)
        weights = jnp.where(potentials.masks[1][:, None], weights, 0)
        shares, constants = jnp.where(here, shares, 1), jnp.where(here, constants, 1)
    value = potentials.shift + total(jnp.log(constants).T)
    pairs = jnp.zeros((states.shape[2], *chain.transitions.shape[1:]), states.dtype)
    weights = jnp.pad(weights, ((0, 1), (0, 0), (0, 0)))
    reliable = _reliable(shares, states.shape[1])

    def ordered(x: Array) -> Array:
        return x if batch_last(chain) else jnp.swapaxes(x, 1, 2)

    found = Sums(value, ordered(marginals), pairs, ordered(states), ordered(weights), reliable)
    return found, jnp.log(states)


def _reliable(shares: Float[Array, "T B"], k: int) -> Float[Array, " B"]:
    """Whether what may have underflowed is no more than rounding.

    That is less than `tiny` in any entry of y, z, y P and P z, each of which is multiplied by
    entries whose sums are at most K^2, and is to be small beside N.
    """
    least = 3 * k**2 * jnp.finfo(shares.dtype).tiny / LOSS
    return jnp.all(shares > least, 0).astype(shares.dtype)  # 0 where it is not a number
