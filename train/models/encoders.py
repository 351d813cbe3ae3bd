"""Layers of hidden nodes that see a sentence: what a tagger knows about each of its words.

Of H hidden nodes and I inputs a word:

    window      H nodes of an affine map                           H (I + 1) parameters
    recurrent   independent recurrences, H / 2 nodes each way      H (I + 2)
    bayesian    Bayesian recurrent units, given all the words      H (I + 4)
    gru         gated recurrent units, n each way: as many as fit  6 n (n + I + 1) <= H (I + 2)
    gru_wide    gated recurrent units, H / 2 each way              3 H (H / 2 + I + 1)

So all have about as many parameters but the last one, which has as many nodes. A Bayesian recurrent
unit is told of both directions by one set of weights (Garner and Tong 2020).
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

import cgjax as cg
from cgjax.layers import BayesianRecurrent, GatedRecurrent, IndependentRecurrent
from train.tagging.settings import Encoder

Words = Float[Array, "sentences words n"]
Lengths = Int[Array, " sentences"]


class Window(nnx.Module):
    """ReLU nodes of what is known about a word and its neighbours."""

    def __init__(self, inputs: int, hidden: int, rngs: nnx.Rngs):
        self.affine = nnx.Linear(inputs, hidden, rngs=rngs)
        self.nodes = hidden

    def __call__(self, v: Words, lengths: Lengths) -> Words:
        """The hidden nodes."""
        return cg.node(cg.nodes.ReLU(), self.affine(v), name="hidden")


class BothWays(nnx.Module):
    """Two recurrences, from the beginning of each sentence and from its end."""

    def __init__(self, made: Callable[[str], Callable[[Words], Words]], nodes: int):
        self.forward, self.backward = made("forward"), made("backward")
        self.nodes = nodes

    def __call__(self, v: Words, lengths: Lengths) -> Words:
        """The states of both."""
        order = _backwards(lengths, v.shape[1])
        behind = self.backward(jnp.take_along_axis(v, order, 1))
        return jnp.concatenate([self.forward(v), jnp.take_along_axis(behind, order, 1)], -1)


class Smoothed(nnx.Module):
    """Bayesian recurrent units, given the whole sentence."""

    def __init__(self, inputs: int, hidden: int, rngs: nnx.Rngs):
        self.units = BayesianRecurrent(inputs, hidden, given="all", name="hidden", rngs=rngs)
        self.nodes = hidden

    def __call__(self, v: Words, lengths: Lengths) -> Words:
        """The units' marginals."""
        return self.units(v, lengths=lengths)


def encoder(
    name: Encoder, inputs: int, hidden: int, rngs: nnx.Rngs
) -> Window | BothWays | Smoothed:
    """The hidden layer of a name; its `nodes` are what it hands on for each word.

    Args:
        name: as above.
        inputs: numbers for each word.
        hidden: nodes of all layers but the narrow one of gated units.
        rngs: the source of randomness of the initial weights.
    """
    match name:
        case "window":
            return Window(inputs, hidden, rngs)
        case "bayesian":
            return Smoothed(inputs, hidden, rngs)
        case "recurrent":
            half = hidden // 2
            independent = lambda name: IndependentRecurrent(inputs, half, name=name, rngs=rngs)  # noqa: E731
            return BothWays(independent, hidden)
        case "gru" | "gru_wide":
            half = hidden // 2 if name == "gru_wide" else _fitting(inputs, hidden)
            gated = lambda name: GatedRecurrent(inputs, half, name=name, rngs=rngs)  # noqa: E731
            return BothWays(gated, 2 * half)


def _fitting(inputs: int, hidden: int) -> int:
    """How many gated units each way have no more parameters than independent recurrences."""
    fits = lambda n: 6 * n * (n + inputs + 1) <= hidden * (inputs + 2)  # noqa: E731
    return max((n for n in range(1, hidden) if fits(n)), default=1)


def _backwards(lengths: Lengths, size: int) -> Int[Array, "sentences words 1"]:
    """The positions of each sentence from its end to its beginning, and then those of the
    padding."""
    place, last = jnp.arange(size)[None], lengths[:, None] - 1
    return jnp.where(place <= last, last - place, place)[..., None]
