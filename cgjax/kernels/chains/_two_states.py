"""Chains of two states as numbers: the log-odds of state 1, element by element.

With potentials A of steps, log-odds p of state 1 before its evidence a is read, and s after it,

    f(s) = log(e^A01 + e^(A11 + s)) - log(e^A00 + e^(A10 + s)),
    p_t = f(s_{t-1}),   s_t = a_t + p_t

is the forward recursion, and the backward one is the same of the transposed A from the other end.
Nothing underflows, whatever the potentials are. The derivative is a linear recurrence, whose
coefficients are probabilities and are computed for all steps at once:

    dp_t = (w1 - w0) ds_{t-1} + (1 - w1) dA01 + w1 dA11 - (1 - w0) dA00 - w0 dA10,
    wj = P(state 1 at t - 1, given state j at t and the evidence before) = sigmoid(s + A1j - A0j)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cgjax._static import Tree


class TwoStateChain(NamedTuple):
    """Independent chains with two states at each of T positions; the leading axis is time.

        score(z) = start z_1 + sum_t evidence[t] z_t + sum_t transitions[z_{t-1}, z_t, t]

    A masked position is skipped, and its neighbours become adjacent, as in `Chain`.

    Attributes:
        evidence: the potential of state 1 less that of state 0, (T, *chains), finite.
        transitions: of the step from state i to state j, (2, 2, T or 1, *chains), finite; those at
            t lead to position t, and where it is the first they are not read. Axes of chains may
            have size 1.
        start: the log-odds of state 1 at the first position before its evidence, (*chains).
        mask: where a position takes part, (T, *chains) with axes of chains that may have size 1;
            None: everywhere.
    """

    evidence: Float[Array, "T *chains"]
    transitions: Float[Array, "two two t *_chains"]
    start: Float[Array, "*_chains"]
    mask: Bool[Array, "T *_chains"] | None = None


def two_state_filter(chain: TwoStateChain) -> Float[Array, "T *chains"]:
    """The log-odds of state 1 given the potentials up to each position.

    Derivatives of every order, by a loop of one product and one sum a step.

    Args:
        chain: the chains.

    Returns:
        s, (T, *chains). At a masked position those of the last one before it, or the start.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from cgjax.kernels.chains import TwoStateChain, two_state_filter
        >>> steps = jnp.log(jnp.array([[0.8, 0.2], [0.2, 0.8]]))[:, :, None]
        >>> chain = TwoStateChain(jnp.array([2.0, 0.0, 0.0]), steps, jnp.array(0.0))
        >>> print((100 * jax.nn.sigmoid(two_state_filter(chain))).round())  # per cent
        [88. 73. 64.]

    Source: Garner and Tong, "A Bayesian approach to recurrence in neural networks", 2020; Bittar
    and Garner, "Bayesian recurrent units and the forward-backward algorithm", 2022.
    """
    evidence = _evidence(chain)
    return evidence + _before_evidence(chain._replace(evidence=evidence))


def two_state_smoother(chain: TwoStateChain) -> Float[Array, "T *chains"]:
    """The log-odds of state 1 given all potentials: the filter, and one from the other end.

    Args:
        chain: the chains.

    Returns:
        The log-odds of the marginals, (T, *chains); at masked positions they mean nothing.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from cgjax.kernels.chains import TwoStateChain, two_state_smoother
        >>> steps = jnp.log(jnp.array([[0.8, 0.2], [0.2, 0.8]]))[:, :, None]
        >>> chain = TwoStateChain(jnp.array([0.0, 0.0, 2.0]), steps, jnp.array(0.0))
        >>> print((100 * jax.nn.sigmoid(two_state_smoother(chain))).round())  # per cent
        [64. 73. 88.]

    Source: as `two_state_filter`.
    """
    evidence = _evidence(chain)
    chain = chain._replace(evidence=evidence)
    return evidence + _before_evidence(chain) + _before_evidence(_from_the_end(chain))[::-1]


def _evidence(chain: TwoStateChain) -> Array:
    return chain.evidence if chain.mask is None else jnp.where(chain.mask, chain.evidence, 0)


def _from_the_end(chain: TwoStateChain) -> TwoStateChain:
    """The same chains read backwards, without what scores the first state."""
    steps, mask = jnp.swapaxes(chain.transitions, 0, 1), chain.mask
    if steps.shape[2] > 1:
        # A step has the potentials of the later of its two positions.
        steps = jnp.roll(steps, -1, 2) if mask is None else _of_the_next(steps, mask)
        steps = steps[:, :, ::-1]
    backwards = None if mask is None else mask[::-1]
    return TwoStateChain(chain.evidence[::-1], steps, jnp.zeros_like(chain.start), backwards)


def _of_the_next(steps: Array, mask: Array) -> Array:
    """For each position the potentials at the next one that takes part."""
    length = len(mask)
    turns = jnp.arange(length, dtype=jnp.int32).reshape(-1, *(1,) * (mask.ndim - 1))
    here = jnp.where(mask, turns, length - 1)
    after = jnp.concatenate([here[1:], here[-1:]])
    where = lax.cummin(jnp.minimum(after, length - 1), 0, reverse=True)
    shape = jnp.broadcast_shapes(where.shape, steps.shape[2:])
    steps = jnp.broadcast_to(steps, (2, 2, *shape))
    return jnp.take_along_axis(steps, jnp.broadcast_to(where, shape)[None, None], 2)


def _stepped(state: Array, steps: tuple[Array, Array, Array]) -> Array:
    """f, by two exponentials and one logarithm: right for large states, and without underflow.

    f(s) = base + max(s + c1, 0) - max(s + c0, 0) + log((1 + e^-|s + c1|) / (1 + e^-|s + c0|))
    """
    base, c0, c1 = steps
    # The difference of the maxima, without subtracting large numbers.
    ramp = jnp.sign(c1 - c0) * jnp.clip(state + jnp.maximum(c0, c1), 0, jnp.abs(c1 - c0))
    ratio = (1 + jnp.exp(-jnp.abs(state + c1))) / (1 + jnp.exp(-jnp.abs(state + c0)))
    return base + ramp + jnp.log(ratio)


def _log_odds(transitions: Array) -> tuple[Array, Array, Array]:
    """The log-odds of state 1 after state 0, and of state 1 before states 0 and 1, of a step."""
    (a00, a01), (a10, a11) = transitions
    return a01 - a00, a10 - a00, a11 - a01


def _turns(chain: TwoStateChain) -> Tree:
    """What each turn after the first reads: whether its position takes part, and is the first."""
    if chain.mask is None:
        return None
    begun = lax.cumsum(chain.mask.astype(jnp.int32), 0)
    return chain.mask[1:], (begun == 1)[1:] & chain.mask[1:]


@jax.custom_jvp
def _before_evidence(chain: TwoStateChain) -> Array:
    """p, (T, *chains); the state carried over at a masked position, where the evidence is 0."""
    evidence, transitions, start, _ = chain
    if not len(evidence):
        return evidence
    base, c0, c1 = _log_odds(transitions)
    shared = base[0], c0[0], c1[0]
    each = None if len(base) == 1 else (base[1:], c0[1:], c1[1:])
    start = jnp.broadcast_to(start, evidence.shape[1:])

    def step(state: Array, inputs: Tree) -> tuple[Array, Array]:
        evidence, own, turn = inputs
        new = _stepped(state, shared if own is None else own)
        if turn is not None:
            new = jnp.where(turn[0], jnp.where(turn[1], start, new), state)
        return evidence + new, new

    _, after = lax.scan(step, start + evidence[0], (evidence[1:], each, _turns(chain)))
    return jnp.concatenate([start[None], after])


@_before_evidence.defjvp
def _before_evidence_jvp(primals: Tree, tangents: Tree) -> tuple[Array, Array]:
    (chain,), (change,) = primals, tangents
    before = _before_evidence(chain)
    if not len(before):
        return before, jnp.zeros_like(before)
    steps, moved = chain.transitions, change.transitions
    if steps.shape[2] > 1:
        steps, moved = steps[:, :, 1:], moved[:, :, 1:]
    state = (before + chain.evidence)[:-1]
    _, c0, c1 = _log_odds(steps)
    came0, came1 = jax.nn.sigmoid(state + c0), jax.nn.sigmoid(state + c1)
    slope = came1 - came0
    by_steps = (1 - came1) * moved[0, 1] + came1 * moved[1, 1]
    by_steps -= (1 - came0) * moved[0, 0] + came0 * moved[1, 0]
    first = jnp.broadcast_to(change.start, before.shape[1:])
    turns = _turns(chain)
    if turns is not None:
        slope = jnp.where(turns[0], jnp.where(turns[1], 0, slope), 1)
        by_steps = jnp.where(turns[0], jnp.where(turns[1], first, by_steps), 0)

    def step(changed: Array, inputs: Tree) -> tuple[Array, Array]:
        slope, by_steps, evidence = inputs
        new = slope * changed + by_steps
        return evidence + new, new

    inputs = slope, by_steps, change.evidence[1:]
    _, after = lax.scan(step, first + change.evidence[0], inputs)
    return before, jnp.concatenate([first[None], after])
