"""What do gains by moments do to the signals of a deep network with uncertain weights?

    python -m docs.figures.balance            # measure, write the JSON, draw
    python -m docs.figures.balance --draw     # draw from the JSON alone

Fifty dense layers of 64 ReLU units without normalisation. Weights are drawn with deviation
1/sqrt(n) (LeCun's, too small for ReLU), and each has a posterior whose variance is a quarter of
that. Three sets of gains: none; each layer divided by the deviation that a batch of 64 examples
shows at the posterior's means (LSUV); `weights.balance` on the same batch. Then 200 networks are
drawn from each posterior. Per layer: the variance of its products over units, examples and
networks, and the mean square of the gradient of a random projection of the last layer's products by
them.

Expected: without gains signals shrink by about 0.6 a layer; with those of the means, which do not
know of the posterior's variance, they grow by a quarter a layer; by moments they keep their size.
Cost: about half a minute on one CPU core.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import weights
from docs.figures.pages import BLUE, GREY, RED, run
from train.report.figures import panels, save

DEPTH, WIDTH, EXAMPLES, DRAWS, RELATIVE, SEED = 50, 64, 64, 200, 0.25, 0
COLORS = {"no gains": GREY, "a batch at the means": RED, "moments": BLUE}


def net(params: Any, x: Any, probes: Any = None) -> Any:
    """The products of all layers; `probes` are added to them."""
    products = []
    for k in range(DEPTH):
        x = (jax.nn.relu(x) if k else x) @ params[k]
        x = x if probes is None else x + probes[k]
        products.append(x)
    return products


def by_batch(params: Any, x: Any) -> Any:
    """Layer after layer divided by the deviation of its products."""
    found = []
    for k, w in enumerate(params):
        product = (jax.nn.relu(x) if k else x) @ w
        found.append(w / product.std())
        x = product / product.std()
    return found


def signals(posterior: Any, x: Any) -> tuple[Any, Any]:
    """For each layer the variance of products, and the mean square of gradients by them."""

    def one(key: Any) -> Any:
        own, direction = jax.random.split(key)
        params = weights.sample(own, posterior)
        products = net(params, x)
        last = jax.random.normal(direction, products[-1].shape)
        zeros = [jnp.zeros_like(p) for p in products]
        slopes = jax.grad(lambda probes: jnp.vdot(net(params, x, probes)[-1], last))(zeros)
        return [
            jnp.stack([jnp.var(p) for p in products]),
            jnp.stack([(s**2).mean() for s in slopes]),
        ]

    keys = jax.random.split(jax.random.key(SEED + 1), DRAWS)
    found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return tuple(np.asarray(v, np.float64).mean(0) for v in found)


def measure() -> dict[str, Any]:
    """Draws, balances, samples."""
    keys = jax.random.split(jax.random.key(SEED), DEPTH + 1)
    params = [jax.random.normal(k, (WIDTH, WIDTH)) * WIDTH**-0.5 for k in keys[1:]]
    x = jax.random.normal(keys[0], (EXAMPLES, WIDTH))

    def posterior(params: Any) -> Any:
        return [weights.mean_field(w, RELATIVE * float(w.var())) for w in params]

    last = lambda params, x: net(params, x)[-1]  # noqa: E731
    sets = {
        "no gains": posterior(params),
        "a batch at the means": posterior(by_batch(params, x)),
        "moments": weights.balance(last, posterior(params), x),
    }
    rows = []
    for name, q in sets.items():
        forward, backward = signals(q, x)
        rows.append({"gains": name, "forward": forward.tolist(), "backward": backward.tolist()})
    return {
        "settings": {
            "depth": DEPTH,
            "width": WIDTH,
            "examples": EXAMPLES,
            "draws": DRAWS,
            "relative variance": RELATIVE,
            "seed": SEED,
        },
        "rows": rows,
    }


def draw(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws both signals over depth; the suffix says the format."""
    figure, ((left, right),) = panels(1, 2, (8.4, 3.2))
    depths = np.arange(1, result["settings"]["depth"] + 1)
    for row in result["rows"]:
        color = COLORS[row["gains"]]
        left.plot(depths, row["forward"], color=color, lw=2, label=row["gains"])
        right.plot(depths, row["backward"], color=color, lw=2)
    left.set(yscale="log", xlabel="layer", ylabel="variance of products")
    right.set(yscale="log", xlabel="layer", ylabel="mean square of gradients")
    for axis in (left, right):
        axis.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=9, loc="center left")
    save(figure, path)


if __name__ == "__main__":
    run("balance", __doc__, draw, measure)
