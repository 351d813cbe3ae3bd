"""Draws chain_graph.svg: the chain graph of a small recurrent network with a skip connection.

python -m docs.figures.chain_graph
"""

import pathlib

import jax
import jax.numpy as jnp

import cgjax as cg


def net(sequence: jax.Array) -> jax.Array:
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


def main() -> None:
    """Prints the graph and draws it."""
    graph = cg.chain_graph(net)(jax.ShapeDtypeStruct((28, 16), jnp.float32))
    print(graph)
    graph.draw(pathlib.Path(__file__).parent / "chain_graph.svg")


if __name__ == "__main__":
    main()
