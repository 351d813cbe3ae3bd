"""When is feed-forward accurate? Its error for both kinds of binary nodes ([A] section 2.2).

    python -m docs.figures.feed_forward_accuracy            # measure, write the JSON, draw
    python -m docs.figures.feed_forward_accuracy --draw     # draw from the JSON alone

Networks of 8 layers of 10 nodes, with states {0, 1} or {-1, 1}. The nodes of the first layer are
1 with probabilities drawn uniformly; every further layer has e = b + W x with b from N(0, 1) and
weights from N(0, scale^2), not divided by the number of parents. The error of a layer is
|answer - exact expectation|: feed-forward, moments (with the nodes' own variance), and Monte Carlo
with 16 and 256 samples. Layer d of a network is the output of a network of d layers, so one network
serves all depths.

Expected: at depth 2, the figures of one node with 10 random parents (mean for scale .01, .1, .3, 1,
3: {0, 1} 5e-6, 4.3e-4, 4.1e-3, .036, .11; {-1, 1} 1.8e-4, .016, .10, .32, .50). Cost: about a
minute on 2 CPU cores.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

import cgjax as cg
from docs.figures.pages import BLUE, RED, run
from train.report.figures import panels, save

WIDTH, DEPTH, NETWORKS, SEED = 10, 8, 32, 0
SCALES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SAMPLES = (16, 256)
FAMILIES = {"{0, 1}": cg.nodes.Bernoulli(), "{-1, 1}": cg.nodes.Spin()}
STYLES = {"feed-forward": RED, "moments": "#2a9d8f", "16 samples": "#8fb8de", "256 samples": BLUE}


def net(family: cg.nodes.Family, first: Any, biases: Any, weights: Any) -> Any:
    """Layers of nodes: first (WIDTH,), biases (DEPTH - 1, WIDTH), weights (…, WIDTH, WIDTH)."""
    x = cg.node(family, first, name="layer1")
    for k, (b, w) in enumerate(zip(biases, weights, strict=True)):
        x = cg.node(family, b + x @ w, name=f"layer{k + 2}")
    return x


def errors(family: cg.nodes.Family, key: Any, scale: Any) -> dict[str, Any]:
    """|answer - exact| of every node of one random network: (DEPTH, WIDTH) for each way."""
    first_key, bias_key, weight_key, sample_key = jax.random.split(key, 4)
    probability = jax.random.uniform(first_key, (WIDTH,), minval=1e-6, maxval=1 - 1e-6)
    logit = jnp.log(probability) - jnp.log1p(-probability)
    first = logit if isinstance(family, cg.nodes.Bernoulli) else logit / 2
    biases = jax.random.normal(bias_key, (DEPTH - 1, WIDTH))
    weights = scale * jax.random.normal(weight_key, (DEPTH - 1, WIDTH, WIDTH))

    network, args = functools.partial(net, family), (first, biases, weights)
    answers = {"feed-forward": cg.with_nodes(cg.feed_forward(network))(*args)[1]}
    beliefs = cg.with_nodes(cg.moments(network, nodes="random"))(*args)[1]
    answers["moments"] = {name: belief.mean for name, belief in beliefs.items()}
    for number in SAMPLES:
        sampler = cg.monte_carlo(cg.forward_sample(network), number, batch_size=number)
        nodes = cg.with_nodes(sampler)(sample_key, *args)[1]
        answers[f"{number} samples"] = {name: estimate.mean for name, estimate in nodes.items()}
    exact = cg.with_nodes(cg.exact_marginals(network))(*args)[1]
    return {
        name: jnp.stack([jnp.abs(nodes[layer] - exact[layer]) for layer in exact])
        for name, nodes in answers.items()
    }


def measure() -> dict[str, Any]:
    """The mean over networks and nodes, and the worst of all, by family, scale and depth."""
    keys = jax.random.split(jax.random.key(SEED), NETWORKS)
    rows = []
    for states, family in FAMILIES.items():

        @jax.jit
        def program(scale: Any, family: cg.nodes.Family = family) -> dict[str, Any]:
            found = jax.lax.map(lambda key: errors(family, key, scale), keys)
            mean = {name: e.mean((0, 2)) for name, e in found.items()}
            return {name: (mean[name], e.max((0, 2))) for name, e in found.items()}

        for scale in SCALES:
            for name, (mean, worst) in program(scale).items():
                told = {"states": states, "scale": scale, "method": name}
                rows.append({**told, "mean": mean.tolist(), "worst": worst.tolist()})
            print(f"{states}, weights of size {scale}: done", flush=True)
    settings = {"width": WIDTH, "depth": DEPTH, "networks": NETWORKS, "seed": SEED}
    return {"settings": settings, "rows": rows}


def draw(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the error against the size of the weights, and against depth, for both families."""
    figure, axes = panels(2, 2, (10, 7.8), sharey=True)
    from matplotlib import pyplot as plt

    shades = plt.get_cmap("plasma_r")
    depths = range(2, DEPTH + 1)
    for (left, right), states in zip(axes, FAMILIES, strict=True):
        found = {(r["method"], r["scale"]): r for r in result["rows"] if r["states"] == states}
        for method, color in STYLES.items():
            for statistic, style in (("mean", "o-"), ("worst", "o:")):
                values = [found[method, scale][statistic][DEPTH - 1] for scale in SCALES]
                label = f"{method}, {statistic}"
                left.plot(SCALES, values, style, color=color, markersize=4, label=label)
        ends = []  # where curves end, their labels and colours
        for k, scale in enumerate(SCALES):
            color, ours = shades(0.15 + 0.8 * k / (len(SCALES) - 1)), found["feed-forward", scale]
            right.plot(depths, ours["mean"][1:], "o-", color=color, markersize=4)
            ends.append((ours["mean"][-1], f"{scale:g}", color))
        sampled = found["256 samples", SCALES[0]]["mean"]
        right.plot(depths, sampled[1:], "--", color=BLUE)
        ends.append((sampled[-1], "256 samples", BLUE))
        height = 0.0
        for end, label, color in sorted(ends):
            height = max(end, 1.8 * height)  # labels of near curves do not overlap
            right.text(DEPTH + 0.15, height, label, color=color, va="center", fontsize=9)
        left.set(xscale="log", yscale="log", ylim=(1e-7, 3), xlabel="weight size (std)")
        left.set_ylabel("|answer $-$ exact expectation|")
        left.set_title(f"nodes in {states}, {DEPTH} layers of {WIDTH}", fontsize=11)
        right.set_title(f"nodes in {states}: feed-forward, mean, by weight size", fontsize=11)
        right.set(xlabel="layers", xlim=(1.8, DEPTH + 1.4), xticks=depths)
        left.grid(alpha=0.25)
        right.grid(alpha=0.25)
    labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    run("feed_forward_accuracy", __doc__, draw, measure)
