"""A narrow grid as a chain: the labels of a whole row are one state (the transfer matrix)."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cgjax.kernels.grids import Couplings, Labels
from cgjax.nodes._linear_chain import LinearChain

# Of a row. The chain has a matrix of all pairs of them.
MOST_STATES = 1024


def num_states(shape: tuple[int, ...]) -> int:
    """How many values the labels of a row along the shorter side have."""
    return shape[-1] ** min(shape[-3:-1])


class Strip(NamedTuple):
    """A grid as a chain of its rows; rows lie along the shorter side.

    Attributes:
        chain: of the states of rows.
        scores: of each state of each row, without what rows add to each other.
        states: the one-hot labels of a row in each state, (states, places, labels).
        turned: whether height and width change places.
    """

    chain: LinearChain
    scores: Float[Array, "rows states"]
    states: Float[Array, "states places labels"]
    turned: bool

    def labels(self, rows: Float[Array, "rows states"]) -> Labels:
        """The labels of rows in one-hot states, or their average under probabilities."""
        found = jnp.einsum("ts,swk->twk", rows, self.states)
        return jnp.swapaxes(found, 0, 1) if self.turned else found

    def marginals(self) -> Labels:
        """The exact marginals."""
        return self.labels(self.chain.mean(self.scores))

    def drawn(self, key: Key[Array, ""]) -> Labels:
        """An exact sample."""
        words = jax.random.bits(key, self.scores.shape, jnp.uint32)
        return self.labels(self.chain.from_words(words, self.scores))

    def best(self) -> Labels:
        """The most probable image of labels."""
        return self.labels(self.chain.mode(self.scores))

    def entropy(self) -> Float[Array, ""]:
        """In nats: rows in their states are all that an image is."""
        return self.chain.entropy(self.scores)

    def log_partition(self) -> Float[Array, ""]:
        """The logarithm of the sum over all images."""
        return self.chain.log_partition(self.scores)

    def log_prob(self, x: Labels) -> Float[Array, ""]:
        """The exact log-probability of one-hot labels."""
        rows = jnp.swapaxes(x, 0, 1) if self.turned else x
        alike = jnp.einsum("twk,swk->ts", rows, self.states)
        chosen = (alike == rows.shape[1]).astype(self.scores.dtype)
        return self.chain.log_prob(chosen, self.scores).sum()


def strip(e: Labels, couplings: Couplings) -> Strip:
    """A grid of scores as a chain of its rows."""
    turned = e.shape[0] < e.shape[1]
    rows, (along, within) = (jnp.swapaxes(e, 0, 1), couplings[::-1]) if turned else (e, couplings)
    places, labels = rows.shape[1:]
    numbers = list(itertools.product(range(labels), repeat=places))
    states = jnp.asarray(np.eye(labels)[np.array(numbers, int)], e.dtype)
    inside = jnp.einsum("swk,kl,swl->s", states[:, :-1], within, states[:, 1:])
    possible = jnp.where(states[None] > 0, rows[:, None], 0).sum((-2, -1))
    between = jnp.einsum("swk,kl,rwl->sr", states, along, states)
    return Strip(LinearChain(between), possible + inside[None], states, turned)
