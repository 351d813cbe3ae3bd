"""Draws the chain graphs of the pages: of a small recurrent network with a skip connection, of two
independent recurrent layers, of refinement modules, and of a transformer block with its operations.

python -m docs.figures.graphs
"""

import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

import cgjax as cg

WIDTH = 8


def small(sequence: jax.Array) -> jax.Array:
    """A recurrent layer, dropout, a residual block and a classifier."""
    recurrent, first, second, classes = (0.1 * jnp.ones((16, 16)) for _ in range(4))

    def step(state, pixels):
        state = cg.node(cg.nodes.Spin(), pixels @ recurrent + state @ recurrent, name="state")
        return state, None

    state, _ = jax.lax.scan(step, jnp.zeros(16), sequence)
    keep = jnp.full((16,), 0.9)
    state = state * cg.noise(cg.nodes.BernoulliMask(), keep, name="drop") / keep
    with cg.scope("block"):
        inner = cg.node(cg.nodes.ReLU(), state @ first, name="inner")
        state = cg.node(cg.nodes.ReLU(), state + inner @ second, name="outer")
    return cg.node(cg.nodes.Categorical(), state @ classes, name="label")


class Recurrent(nnx.Module):
    """Two layers, the second refining the first, noise shared over time, and a classifier."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = cg.layers.IndependentRecurrent(1, 16, name="first", rngs=rngs)
        self.drop = cg.layers.Dropout(0.1, broadcast_dims=(-2,))
        self.second = cg.layers.IndependentRecurrent(16, 16, name="second", rngs=rngs)
        self.classifier = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, sequence: jax.Array) -> jax.Array:
        """The label of a sequence (time, 1)."""
        first = self.first(sequence)
        states = first + self.second(self.drop(first))
        return cg.node(cg.nodes.Categorical(), self.classifier(states[-1]), name="label")


def refined(depth: int, samples: Literal["independent", "shared"]) -> cg.ChainGraph:
    """Of a network whose only layer is refined so many times: each time through a copy of its nodes
    and one more component Z."""
    rngs = nnx.Rngs(0)
    network: Any = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
    for level in (str(k) if depth > 1 else "" for k in range(1, depth + 1)):
        below, above = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2))
        between = cg.layers.Node(cg.nodes.ReLU(), name=f"Z{level}")
        branch = nnx.Sequential(below, between, above)
        network = cg.layers.Refinement(network, branch, samples=samples, name=f"X{level}")

    def net(x: jax.Array) -> jax.Array:
        return cg.node(cg.nodes.ReLU(), network(x), name="X")

    return graph(net, WIDTH)


class Block(nnx.Module):
    """A block of a transformer."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


def graph(network: Callable[[Any], Any], *shape: int, operations: bool = False) -> cg.ChainGraph:
    """Of a network for inputs of a shape."""
    made = cg.chain_graph(network, operations=operations)
    return made(jax.ShapeDtypeStruct(shape, jnp.float32))


if __name__ == "__main__":
    graphs = {
        "chain_graph": graph(small, 28, 16),
        "recurrence": graph(Recurrent(nnx.Rngs(0)), 784, 1),
        "refinement": refined(1, "independent"),
        "refinement_recursion": refined(2, "independent"),
        "refinement_shared": refined(2, "shared"),
        "operations": graph(cg.lift(Block(16, nnx.Rngs(0))), 10, 16, operations=True),
    }
    for name, made in graphs.items():
        print(made, end="\n\n")
        made.draw(pathlib.Path(__file__).parent / f"{name}.svg")
