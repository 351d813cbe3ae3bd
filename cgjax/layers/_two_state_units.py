"""Units that are Markov chains of two states, as nodes and as a fused component.

Told of the past, a unit is one Bernoulli node a step, which depends on the last one; told of all
inputs, it is one `LinearChain`. Collapsed, both are computed by the recursion of
`cgjax.kernels.chains.two_state_filter`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cgjax import nodes
from cgjax._cache import recent
from cgjax._component import component
from cgjax._node import node
from cgjax._static import Function, Tree
from cgjax.kernels.chains import TwoStateChain, two_state_filter, two_state_smoother

GivenName = Literal["past", "all"]

# The log-odds of a node that is 0: finite, so that no derivative and no moment is 0 times infinity.
_NEVER = -1e4
# A bound of mixtures is below what it bounds, so that no derivative is one of a tie.
_BELOW = 0.999


class Units(NamedTuple):
    """All that a layer of units is told; the axis of time comes first.

    Attributes:
        evidence: the log-likelihood ratio of state 1 at each step.
        stay: log-odds of staying in state 0 and in state 1.
        start: log-odds of state 1 before anything is known.
        initial: the probability of state 1 before the first step, or None.
        gate: log-odds that a step remembers the last one, or None: all do.
        mask: which steps take part, or None: all do.
    """

    evidence: Float[Array, "T *batch features"]
    stay: Float[Array, "two features"]
    start: Float[Array, " features"]
    initial: Float[Array, "*batch features"] | None
    gate: Float[Array, "T *batch features"] | None
    mask: Bool[Array, "T *batch one"] | None


@recent(64)
def two_state_units(given: GivenName, name: str) -> Function:
    """The units as a component: `run(units)` is the probability of state 1, or what is sampled."""
    reference = {"past": _past, "all": _all}[given]
    collapsed = {"past": two_state_filter, "all": two_state_smoother}[given]

    def walked(units: Units) -> Array:
        return reference(name, _prepared(units))

    def feed_forward(units: Units) -> Array:
        units = _prepared(units)
        chain = TwoStateChain(
            units.evidence, _log_steps(units), _first_log_odds(units, _gates_of(units)), units.mask
        )
        states = jax.nn.sigmoid(collapsed(chain))
        return states if units.mask is None else jnp.where(units.mask, states, 0)

    return component(walked, feed_forward=feed_forward)


def _prepared(units: Units) -> Units:
    """Parameters with all axes of a step; nothing is remembered where there is nothing before."""
    axes = (1,) * (units.evidence.ndim - 2) + (-1,)
    gate, first = units.gate, _firsts(units)
    if gate is not None:
        if units.mask is not None:
            gate = jnp.where(units.mask, gate, _NEVER)
        if first is not None:
            gate = jnp.where(first, _NEVER, gate)
    return units._replace(
        stay=units.stay.reshape(2, *axes), start=units.start.reshape(axes), gate=gate
    )


def _firsts(units: Units) -> Array | None:
    """Where a sequence begins with nothing known before it, (T, ..., 1)."""
    if units.initial is not None:
        return None
    return _firsts_taking_part(units)


def _firsts_taking_part(units: Units) -> Array:
    if units.mask is None:
        steps = jnp.arange(len(units.evidence)) == 0
        return steps.reshape(-1, *(1,) * (units.evidence.ndim - 1))
    return units.mask & (lax.cumsum(units.mask.astype(jnp.int32), 0) == 1)


# -- probabilities of steps


def _predicted(units: Units, state: Array, gate: Array | None) -> Array:
    """The log-odds of state 1 a step after `state`, a probability or a value in {0, 1}.

    Sums of positive numbers: the probabilities of both states are right in all their digits.
    """

    def log_prob(sign: int) -> Array:
        after = jax.nn.sigmoid(sign * jnp.stack([-units.stay[0], units.stay[1]]))
        found, least = after[0] * (1 - state) + after[1] * state, jnp.min(after, 0)
        if gate is not None:
            anew = jax.nn.sigmoid(sign * units.start)
            found, least = gate * found + (1 - gate) * anew, jnp.minimum(least, anew)
        return _log_mixture(found, least)

    return log_prob(1) - log_prob(-1)


def _log_mixture(probability: Array, least: Array) -> Array:
    """The logarithm of a mixture of probabilities, given the least of them.

    The bound changes no mixture. It is there for moments, in which weights are Gaussian variables.
    """
    bound = lax.stop_gradient(jnp.maximum(_BELOW * least, jnp.finfo(least.dtype).tiny))
    return jnp.log(jnp.maximum(probability, bound))


def _first_log_odds(units: Units, gates: Array | None) -> Array:
    """The log-odds of state 1 at the first step that takes part, before its evidence."""
    if units.initial is None:
        return units.start
    gate = gates
    if gates is not None and len(gates):
        gate = jnp.sum(jnp.where(_firsts_taking_part(units), gates, 0), 0)
    return _predicted(units, units.initial, gate)


def _log_stay(units: Units) -> Array:
    """Logarithms of the probabilities of steps that remember, (2, 2, ..., features)."""
    stay = units.stay
    into0 = jax.nn.log_sigmoid(jnp.stack([stay[0], -stay[1]]))
    into1 = jax.nn.log_sigmoid(jnp.stack([-stay[0], stay[1]]))
    return jnp.stack([into0, into1], 1)


def _log_steps(units: Units) -> Array:
    """Logarithms of the probabilities of steps, (2, 2, T or 1, ..., features)."""
    steps = _log_stay(units)[:, :, None]
    if units.gate is None:
        return steps
    anew = jax.nn.log_sigmoid(jnp.stack([-units.start, units.start]))[None, :, None]
    kept, forgotten = (jax.nn.log_sigmoid(s * units.gate)[None, None] for s in (1, -1))
    return jnp.logaddexp(kept + steps, forgotten + anew)


# -- as nodes


def _gates(name: str, units: Units) -> Array | None:
    """The nodes of the gates."""
    if units.gate is None:
        return None
    return node(nodes.Bernoulli(), units.gate, name=f"{name}_gate")


def _gates_of(units: Units) -> Array | None:
    """The gates' activations."""
    return None if units.gate is None else jax.nn.sigmoid(units.gate)


def _past(name: str, units: Units) -> Array:
    """One node a step, given the last one and the evidence."""
    start, mask = units.start, units.mask
    gates, firsts = _gates(name, units), _firsts(units)

    def step(state: Array, inputs: Tree) -> tuple[Array, Array]:
        evidence, gate, first, here = inputs
        before = _predicted(units, state, gate)
        if first is not None:
            before = jnp.where(first, start, before)
        e = evidence + before
        if here is None:
            state = node(nodes.Bernoulli(), e, name=name)
            return state, state
        new = node(nodes.Bernoulli(), jnp.where(here, e, _NEVER), name=name)
        return jnp.where(here, new, state), new

    one = jnp.zeros(units.evidence.shape[1:], units.evidence.dtype)
    initial = one if units.initial is None else units.initial
    return lax.scan(step, initial, (units.evidence, gates, firsts, mask))[1]


def _all(name: str, units: Units) -> Array:
    """One node for each unit: the chain of all its states given all the evidence."""
    gates = _gates(name, units)
    first = _first_log_odds(units, gates)
    start = jax.nn.log_sigmoid(jnp.stack([-first, first], -1))
    if gates is None:
        steps = jnp.moveaxis(_log_stay(units), (0, 1), (-2, -1))[..., None, :, :]
    else:
        kept = jnp.exp(_log_stay(units))[:, :, None]
        anew = jax.nn.sigmoid(jnp.stack([-units.start, units.start]))[None, :, None]
        gate = gates[1:][None, None]
        steps = _log_mixture(gate * kept + (1 - gate) * anew, jnp.minimum(kept, anew))
        steps = jnp.moveaxis(steps, (2, 0, 1), (-3, -2, -1))
    evidence = jnp.moveaxis(units.evidence, 0, -1)
    mask = None if units.mask is None else jnp.moveaxis(units.mask, 0, -1)
    family = nodes.LinearChain(steps, start, mask=mask)
    scores = jnp.stack([jnp.zeros_like(evidence), evidence], -1)
    return jnp.moveaxis(node(family, scores, name=name)[..., 1], -1, 0)
