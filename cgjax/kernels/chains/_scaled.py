"""The recursions on probabilities, scaled at each step: matrix products and no logarithms.

With P = exp(A - max A) and w_t = exp(e_t - max e_t),

    a_t = (a_{t-1} P) w_t / c_t,  sum a_t = 1        b_{t-1} = P (w_t b_t / c_t),  b_T = 1
    log Z = sum_t (log c_t + max e_t) + sum of max A
    d log Z / d e_t = a_t b_t,       d log Z / d A = P sum_t a_{t-1} (w_t b_t / c_t)

What underflows is lost, and that is at most `tiny` of a chain's probability for each unit of b / c:
where that is too much, `reliable` is false and the recursions on logarithms have to serve.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, edges, matrix_of, times, total

# The share of a chain's probability that may be lost to underflow at one place.
_LOSS = 1e-9


class Scaled(NamedTuple):
    """Potentials as probabilities of at most 1, time first, and what they were divided by.

    Attributes:
        unary: w, (T, B, K).
        transitions: P, (E, B or 1, K, K).
        shift: the sum of all maxima, (B,).
        masks: where a position takes part and where it follows another one, (T, B) and (T - 1, B).
    """

    unary: Float[Array, "T B K"]
    transitions: Float[Array, "E b K K"]
    shift: Float[Array, " B"]
    masks: tuple[Bool[Array, "T B"], Bool[Array, "T-1 B"]] | None


class Sums(NamedTuple):
    """What is known of each chain.

    Attributes:
        log_partition: log Z, (B,).
        marginals: d log Z / d unary, (B, T, K).
        pairs: d log Z / d transitions, (B, T - 1 or 1, K, K).
        filtered: log P(state at t, given the potentials up to t), (B, T, K).
        reliable: whether no more than rounding was lost, (B,).
    """

    log_partition: Float[Array, " B"]
    marginals: Float[Array, "B T K"]
    pairs: Float[Array, "B E K K"]
    filtered: Float[Array, "B T K"]
    reliable: Bool[Array, " B"]


def _largest(x: Array, axes: tuple[int, ...]) -> Array:
    largest = lax.stop_gradient(jnp.max(x, axes, keepdims=True))
    return jnp.where(largest == -jnp.inf, 0, largest)


def scaled(chain: Chain) -> Scaled:
    """The potentials of a chain as probabilities."""
    most, most_step = _largest(chain.unary, (2,)), _largest(chain.transitions, (2, 3))
    unary = jnp.moveaxis(jnp.exp(chain.unary - most), 1, 0)
    transitions = jnp.moveaxis(jnp.exp(chain.transitions - most_step), 1, 0)
    batch, length, _ = chain.unary.shape
    if chain.mask is None:
        shift, masks = total(most[:, :, 0]), None
        steps = jnp.broadcast_to(most_step[:, :, 0, 0], (most_step.shape[0], length - 1))
    else:
        steps = jnp.where(edges(chain), most_step[:, :, 0, 0], 0)
        shift = total(jnp.where(chain.mask, most[:, :, 0], 0))
        masks = chain.mask.T, edges(chain).T
    return Scaled(unary, transitions, shift + total(steps), masks)


def _matrices(potentials: Scaled) -> tuple[Array | None, Array | None]:
    """The matrix of all steps, or those of each."""
    if potentials.transitions.shape[0] == 1:
        return potentials.transitions[0], None
    return None, potentials.transitions


def step_forward(state: Array, unary: Array, matrix: Array, masks: Tree) -> tuple[Array, Array]:
    """a_t and c_t after a_{t-1}."""
    before = times(state, matrix)
    if masks is not None:
        before = jnp.where(masks[1][:, None], before, 1)
    new = before * unary
    constant = jnp.sum(new, 1, keepdims=True)
    new = new / constant
    if masks is not None:
        new = jnp.where(masks[0][:, None], new, state)
        constant = jnp.where(masks[0][:, None], constant, 1)
    return new, constant


def start(potentials: Scaled) -> tuple[Array, Array]:
    """a and c of the first position."""
    unary = potentials.unary[0]
    constant = jnp.sum(unary, 1, keepdims=True)
    state = unary / constant
    if potentials.masks is not None:
        takes_part = potentials.masks[0][0][:, None]
        state = jnp.where(takes_part, state, 1 / unary.shape[1])
        constant = jnp.where(takes_part, constant, 1)
    return state, constant


def two_passes(potentials: Scaled) -> tuple[Array, Array, Array]:
    """a, b and c, each (T, B, …), by a loop in each direction."""
    shared, each = _matrices(potentials)
    masks = potentials.masks
    after = None if masks is None else (masks[0][1:], masks[1])

    def forth(state: Array, inputs: Tree) -> tuple[Array, tuple[Array, Array]]:
        unary, matrix, masks = inputs
        new = step_forward(state, unary, matrix_of(matrix, shared), masks)
        return new[0], new

    def back(later: Array, inputs: Tree) -> tuple[Array, Array]:
        scaled, matrix, masks = inputs
        matrix = matrix_of(matrix, shared)
        new = times(scaled * later, jnp.swapaxes(matrix, 1, 2))
        if masks is not None:
            new = jnp.where(masks[0][:, None], new, later)
        return new, new

    first, constant = start(potentials)
    _, (states, constants) = lax.scan(forth, first, (potentials.unary[1:], each, after))
    states = jnp.concatenate([first[None], states])
    constants = jnp.concatenate([constant[None], constants])
    last = jnp.ones_like(first)
    ratios = potentials.unary[1:] / constants[1:]
    _, laters = lax.scan(back, last, (ratios, each, after), reverse=True)
    return states, jnp.concatenate([laters, last[None]]), constants


def both_at_once(potentials: Scaled) -> tuple[Array, Array, Array]:
    """a, b and c by one loop that goes in both directions: half the steps, for devices on which a
    step costs the same whatever it computes. Here b is scaled by its own sums, and by c at the end.
    """
    shared, each = _matrices(potentials)
    masks = potentials.masks
    after = None if masks is None else (masks[0][1:], masks[1])

    def step(carry: tuple[Array, Array], inputs: Tree) -> tuple[tuple[Array, Array], Tree]:
        state, later = carry
        (unary, matrix, masks), (unary_back, matrix_back, masks_back) = inputs
        matrix = matrix_of(matrix, shared)
        matrix_back = matrix_of(matrix_back, shared)
        new, constant = step_forward(state, unary, matrix, masks)
        found = times(unary_back * later, jnp.swapaxes(matrix_back, 1, 2))
        found = found / jnp.max(found, 1, keepdims=True)
        if masks_back is not None:
            found = jnp.where(masks_back[0][:, None], found, later)
        return (new, found), (new, constant, found)

    first, constant = start(potentials)
    last = jnp.ones_like(first)
    forth = potentials.unary[1:], each, after
    back = _reversed(forth)
    _, (states, constants, laters) = lax.scan(step, (first, last), (forth, back))
    states = jnp.concatenate([first[None], states])
    constants = jnp.concatenate([constant[None], constants])
    laters = jnp.concatenate([laters[::-1], last[None]])
    laters = laters / jnp.sum(states * laters, 2, keepdims=True)
    return states, laters, constants


def _reversed(inputs: Tree) -> Tree:
    unary, each, masks = inputs
    return (
        unary[::-1],
        None if each is None else each[::-1],
        None if masks is None else (masks[0][::-1], masks[1][::-1]),
    )


def finished(
    chain: Chain, potentials: Scaled, states: Array, laters: Array, constants: Array
) -> Sums:
    """What follows from a, b and c."""
    ratios = laters / constants
    weights = (potentials.unary * ratios)[1:]
    marginals = states * laters
    most = jnp.max(ratios, 2)
    if potentials.masks is not None:
        taking_part, following = potentials.masks
        marginals = jnp.where(taking_part[:, :, None], marginals, 0)
        weights = jnp.where(following[:, :, None], weights, 0)
        most = jnp.where(taking_part, most, 0)
    exact = lax.Precision.HIGHEST
    matrices = jnp.moveaxis(potentials.transitions, 1, 0)
    if chain.homogeneous:
        pairs = jnp.einsum("tbi,tbj->bij", states[:-1], weights, precision=exact)[:, None]
    else:
        pairs = jnp.einsum("tbi,tbj->btij", states[:-1], weights, precision=exact)
    limit = _LOSS / jnp.finfo(states.dtype).tiny
    return Sums(
        potentials.shift + total(jnp.log(constants[:, :, 0]).T),
        jnp.moveaxis(marginals, 0, 1),
        matrices * pairs,
        jnp.moveaxis(jnp.log(states), 0, 1),
        jnp.all(most < limit, 0),  # false where it is not a number
    )
