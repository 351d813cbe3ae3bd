"""Draws refinement.svg, refinement_recursion.svg and refinement_shared.svg: a refinement module,
one that is refined again, and the same with shared samples.

python -m docs.figures.refinement
"""

import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

import cgjax as cg

WIDTH = 8

Samples = Literal["independent", "shared"]
DRAWN: dict[str, tuple[int, Samples]] = {
    "refinement": (1, "independent"),
    "refinement_recursion": (2, "independent"),
    "refinement_shared": (2, "shared"),
}


def refined(base: Any, level: str, rngs: nnx.Rngs, samples: Samples) -> cg.layers.Refinement:
    """The base, refined through a copy of its nodes and one more component Z."""

    def linear() -> nnx.Linear:
        return nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    between = cg.layers.Node(cg.nodes.ReLU(), name=f"Z{level}")
    return cg.layers.Refinement(
        base, nnx.Sequential(linear(), between, linear()), samples=samples, name=f"X{level}"
    )


def graph(depth: int, samples: Samples) -> cg.ChainGraph:
    """Of a network whose only layer is refined so many times."""
    rngs = nnx.Rngs(0)
    network: Any = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
    for level in range(1, depth + 1):
        network = refined(network, str(level) if depth > 1 else "", rngs, samples)

    def net(x: jax.Array) -> jax.Array:
        return cg.node(cg.nodes.ReLU(), network(x), name="X")

    return cg.chain_graph(net)(jax.ShapeDtypeStruct((WIDTH,), jnp.float32))


def main() -> None:
    """Prints the graphs and draws them."""
    folder = pathlib.Path(__file__).parent
    for name, (depth, samples) in DRAWN.items():
        drawn = graph(depth, samples)
        print(drawn, end="\n\n")
        drawn.draw(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
