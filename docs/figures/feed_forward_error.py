"""When is feed-forward accurate? Its error in random binary networks, which [A] 2.2 argues about.

    python -m docs.figures.feed_forward_error            # measure (a minute), write the JSON, draw
    python -m docs.figures.feed_forward_error --draw     # draw from the JSON alone

Networks of layers of eight spins, weights drawn from N(0, scale^2 / 8), a random binary input. The
error of a network is the mean |answer - exact expectation| over its eight output nodes; told are
the mean and the worst over random networks. Beside feed-forward: Monte Carlo with 16 and 256
samples.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import cgjax as cg
from train import machine

ROOT = pathlib.Path(__file__).parent.parent.parent
RESULT = ROOT / "results" / "feed_forward_error" / "result.json"
FIGURE = pathlib.Path(__file__).parent / "feed_forward_error.svg"
WIDTH, NETWORKS, SEED = 8, 200, 0
SCALES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
DEPTHS = (2, 3, 4, 6, 8)  # one layer, whose parents are known, has no error
DEPTH = 4  # of the left panel
SCALES_OF_DEPTH = {0.2: "#e8c4c9", 0.5: "#de8f98", 1.0: "#d1495b", 2.0: "#7d1f2e"}
SAMPLES = (16, 256)
METHODS = {
    "feed-forward": ("#d1495b", "feed-forward"),
    "monte carlo 16": ("#8fb8de", "16 samples"),
    "monte carlo 256": ("#00304a", "256 samples"),
}


def net(weights: jax.Array, x: jax.Array) -> jax.Array:
    """The network: weights of shape (depth, WIDTH, WIDTH), input and output of shape (WIDTH,)."""
    for weight in weights:
        x = cg.node(cg.nodes.Spin(), x @ weight)
    return x


def errors(key: jax.Array, depth: int, scale: float) -> dict[str, jax.Array]:
    """The error of each way of inference in one random network."""
    weights_key, input_key, sample_key = jax.random.split(key, 3)
    weights = scale * jax.random.normal(weights_key, (depth, WIDTH, WIDTH)) / WIDTH**0.5
    x = jax.random.rademacher(input_key, (WIDTH,), jnp.float32)
    exact = cg.exact_marginals(net)(weights, x)
    answers = {"feed-forward": cg.feed_forward(net)(weights, x)}
    for number in SAMPLES:
        sampler = cg.monte_carlo(cg.forward_sample(net), number)
        answers[f"monte carlo {number}"] = sampler(sample_key, weights, x).mean
    return {name: jnp.abs(answer - exact).mean() for name, answer in answers.items()}


def measure() -> dict[str, Any]:
    """Both sweeps: mean and worst error of each way, over the same random directions."""
    keys = jax.random.split(jax.random.key(SEED), NETWORKS)

    def row(depth: int, scale: float) -> dict[str, Any]:
        found = programs[depth](keys, scale)
        told = {
            name: {"mean": float(error.mean()), "worst": float(error.max())}
            for name, error in found.items()
        }
        return {"depth": depth, "scale": scale, "errors": told}

    def program(depth: int) -> Callable[..., Any]:
        return jax.jit(jax.vmap(lambda key, scale: errors(key, depth, scale), (0, None)))

    programs = {depth: program(depth) for depth in DEPTHS}
    return {
        "command": "python -m docs.figures.feed_forward_error",
        "commit": machine.commit(),
        "machine": machine.identity("figure"),
        "settings": {"width": WIDTH, "networks": NETWORKS, "seed": SEED},
        "scales": [row(DEPTH, scale) for scale in SCALES],
        "depths": [row(depth, scale) for scale in SCALES_OF_DEPTH for depth in DEPTHS],
    }


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the two sweeps; the suffix of the path says the format."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True, layout="constrained")
    for name, (color, title) in METHODS.items():
        for statistic, style in [("mean", "o-"), ("worst", "o:")]:
            values = [row["errors"][name][statistic] for row in result["scales"]]
            label = f"{title}, {statistic}"
            axes[0].plot(SCALES, values, style, color=color, markersize=4, label=label)
    curves = [("feed-forward", scale, color) for scale, color in SCALES_OF_DEPTH.items()]
    for name, scale, color in [*curves, ("monte carlo 256", 1.0, METHODS["monte carlo 256"][0])]:
        rows = [row for row in result["depths"] if row["scale"] == scale]
        values = [row["errors"][name]["mean"] for row in rows]
        axes[1].plot(DEPTHS, values, "o-", color=color, markersize=4)
        label = f"  {METHODS[name][1]}, scale {scale}"
        axes[1].text(DEPTHS[-1], max(values[-1], 1.3e-5), label, color=color, va="center")
    axes[1].set_xlim(1.8, 11.6)
    axes[1].set_xticks(DEPTHS)
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_ylim(1e-5, 2)
    axes[0].set_xlabel(f"weight scale, {DEPTH} layers")
    axes[1].set_xlabel("number of layers; means")
    axes[0].set_ylabel("|answer $-$ exact expectation|")
    axes[0].legend(loc="lower right", frameon=False, fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    # Neither a date nor random identifiers: the same picture is the same file.
    plt.rcParams["svg.hashsalt"] = "cgjax"
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> int:
    """Measures unless told to draw only; prints, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw from the JSON, measure nothing")
    if not parser.parse_args().draw:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n")
    result = json.loads(RESULT.read_text())
    for row in result["scales"] + result["depths"]:
        told = ", ".join(f"{name} {e['mean']:.4f}" for name, e in row["errors"].items())
        print(f"depth {row['depth']}, scale {row['scale']}: {told}")
    draw(result, FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
