"""Draws the chain graphs of the pages: of a small recurrent network with a skip connection, of two
independent recurrent layers, of refinement modules, of a transformer block with its operations, of
ResNet20, and of a network with branches.

python -m docs.figures.graphs
"""

import pathlib
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

import cgjax as cg
from train.models.resnet import ResNet

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


class Branches(nnx.Module):
    """Two modules of four branches each, side by side along the channels, as in Inception."""

    def __init__(self, rngs: nnx.Rngs):
        def convolution(inputs: int, outputs: int, side: int) -> nnx.Conv:
            return nnx.Conv(inputs, outputs, (side, side), rngs=rngs)

        self.stem = convolution(3, 8, 3)
        self.blocks = nnx.List(
            nnx.Dict(
                one=convolution(inputs, 4, 1),
                reduce_three=convolution(inputs, 4, 1),
                three=convolution(4, 8, 3),
                reduce_five=convolution(inputs, 2, 1),
                five=convolution(2, 4, 5),
                pooled=convolution(inputs, 4, 1),
            )
            for inputs in (8, 20)
        )
        self.output = nnx.Linear(20, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        for module in self.blocks:
            one = nnx.relu(module.one(x))
            three = nnx.relu(module.three(nnx.relu(module.reduce_three(x))))
            five = nnx.relu(module.five(nnx.relu(module.reduce_five(x))))
            pooled = nnx.relu(module.pooled(nnx.max_pool(x, (3, 3), (1, 1), "SAME")))
            x = jnp.concatenate([one, three, five, pooled], -1)
        return self.output(x.mean((1, 2)))


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
        "resnet20": graph(ResNet(rngs=nnx.Rngs(0)), 1, 32, 32, 3),
        "branches": graph(cg.lift(Branches(nnx.Rngs(0))), 1, 16, 16, 3),
        "operations": graph(cg.lift(Block(16, nnx.Rngs(0))), 10, 16, operations=True),
    }
    for name, made in graphs.items():
        print(made, end="\n\n")
        made.draw(pathlib.Path(__file__).parent / f"{name}.svg")
