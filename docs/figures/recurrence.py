"""Draws recurrence.svg: the chain graph of two independent recurrent layers with a skip connection.

python -m docs.figures.recurrence
"""

import pathlib

import jax
import jax.numpy as jnp
from flax import nnx

import cgjax as cg


class Net(nnx.Module):
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


def main() -> None:
    """Prints the graph and draws it."""
    graph = cg.chain_graph(Net(nnx.Rngs(0)))(jax.ShapeDtypeStruct((784, 1), jnp.float32))
    print(graph)
    graph.draw(pathlib.Path(__file__).parent / "recurrence.svg")


if __name__ == "__main__":
    main()
