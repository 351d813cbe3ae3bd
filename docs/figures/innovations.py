"""How far does a label move each layer of a trained network? ([B] Theorem 1.)

    python -m docs.figures.innovations            # train, measure, write the JSON, draw
    python -m docs.figures.innovations --draw     # draw from the JSON alone

A network of three hidden layers of 48 ReLU nodes with uncertain weights, trained on half of
scikit-learn's digits by the ELBO. For each test digit `smooth` gives the innovation of each node
once the label is known, x_{l|L} - x_l, and its smoothed variance. Per layer and digit: the root of
the mean of (x_{l|L} - x_l)^2 / P_l, and the mean of -1/2 log(P_{l|L} / P_l), over the nodes that
are not dead (P_l > 1e-6 of the layer's largest).

Expected: a label that the network got wrong moves every layer more than one it got right. Cost:
about half a minute on 2 CPU cores.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import cgjax as cg
from cgjax import weights
from docs.figures.pages import BLUE, RED, run
from train.report.figures import panels, save

WIDTH, LAYERS, STEPS, BATCH, SEED = 48, 3, 600, 128, 0
HEAD = weights.CategoricalHead()
NAMES = [f"layer{k + 1}" for k in range(LAYERS)]
COLORS = {"right": BLUE, "wrong": RED}


def net(params: Any, x: Any) -> Any:
    """Logits of (examples, 64) images."""
    for name in NAMES:
        x = cg.node(cg.nodes.ReLU(), x @ params[name] + params[f"{name}/bias"][None], name=name)
    return x @ params["top"]


def trained(x: Any, y: Any) -> Any:
    """The posterior of the weights."""
    sizes = [x.shape[1], *[WIDTH] * LAYERS, 10]
    keys = jax.random.split(jax.random.key(SEED), LAYERS + 1)
    params = {
        name: jax.random.normal(key, (n, m)) * (2 / n) ** 0.5
        for key, name, n, m in zip(keys, [*NAMES, "top"], sizes[:-1], sizes[1:], strict=True)
    }
    params |= {f"{name}/bias": jnp.zeros(WIDTH) for name in NAMES}
    posterior = weights.mean_field(params, {"*/bias": 1e-4, "*": 1e-3})
    optimiser, predict = optax.adam(5e-3), weights.deterministic(net)

    def step(carry: Any, key: Any) -> Any:
        posterior, state = carry
        rows = jax.random.choice(key, len(x), (BATCH,), replace=False)

        def loss(posterior: Any) -> Any:
            output = predict(None, posterior, x[rows])
            parts = weights.elbo(HEAD, output, y[rows], posterior, 0.3)
            return parts.per_example(len(x))

        value, gradient = jax.value_and_grad(loss)(posterior)
        updates, state = optimiser.update(gradient, state, posterior)
        return (optax.apply_updates(posterior, updates), state), value

    keys = jax.random.split(jax.random.key(SEED + 1), STEPS)
    return jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(posterior)


def measure() -> dict[str, Any]:
    """Trains, smooths the test digits, and summarises each layer."""
    digits: Any = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    x = jnp.asarray(digits.data[order] / 16 - 0.3, jnp.float32)
    y = jnp.asarray(digits.target[order], jnp.int32)
    half = len(y) // 2
    posterior = trained(x[:half], y[:half])
    x, y = x[half:], y[half:]
    seen = weights.smooth(net, HEAD)(posterior, x, y)
    right = np.asarray(HEAD.predict(seen.output).argmax(-1) == y)
    rows = []
    for name, innovation in seen.innovations().items():
        before, after = (np.asarray(b[name].variance) for b in (seen.prior, seen.posterior))
        alive = before > 1e-6 * before.max()
        count = alive.sum(-1)
        scale = np.where(alive, before, 1)
        move = np.where(alive, np.asarray(innovation) ** 2 / scale, 0).sum(-1) / count
        gain = np.where(alive, -np.log(np.where(alive, after, 1) / scale) / 2, 0).sum(-1) / count
        for group, which in (("right", right), ("wrong", ~right)):
            moves, digits = np.sort(move[which] ** 0.5), int(which.sum())
            row = {"layer": name, "label": group, "digits": digits}
            row["innovation"] = moves[:: 1 + digits // 60].astype(float).tolist()
            row |= {"median": float(np.median(moves)), "information": float(np.median(gain[which]))}
            rows.append(row)
    return {
        "settings": {"width": WIDTH, "layers": LAYERS, "steps": STEPS, "seed": SEED},
        "error": float(1 - right.mean()),
        "rows": rows,
    }


def draw(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the distribution over digits for each layer; the suffix says the format."""
    figure, ((axis,),) = panels(1, 1, (7, 3.4))
    generator = np.random.default_rng(0)
    for row in result["rows"]:
        at = NAMES.index(row["layer"]) + (0.17 if row["label"] == "wrong" else -0.17)
        color, values = COLORS[row["label"]], row["innovation"]
        spread = generator.uniform(-0.09, 0.09, len(values))
        axis.plot(at + spread, values, ".", color=color, alpha=0.4, markersize=4)
        label = f"label the network got {row['label']} ({row['digits']} digits)"
        label = label if row["layer"] == NAMES[0] else None
        axis.plot([at - 0.13, at + 0.13], [row["median"]] * 2, color=color, lw=2.5, label=label)
    axis.set(yscale="log", xticks=range(LAYERS), xticklabels=NAMES)
    axis.set_ylabel("innovation, in deviations")
    axis.grid(alpha=0.25, axis="y")
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    save(figure, path)


if __name__ == "__main__":
    run("innovations", __doc__, draw, measure)
