"""The recursions on logarithms: right for every potential, and several times slower.

    alpha_t(j) = e_t(j) + log sum_i exp(alpha_{t-1}(i) + A_t(i, j))
    log Z = log sum_j exp alpha_T(j)

with alpha normalised at each step, so that log Z is a sum of small numbers.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cgjax._static import Tree
from cgjax.kernels.chains._chain import Chain, by_edge, edges, firsts, matrix_of, total


def log_sum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """log sum exp along an axis: -inf, with a derivative of 0, where nothing is possible."""
    largest = lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    largest = jnp.where(largest == -jnp.inf, 0, largest)
    sums = jnp.sum(jnp.exp(x - largest), axis)
    possible = sums != 0
    return jnp.where(possible, jnp.log(jnp.where(possible, sums, 1)), -jnp.inf) + jnp.squeeze(
        largest, axis
    )


def stepped(state: Float[Array, "B K"], transitions: Float[Array, "b K K"]) -> Array:
    """log sum_i exp(state_i + transitions_ij)."""
    return log_sum(state[:, :, None] + transitions, 1)


def per_step(chain: Chain) -> Tree:
    """What each turn of a loop over the steps reads: unary, transitions, whether the position takes
    part, and whether it follows another one. None where it is the same in all."""
    unary = jnp.moveaxis(chain.unary, 1, 0)[1:]
    masks = None
    if chain.mask is not None:
        masks = chain.mask.T[1:], edges(chain).T
    return unary, by_edge(chain.transitions), masks


def forward(chain: Chain) -> tuple[Float[Array, "T B K"], Float[Array, "T B"]]:
    """Logarithms of P(state at t, given the potentials up to t), and of their normalisers."""
    shared = chain.transitions[:, 0] if chain.homogeneous else None

    def normalised(x: Array) -> tuple[Array, Array]:
        constant = log_sum(x, 1)
        return x - jnp.where(constant == -jnp.inf, 0, constant)[:, None], constant

    @jax.checkpoint
    def step(state: Array, inputs: Tree) -> tuple[Array, tuple[Array, Array]]:
        unary, transitions, masks = inputs
        before = stepped(state, matrix_of(transitions, shared))
        if masks is not None:
            before = jnp.where(masks[1][:, None], before, 0)
        new, constant = normalised(before + unary)
        if masks is not None:
            new = jnp.where(masks[0][:, None], new, state)
            constant = jnp.where(masks[0], constant, 0)
        return new, (new, constant)

    first, constant = normalised(chain.unary[:, 0])
    if chain.mask is not None:
        first = jnp.where(chain.mask[:, :1], first, 0)
        constant = jnp.where(chain.mask[:, 0], constant, 0)
    _, (states, constants) = lax.scan(step, first, per_step(chain))
    return (
        jnp.concatenate([first[None], states]),
        jnp.concatenate([constant[None], constants]),
    )


def log_partition(chain: Chain) -> Float[Array, " B"]:
    """log Z; a plain function, which JAX may differentiate as often as it likes."""
    if not chain.length:
        return jnp.zeros(chain.unary.shape[0], chain.unary.dtype)
    value = total(forward(chain)[1].T)
    return jnp.where(value == -jnp.inf, -jnp.inf, value)  # a constant, of derivative 0


def sums(
    chain: Chain,
) -> tuple[Float[Array, " B"], Float[Array, "B T K"], Float[Array, "B E K K"]]:
    """log Z, and its derivatives by `unary` and by `transitions`, one for each chain."""
    states, constants = forward(chain)
    shared = chain.transitions[:, 0] if chain.homogeneous else None
    batch, _, k = chain.unary.shape
    unary, transitions, masks = per_step(chain)

    def back(carry: tuple[Array, Array | None], inputs: Tree) -> tuple[Tree, Tree]:
        later, pairs = carry
        unary, transitions, masks, before, constant = inputs
        matrix = matrix_of(transitions, shared)
        constant = jnp.where(constant == -jnp.inf, 0, constant)
        here = unary + later - constant[:, None]
        pair = _shares(before[:, :, None] + matrix + here[:, None], (1, 2))
        new = log_sum(matrix + here[:, None], 2)
        if masks is not None:
            pair = jnp.where(masks[1][:, None, None], pair, 0)
            new = jnp.where(masks[0][:, None], new, later)
        if pairs is None:
            return (new, None), (later, pair)
        return (new, pairs + pair), (later, None)

    start = jnp.zeros_like(states[0])
    pairs = jnp.zeros((batch, k, k), start.dtype) if chain.homogeneous else None
    inputs = unary, transitions, masks, states[:-1], constants[1:]
    (first, pairs), (laters, each) = lax.scan(back, (start, pairs), inputs, reverse=True)
    laters = jnp.concatenate([first[None], laters])
    marginals = jnp.moveaxis(_shares(states + laters, (2,)), 0, 1)
    if chain.mask is not None:
        marginals = jnp.where(chain.mask[:, :, None], marginals, 0)
    found = jnp.moveaxis(each, 0, 1) if pairs is None else pairs[:, None]
    value = total(constants.T)
    possible = (value != -jnp.inf)[:, None, None]
    marginals = jnp.where(possible, marginals, 0)
    return value, marginals, jnp.where(possible[..., None], found, 0)


def _shares(logits: Array, axes: tuple[int, ...]) -> Array:
    """Probabilities that sum to one, where any is possible: of large potentials, rounding is not
    small against one."""
    largest = jnp.max(logits, axes, keepdims=True)
    weights = jnp.exp(logits - jnp.where(largest == -jnp.inf, 0, largest))
    sums = jnp.sum(weights, axes, keepdims=True)
    return weights / jnp.where(sums == 0, 1, sums)


def reference(chain: Chain) -> tuple[Array, Array, Array]:
    """The same as `sums`, as the derivative that JAX finds: for derivatives of higher order."""

    def of(unary: Array, transitions: Array) -> Array:
        return log_partition(Chain(unary, transitions, chain.mask))

    batch = chain.unary.shape[0]
    # One for each chain, also where chains share transitions.
    transitions = jnp.broadcast_to(chain.transitions, (batch, *chain.transitions.shape[1:]))
    value, pull = jax.vjp(of, chain.unary, transitions)
    return value, *pull(jnp.ones_like(value))


def entropy(chain: Chain) -> Float[Array, " B"]:
    """-E[log P(path)]: that of the path up to t given its last state, carried along.

    H_t(j) = sum_i P(i | j) (H_{t-1}(i) - log P(i | j)),  P(i | j) prop. to alpha_{t-1}(i) A_t(i, j)

    less its average over j, so that what is carried does not grow; the averages are summed apart.
    """
    if not chain.length:
        return jnp.zeros(chain.unary.shape[0], chain.unary.dtype)
    states = forward(chain)[0]
    shared = chain.transitions[:, 0] if chain.homogeneous else None

    def average(logits: Array, given: Array, axis: int) -> Array:
        normaliser = jnp.expand_dims(log_sum(logits, axis), axis)
        possible = logits != -jnp.inf
        log_p = jnp.where(possible, logits - jnp.where(normaliser == -jnp.inf, 0, normaliser), 0)
        return jnp.sum(jnp.where(possible, jnp.exp(log_p) * (given - log_p), 0), axis)

    @jax.checkpoint
    def step(known: Array, inputs: Tree) -> tuple[Array, Array]:
        before, transitions, masks = inputs
        matrix = matrix_of(transitions, shared)
        new = average(before[:, :, None] + matrix, known[:, :, None], 1)
        level = lax.stop_gradient(jnp.mean(new, 1))
        new = new - level[:, None]
        if masks is not None:
            # Up to the first position there is nothing to know.
            new = jnp.where(masks[1][:, None], new, jnp.where(masks[0][:, None], 0, known))
            level = jnp.where(masks[1], level, 0)
        return new, level

    _, transitions, masks = per_step(chain)
    start = jnp.zeros_like(states[0])
    known, levels = lax.scan(step, start, (states[:-1], transitions, masks))
    possible = jnp.any(states[-1] > -jnp.inf, 1)
    value = average(states[-1], known, 1) + jnp.where(possible, total(levels.T), 0)
    if chain.mask is None:
        return value
    return jnp.where(jnp.any(firsts(chain), 1), value, 0)
