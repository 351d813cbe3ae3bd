"""Draws uncertainty.svg: a Bayesian network on one-dimensional regression.

    python -m docs.figures.uncertainty [--output FOLDER]

Runs the code of the page "Make any Flax model Bayesian in three lines" and draws what it predicts.
"""

import pathlib

import jax.numpy as jnp

from docs.figures.pages import BLUE, GREY, RED, executed, run
from train.report.figures import panels, save


def draw(path: pathlib.Path) -> None:
    """Draws the figure into a file; the suffix says the format."""
    page = executed("tutorials/bayesian_in_three_lines.md")
    grid, output = page["grid"][:, 0], page["output"]
    noise = jnp.exp(page["trained"]["log_noise"])
    figure, ((axes,),) = panels(1, 1, (7.5, 3.6))
    bands = (
        (output.variance + noise, 0.15, "two deviations of a new observation"),
        (output.variance, 0.35, "two deviations of the function"),
    )
    for variance, opacity, label in bands:
        half = 2 * jnp.sqrt(variance)
        low, high = output.mean - half, output.mean + half
        axes.fill_between(grid, low, high, color=BLUE, alpha=opacity, lw=0, label=label)
    axes.plot(grid, output.mean, color=BLUE, label="mean")
    axes.plot(grid, jnp.sin(3 * grid), "--", color=GREY, label="truth")
    axes.plot(page["x"][:, 0], page["y"], ".", color=RED, label="data")
    axes.set(xlabel="x", ylabel="y", ylim=(-3.2, 3.2))
    axes.legend(fontsize=8, loc="lower left")
    save(figure, path)


if __name__ == "__main__":
    run("uncertainty", __doc__, draw)
