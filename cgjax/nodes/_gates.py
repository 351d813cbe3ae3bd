"""Decisions between two values: the probability of either, and its logarithm, to all digits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

Nodes = Float[Array, "*nodes"]

_CLOSE = 1e-4


class Gate(NamedTuple):
    """The probability that a gate is open, and that it is closed.

    Attributes:
        open, closed: the probabilities, each to all digits where it is small.
        log_open, log_closed: their logarithms.
    """

    open: Nodes
    closed: Nodes
    log_open: Nodes
    log_closed: Nodes

    @classmethod
    def of_log_odds(cls, log_odds: Nodes) -> "Gate":
        """A gate that is open with probability sigmoid(log_odds)."""
        likely = log_odds > 0
        rarer = jax.nn.sigmoid(jnp.where(likely, -log_odds, log_odds))
        return cls(
            jnp.where(likely, 1 - rarer, rarer),
            jnp.where(likely, rarer, 1 - rarer),
            jax.nn.log_sigmoid(log_odds),
            jax.nn.log_sigmoid(-log_odds),
        )

    @classmethod
    def of_rarer(cls, probability: Nodes, log: Nodes, rarely_open: Bool[Array, "*nodes"]) -> "Gate":
        """A gate by the probability of what is rarer, up to 1/2, and its logarithm."""
        rest, log_rest = 1 - probability, jnp.log1p(-probability)
        return cls(
            jnp.where(rarely_open, probability, rest),
            jnp.where(rarely_open, rest, probability),
            jnp.where(rarely_open, log, log_rest),
            jnp.where(rarely_open, log_rest, log),
        )

    def entropy(self) -> Nodes:
        """-sum P log P, in nats."""
        terms = ((self.open, self.log_open), (self.closed, self.log_closed))
        zero = jnp.zeros_like(self.open)
        return sum((-p * jnp.where(p == 0, zero, log) for p, log in terms), zero)


def ramp(e: Nodes, low: float, high: float) -> Gate:
    """A gate that is closed below `low`, open above `high`, and opens evenly between them."""
    position = jnp.clip(e, low, high)
    opens, closes = (position - low) / (high - low), (high - position) / (high - low)
    logs = (jnp.where(p == 0, -jnp.inf, jnp.log(jnp.where(p == 0, 1, p))) for p in (opens, closes))
    return Gate(opens, closes, *logs)


def is_value(x: Nodes, value: Nodes, dtype: DTypeLike) -> Bool[Array, "*nodes"]:
    """Whether x is a value that was computed in a dtype, as far as computing it again may tell."""
    close = max(_CLOSE, 16 * float(jnp.finfo(dtype).eps))
    return (x == value) | (jnp.abs(x - value) <= close * jnp.abs(value))
