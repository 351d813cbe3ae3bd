"""A recurrent network that reads a text character by character, as a latent-variable model ([C]).

    S_t ~ P(S given e_t),    e_t = A[x_{t-1}] + U s_{t-1} + b        (Spin, two-valued)
    X_t ~ P(X given V s_t + c)                                      (Categorical)

Collapsed, s_t = tanh(e_t): the usual recurrent network. Sampled, it is a model with latent nodes,
whose guide reads the character that follows, too:

    q(S_t given s_{t-1}, x_{t-1}, x_t) = P(S given e_t + G[x_t])
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

import cgjax as cg

SPIN, TEXT = cg.nodes.Spin(), cg.nodes.Categorical()


class Weights(NamedTuple):
    """Of the network, and of its guide."""

    read: Float[Array, "symbols states"]  # A
    recurrent: Float[Array, "states states"]  # U, transposed
    bias: Float[Array, " states"]  # b
    output: Float[Array, "states symbols"]  # V, transposed
    output_bias: Float[Array, " symbols"]  # c
    seen: Float[Array, "symbols states"]  # G


def initial(key: Key[Array, ""], symbols: int, states: int) -> Weights:
    """Weights before training: an orthogonal U, other matrices whose products have a variance of 1,
    and a guide that knows no more than the model."""
    read, recurrent, output = jax.random.split(key, 3)
    return Weights(
        read=0.5 * jax.random.normal(read, (symbols, states)),
        recurrent=jax.random.orthogonal(recurrent, states),
        bias=jnp.zeros(states),
        output=jax.random.normal(output, (states, symbols)) / states**0.5,
        output_bias=jnp.zeros(symbols),
        seen=jnp.zeros((symbols, states)),
    )


def _states(weights: Weights, inputs: Float[Array, "time states"]) -> Float[Array, "time states"]:
    def step(state: Array, x: Array) -> tuple[Array, Array]:
        state = cg.node(SPIN, x + state @ weights.recurrent, name="state")
        return state, state

    return lax.scan(step, jnp.zeros_like(inputs[0]), inputs + weights.bias[None])[1]


def logits(weights: Weights, before: Int[Array, " time"]) -> Float[Array, "time symbols"]:
    """Natural parameters of the characters behind those given, as a network."""
    states = _states(weights, weights.read[before])
    return states @ weights.output + weights.output_bias[None]


def model(weights: Weights, before: Int[Array, " time"]) -> Float[Array, "time symbols"]:
    """The characters behind those given, which are a node."""
    return cg.node(TEXT, logits(weights, before), name="text")


def guide(
    observed: Mapping[str, Array], weights: Weights, before: Int[Array, " time"]
) -> Float[Array, "time states"]:
    """Proposals of the states."""
    after = observed["text"].argmax(-1)
    return _states(weights, weights.read[before] + weights.seen[after])


def proposed(
    weights: Weights, text: Int[Array, " time+1"]
) -> tuple[Float[Array, "time symbols"], Float[Array, " time"]]:
    """The network with states of the guide: natural parameters of the characters behind the first
    one, and how far the guide's law of a step's states is from the model's, in nats, as a network
    whose nodes are the states."""

    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        read, seen = inputs
        e = read + state @ weights.recurrent
        state = cg.node(SPIN, e + seen, name="state")
        return state, (state, SPIN.kl(e + seen, SPIN, e).sum())

    inputs = weights.read[text[:-1]] + weights.bias[None], weights.seen[text[1:]]
    states, divergences = lax.scan(step, jnp.zeros_like(weights.bias), inputs)[1]
    return states @ weights.output + weights.output_bias[None], divergences
