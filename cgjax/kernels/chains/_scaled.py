"""The recursions on probabilities, scaled at each step: matrix products and no logarithms.

With P = exp(A - max A) and w_t = exp(e_t - max e_t),

    a_t = (a_{t-1} P) w_t / c_t,  sum a_t = 1        b_{t-1} = P (w_t b_t / c_t),  b_T = 1
    log Z = sum_t (log c_t + max e_t) + sum of max A
    d log Z / d e_t = a_t b_t,       d log Z / d A = P sum_t a_{t-1} (w_t b_t / c_t)

What underflows is lost, and that is at most `tiny` of a chain's probability for each unit of b / c,
summed over the states: where that is too much, `reliable` is false and the recursions on logarithms
have to serve.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, batch_last, edges, matrix_of, times, total

# The share of a chain's probability that may be lost to underflow at one place.
LOSS = 1e-9


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


class Passes(NamedTuple):
    """What the recursions find, time first.

    Attributes:
        states: a, (T, B, K).
        laters: b, (T, B, K).
        constants: c, (T, B, 1).
        stakes: the sum of b over the states, (T, B).
        ahead: the sum of w b / c of the next position over the states, (T, B), anything at the last
            one; None where nobody has summed yet.
    """

    states: Float[Array, "T B K"]
    laters: Float[Array, "T B K"]
    constants: Float[Array, "T B 1"]
    stakes: Float[Array, "T B"]
    ahead: Float[Array, "T B"] | None = None


class Sums(NamedTuple):
    """What is known of each chain.

    Of chains that have the same transitions at all edges, pairs are left as the two factors of

        d log Z / d transitions = P sum_t states_t weights_t + pairs

    since whoever asks for their sum over chains then needs one matrix product.

    Attributes:
        log_partition: log Z, (B,).
        marginals: d log Z / d unary, (T, B, K), or (T, K, B) where chains are `batch_last`.
        pairs: d log Z / d transitions, (B, T - 1 or 1, K, K), as far as the factors do not say it.
        states: a, as the marginals; None for transitions by edge.
        weights: w b / c of the next position, 0 at the last one, as the marginals.
        reliable: 1 where no more than rounding was lost, else 0, (B,).
    """

    log_partition: Float[Array, " B"]
    marginals: Float[Array, "T B K"] | Float[Array, "T K B"]
    pairs: Float[Array, "B E K K"]
    states: Float[Array, "T B K"] | Float[Array, "T K B"] | None
    weights: Float[Array, "T B K"] | Float[Array, "T K B"] | None
    reliable: Float[Array, " B"]


def in_order(chain: Chain, x: Float[Array, "B T K"]) -> Float[Array, "T _ _"]:
    """An array of chains in the order that `Sums` have: time first, and chains last or next."""
    return jnp.transpose(x, (1, 2, 0) if batch_last(chain) else (1, 0, 2))


def by_chain(chain: Chain, x: Float[Array, "T _ _"]) -> Float[Array, "B T K"]:
    """An array in the order that `Sums` have, chains first."""
    return jnp.transpose(x, (2, 0, 1) if batch_last(chain) else (1, 0, 2))


def _largest(x: Array, axes: tuple[int, ...]) -> Array:
    largest = lax.stop_gradient(jnp.max(x, axes, keepdims=True))
    return jnp.where(largest == -jnp.inf, 0, largest)


def scaled_steps(transitions: Array) -> tuple[Array, Array]:
    """P, of the shape of the transitions, and their maxima, (b, E, 1, 1)."""
    most = _largest(transitions, (2, 3))
    return jnp.exp(transitions - most), most


def scaled(chain: Chain) -> Scaled:
    """The potentials of a chain as probabilities."""
    most = _largest(chain.unary, (2,))
    # Moved before the exponential: on CPUs one loop in place of two.
    unary = jnp.exp(jnp.moveaxis(chain.unary, 1, 0) - jnp.moveaxis(most, 1, 0))
    transitions, most_step = scaled_steps(chain.transitions)
    batch, length, _ = chain.unary.shape
    if chain.mask is None:
        shift, masks = total(most[:, :, 0]), None
        steps = jnp.broadcast_to(most_step[:, :, 0, 0], (most_step.shape[0], length - 1))
    else:
        steps = jnp.where(edges(chain), most_step[:, :, 0, 0], 0)
        shift = total(jnp.where(chain.mask, most[:, :, 0], 0))
        masks = chain.mask.T, edges(chain).T
    return Scaled(unary, jnp.moveaxis(transitions, 1, 0), shift + total(steps), masks)


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


def two_passes(potentials: Scaled) -> Passes:
    """a, b and c by a loop in each direction."""
    return (_passes if potentials.transitions.shape[0] == 1 else _passes_by_edge)(potentials)


def _passes(potentials: Scaled) -> Passes:
    """Two passes of chains with the same transitions at all edges.

    A step is a matrix product and a product of entries: a state is divided by its sum in the step
    after it, so that the sum is one more column of the matrix product; and so are those of b and of
    w b / c.
    """
    unary, matrix, masks = potentials.unary, potentials.transitions[0], potentials.masks
    _, batch, k = unary.shape
    here = None if masks is None else masks[0][:, :, None]
    flipped = jnp.swapaxes(matrix, 1, 2)
    ones = jnp.ones((*matrix.shape[:2], 1), matrix.dtype)
    forwards = jnp.concatenate([matrix, ones], 2)
    backwards = jnp.concatenate([flipped, jnp.sum(flipped, 2, keepdims=True), ones], 2)
    # As they are: a product with a matrix that is still to be transposed takes longer.
    forwards, backwards = lax.optimization_barrier((forwards, backwards))

    def forth(carry: tuple[Array, Array | None], inputs: Tree) -> tuple[Tree, Tree]:
        before, state = carry
        unary, here = inputs
        new = before[:, :k] * (unary * (1 / before[:, k:]))
        after = times(new, forwards)
        constant = after[:, k:]
        new = new * (1 / constant)
        if here is None or state is None:
            return (after, None), (new, constant)
        after, new = jnp.where(here, after, before), jnp.where(here, new, state)
        return (after, new), (new, jnp.where(here, constant, 1))

    def back(later: Array, inputs: Tree) -> tuple[Array, Array]:
        unary, inverse, here = inputs
        new = times(unary * (later[:, :k] * inverse), backwards)
        return new if here is None else jnp.where(here, new, later), later

    before = jnp.ones((batch, k + 1), unary.dtype)
    state = None if here is None else jnp.full((batch, k), 1 / k, unary.dtype)
    _, (states, constants) = lax.scan(forth, (before, state), (unary, here))
    last = jnp.ones((batch, k + 2), unary.dtype).at[:, k].set(k)
    _, laters = lax.scan(back, last, (unary, 1 / constants, here), reverse=True)
    return Passes(states, laters[:, :, :k], constants, laters[:, :, k], laters[:, :, k + 1])


def _passes_by_edge(potentials: Scaled) -> Passes:
    each, masks = potentials.transitions, potentials.masks
    after = None if masks is None else (masks[0][1:], masks[1])

    def forth(state: Array, inputs: Tree) -> tuple[Array, tuple[Array, Array]]:
        new = step_forward(state, *inputs)
        return new[0], new

    def back(later: Array, inputs: Tree) -> tuple[Array, Array]:
        scaled, matrix, masks = inputs
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
    laters = jnp.concatenate([laters, last[None]])
    return Passes(states, laters, constants, jnp.sum(laters, 2))


def both_at_once(potentials: Scaled) -> Passes:
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
    return Passes(states, laters, constants, jnp.sum(laters, 2))


def _reversed(inputs: Tree) -> Tree:
    unary, each, masks = inputs
    return (
        unary[::-1],
        None if each is None else each[::-1],
        None if masks is None else (masks[0][::-1], masks[1][::-1]),
    )


def finished(chain: Chain, potentials: Scaled, passes: Passes) -> Sums:
    """What follows from a, b and c."""
    states, laters, constants, stakes, ahead = passes
    inverse = 1 / constants
    weights = (potentials.unary * (laters * inverse))[1:]
    marginals, stakes = states * laters, stakes * inverse[:, :, 0]
    if potentials.masks is not None:
        taking_part, following = potentials.masks
        marginals = jnp.where(taking_part[:, :, None], marginals, 0)
        weights = jnp.where(following[:, :, None], weights, 0)
        stakes = jnp.where(taking_part, stakes, 0)
    limit = LOSS / jnp.finfo(states.dtype).tiny
    # What is lost in a P is multiplied by the weights of the next position, and divided by c.
    ahead = (jnp.sum(weights, 2) if ahead is None else ahead[:-1]) * inverse[:-1, :, 0]
    if potentials.masks is not None:
        ahead = jnp.where(potentials.masks[0][:-1], ahead, 0)
    # False where it is not a number.
    reliable = jnp.all(stakes < limit, 0) & jnp.all(ahead < limit, 0)
    value = potentials.shift + total(jnp.log(constants[:, :, 0]).T)
    if chain.homogeneous:
        weights = jnp.pad(weights, ((0, 1), (0, 0), (0, 0)))
        pairs = jnp.zeros((states.shape[1], *chain.transitions.shape[1:]), states.dtype)
    else:
        exact = lax.Precision.HIGHEST
        pairs = jnp.einsum("tbi,tbj->btij", states[:-1], weights, precision=exact)
        pairs = jnp.moveaxis(potentials.transitions, 1, 0) * pairs

    def ordered(x: Array) -> Array:
        return jnp.swapaxes(x, 1, 2) if batch_last(chain) else x

    found = Sums(value, ordered(marginals), pairs, None, None, reliable.astype(states.dtype))
    if chain.homogeneous:
        return found._replace(states=ordered(states), weights=ordered(weights))
    return found


def filtered(passes: Passes) -> Float[Array, "T K B"]:
    """log P(state at t, given the potentials up to t)."""
    return jnp.log(jnp.swapaxes(passes.states, 1, 2))


def mended(chain: Chain, fast: Sums, exact: tuple[Array, Array, Array]) -> Sums:
    """What is reliable, and log Z, marginals and pairs of all other chains from elsewhere."""
    reliable = fast.reliable > 0
    steps = reliable[None, None] if batch_last(chain) else reliable[None, :, None]
    log_z, marginals, pairs = exact
    return Sums(
        jnp.where(reliable, fast.log_partition, log_z),
        jnp.where(steps, fast.marginals, in_order(chain, marginals)),
        jnp.where(reliable[:, None, None, None], fast.pairs, pairs),
        None if fast.states is None else jnp.where(steps, fast.states, 0),
        None if fast.weights is None else jnp.where(steps, fast.weights, 0),
        fast.reliable,
    )
