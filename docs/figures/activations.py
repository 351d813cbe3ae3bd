"""Draws activations.svg: activation functions and their rectified Gaussian nodes ([A] Figure 1).

    python -m docs.figures.activations [--output FOLDER]

For softplus, ReLU, leaky ReLU and Nair and Hinton's node: the activation, the exact mean of the
node, and the average of 200 samples at each natural parameter. Prints the largest distance between
activation and exact mean of each, found on a fine grid.
"""

import pathlib

import jax
import jax.numpy as jnp

import cgjax as cg
from docs.figures.pages import BLUE, GREY, RED, run
from train.report.figures import panels, save

NUM_SAMPLES = 200
PANELS = {
    "softplus": (cg.nodes.Softplus(), jax.nn.softplus),
    "ReLU": (cg.nodes.ReLU(), jax.nn.relu),
    "leaky ReLU, leak 0.1": (cg.nodes.LeakyReLU(0.1), lambda e: jax.nn.leaky_relu(e, 0.1)),
    "ReLU (Nair and Hinton)": (cg.nodes.NairHinton(), jax.nn.relu),
}
DEVIATIONS = ["1.776…", "|tanh e|", "|tanh e|", "sigmoid(e)"]


def draw(path: pathlib.Path) -> None:
    """Prints the gaps, and draws the figure into a file; the suffix says the format."""
    shared = {"sharex": True, "sharey": "row", "height_ratios": [3, 1.5]}
    figure, axes = panels(2, 4, (13, 5.2), **shared)
    grid, points, fine = (jnp.linspace(-e, e, n) for e, n in ((4, 801), (4, 81), (10, 200_001)))
    for index, (title, (family, activation)) in enumerate(PANELS.items()):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), index), NUM_SAMPLES)
        average = jax.vmap(family.sample, (0, None))(keys, points).mean(0)
        mean = family.mean(grid)
        apart = jnp.abs(activation(fine) - family.mean(fine))
        largest, where = float(apart.max()), float(fine[apart.argmax()])
        print(f"{title:32s} largest gap {largest:.4f} at e = {where:+.2f}")

        curves, gap = axes[:, index]
        curves.plot(points, average, ".", color=GREY, markersize=5, label=f"{NUM_SAMPLES} samples")
        curves.plot(grid, mean, color=RED, linewidth=2, label="exact mean")
        curves.plot(grid, activation(grid), "--", color=BLUE, linewidth=1.4, label="activation")
        curves.set_title(f"{title}\nstandard deviation {DEVIATIONS[index]}", fontsize=11)
        gap.plot(grid, mean - activation(grid), color=RED, linewidth=2)
        place = {"transform": gap.transAxes, "va": "top", "fontsize": 9}
        gap.text(0.03, 0.95, f"largest {largest:.4f}", **place)
        gap.set_xlabel("natural parameter $e$")
    for axis in axes.flat:
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("expected statistic")
    axes[1, 0].set_ylabel("exact mean\n$-$ activation")
    axes[0, 0].legend(loc="upper left", frameon=False, fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    run("activations", __doc__, draw)
