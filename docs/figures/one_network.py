"""Draws one_network.svg, the picture of README: one trained network, read in four ways.

    python -m docs.figures.one_network [--output FOLDER]

Runs the code of the page "Make any Flax model Bayesian in three lines", and draws what each
procedure says of the same network at the same inputs.
"""

import pathlib

import jax
import jax.numpy as jnp

import cgjax as cg
from cgjax import weights
from docs.figures.pages import BLUE, GREY, RED, executed, run
from train.report.figures import panels, save

RATE = 0.1
SAMPLES = 8
INPUT_VARIANCE = 0.1**2


def draw(path: pathlib.Path) -> None:
    """Draws the figure into a file; the suffix says the format."""
    page = executed("tutorials/bayesian_in_three_lines.md")
    f, state, posterior = page["f"], page["state"], page["trained"]["weights"]
    x = jnp.linspace(-1.4, 1.4, 141)[:, None]
    means = weights.means(posterior)

    plain, _ = f(means, state, x)
    sampler = cg.pcff(cg.lift(f), RATE)
    keys = jax.random.split(jax.random.key(1), SAMPLES)
    sampled, _ = jax.vmap(lambda key: sampler(key, means, state, x))(keys)
    uncertain_input, _ = cg.moments(f)(
        means, state, cg.Belief(x, jnp.full(x.shape, INPUT_VARIANCE))
    )
    uncertain_weights, _ = weights.deterministic(f)(None, posterior, state, x)

    figure, (row,) = panels(1, 4, (11, 2.9))
    titles = {
        "net(x)": "the ordinary network",
        f"cg.pcff(net, {RATE})(key, x)": "one unit of ten sampled",
        "cg.moments(net)(uncertain x)": "inputs known to ±0.1",
        "weights.deterministic(net)": "weights with variances",
    }
    for axes, (code, words) in zip(row, titles.items(), strict=True):
        axes.plot(page["x"][:, 0], page["y"], ".", color=RED, markersize=2, alpha=0.6)
        axes.plot(x[:, 0], jnp.sin(3 * x[:, 0]), "--", color=GREY, linewidth=1)
        axes.set_title(code, fontsize=9, family="monospace", loc="left")
        axes.set(xlabel=words, ylim=(-2.4, 2.4), xticks=[], yticks=[])
    row[0].plot(x[:, 0], plain, color=BLUE)
    for each in sampled:
        row[1].plot(x[:, 0], each, ".", color=BLUE, markersize=2, alpha=0.6)
    for axes, belief in zip(row[2:], (uncertain_input, uncertain_weights), strict=True):
        half = 2 * jnp.sqrt(belief.variance)
        low, high = belief.mean - half, belief.mean + half
        axes.fill_between(x[:, 0], low, high, color=BLUE, alpha=0.3, lw=0)
        axes.plot(x[:, 0], belief.mean, color=BLUE)
    save(figure, path)


if __name__ == "__main__":
    run("one_network", __doc__, draw)
