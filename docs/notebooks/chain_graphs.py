# %% [markdown]
# # Neural networks are chain graphs
#
# A layer is not a vector of numbers but a set of random variables, a *chain component*, each with
# its own distribution given the layer below ([A], Figure 1). What a network computes is then one
# of several answers to a question about probabilities. This page draws that for a network small
# enough to see every node of it.

# %%
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch

import cgjax as cg

SIZES = (3, 4, 4, 2)
keys = jax.random.split(jax.random.key(3), len(SIZES) - 1)
directions = [
    jax.random.normal(key, (below, above)) / below**0.5
    for key, below, above in zip(keys, SIZES, SIZES[1:], strict=False)
]


def net(x, scale=1.5):
    """Nodes that are -1 or 1, whose activation is tanh."""
    for number, weights in enumerate(directions, 1):
        x = cg.node(cg.nodes.Spin(), scale * x @ weights, name=f"layer {number}")
    return x


x = jnp.array([1.0, -1.0, 1.0])
graph = cg.chain_graph(net, parameters="scale")(x, 1.5)

# %% [markdown]
# ## Two views of one network
#
# `cg.chain_graph` returns components and what each depends on. On the left every node of every
# component is drawn, on the right what a practitioner would call it.


# %%
def draw(axes, values, sampled=(), title=""):
    """The nodes of all components: white for -1, blue for 1, a thick edge for a sample."""
    layers = [("x", len(x)), *((c.name, c.shape[0]) for c in graph)]
    places = {
        name: [(1.3 * (k - (size - 1) / 2), -2.0 * row) for k in range(size)]
        for row, (name, size) in enumerate(layers)
    }
    for component in graph:
        for parent in component.parents:
            for start in places[parent.name]:
                for end in places[component.name]:
                    axes.annotate(
                        "",
                        (end[0], end[1] + 0.42),
                        (start[0], start[1] - 0.42),
                        arrowprops={"arrowstyle": "-", "color": "#b8b8b8", "lw": 0.7},
                    )
    for name, size in layers:
        left, y = places[name][0]
        shape = f"round,pad=0,rounding_size={0.3 if name != 'x' else 0.6}"
        corner, width = (left - 0.65, y - 0.62), 1.3 * size
        axes.add_patch(
            FancyBboxPatch(corner, width, 1.24, boxstyle=shape, fc="#f2f6fb", ec="#0072B2", lw=1.1)
        )
        axes.text(3.3, y, name, va="center", fontsize=9)
        for k, place in enumerate(places[name]):
            value = float(values[name][k])
            colour = plt.get_cmap("Blues")(0.75 * (value + 1) / 2)
            thick = name in sampled and bool(sampled[name][k])
            edge = {"ec": "#D55E00" if thick else "#444444", "lw": 2.4 if thick else 0.9}
            axes.add_patch(Circle(place, 0.42, fc=colour, **edge))
            axes.text(*place, f"{value:.1g}", ha="center", va="center", fontsize=7)
    axes.set(xlim=(-3.4, 4.9), ylim=(-2 * len(layers) + 1.1, 0.9), aspect="equal", title=title)
    axes.set_axis_off()


def box(axes, y, title, text, colour):
    """A layer as practitioners see it."""
    axes.add_patch(
        FancyBboxPatch((-2, y - 0.62), 4, 1.24, boxstyle="round,pad=0,rounding_size=0.3", **colour)
    )
    axes.text(0, y + 0.16, title, ha="center", va="center", fontsize=9, weight="bold")
    axes.text(0, y - 0.28, text, ha="center", va="center", fontsize=8)


# %% alt="Left: a chain graph of three components with all their nodes. Right: the same as layers."
_, activations = cg.with_nodes(cg.feed_forward(net))(x)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 4.6))
draw(left, {"x": x, **activations}, title="A chain graph: random variables")
box(right, 0, "x", "(3,)", {"fc": "#f4f4f4", "ec": "#8a8a8a"})
for row, component in enumerate(graph, 1):
    size = f"tanh {component.shape}"
    box(right, -2.0 * row, f"dense, {component.name}", size, {"fc": "white", "ec": "#8a8a8a"})
    right.annotate(
        "", (0, -2.0 * row + 0.64), (0, -2.0 * row + 1.36), arrowprops={"arrowstyle": "->"}
    )
right.set(xlim=(-4.15, 4.15), ylim=(-6.9, 0.9), aspect="equal", title="A network: layers")
right.set_axis_off()

# %% [markdown]
# ## Collapsed and sampled
#
# Three things to do at a node. *Feed-forward* replaces each by its activation: nothing is random
# any more. *Forward sampling* draws every one. *PCFF*, partially collapsed feed-forward, draws
# each node with a probability, here 0.5, and collapses the others. The network stays the same
# function; only the transformation differs.

# %% alt="The network three times: all nodes collapsed, all sampled, about half sampled."
key = jax.random.key(5)
_, samples = cg.with_nodes(cg.forward_sample(net))(key, x)
_, mixed = cg.with_nodes(cg.pcff(net, {"*": 0.5, "layer 3": 0.5}))(key, x)
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.9))
for each, values, title in zip(
    axes,
    (activations, samples, mixed),
    ("Feed-forward: collapsed", "Sampled: every node", "PCFF: some sampled"),
    strict=True,
):
    drawn = {name: np.abs(np.asarray(value)) == 1 for name, value in values.items()}
    draw(each, {"x": x, **values}, drawn, title)

# %% [markdown]
# A thick orange edge marks a node that was drawn: it is -1 or 1. All others hold their
# expectation given what stands above them.
#
# ## How wrong is feed-forward?
#
# The network is small enough for the exact expectation, a sum over all states. `scale` multiplies
# all weights, so that one `vmap` answers for all of them. The error is the mean over all eight
# inputs:

# %%
scales = jnp.linspace(0.05, 4.0, 40)
inputs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=3)))


def over_all(answer):
    """Of all inputs and all sizes of the weights: (sizes, inputs, nodes)."""
    return jax.jit(jax.vmap(jax.vmap(answer, (0, None)), (None, 0)))(inputs, scales)


sampler = cg.monte_carlo(cg.forward_sample(net), num_samples=100)
exact = over_all(cg.exact_marginals(net))
answers = {
    "feed-forward": over_all(net),
    "100 samples": over_all(lambda x, scale: sampler(key, x, scale).mean),
    "moments": over_all(lambda x, scale: cg.moments(net, nodes="random")(x, scale).mean),
}

# %% alt="Error against the size of weights: feed-forward grows, sampling stays near 0.05."
figure, axes = plt.subplots()
for name, answer in answers.items():
    error = jnp.abs(answer - exact).mean((1, 2))
    (line,) = axes.plot(scales, error)
    axes.annotate(
        name,
        (scales[-1], error[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        color=line.get_color(),
        va="center",
    )
axes.set(
    title="Feed-forward is right for small weights, and biased for large ones",
    xlabel="size of the weights (1: as networks are initialised)",
    ylabel="mean error of the output",
    xlim=(0, 4.9),
    ylim=(0, None),
    xticks=range(5),
)

# %% [markdown]
# That is [A]'s argument in one picture: feed-forward is an approximation of the exact answer,
# good where weights are small. A hundred samples have no bias, but noise at every size.
#
# Where to go from here: [how wrong is feed-forward
# here?](../tutorials/how_wrong_is_feed_forward.md), [PCFF on your CNN](pcff_on_your_cnn.md),
# [chain_graph](../procedures/chain_graph.md).
