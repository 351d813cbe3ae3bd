"""How far are the means and variances of `moments` from those of sampled networks?

Random networks that nobody tuned, with uncertain weights: dense, deep and residual ones, with five
activations, and weights whose variance is 0.01, 0.1 and 0.5 of their layer's mean square. The
reference draws all weights (and inputs, where they are uncertain) 200,000 times, without antithetic
pairs. One set of draws serves all activations and variances of a network, so that their errors of
sampling are not independent; those of different networks are.

    taskset -c 0 python -m benchmarks.moments_accuracy      # about 10 minutes of one core
    python -m benchmarks.moments_accuracy --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import itertools
import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

import cgjax as cg
from benchmarks.records import Table

SHARES = (0.01, 0.1, 0.5)
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "ReLU": jax.nn.relu,
    "leaky ReLU": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "GELU": jax.nn.gelu,
    "SiLU": jax.nn.silu,
}
INPUTS = 2
# Each program runs a dozen times: most of the time would go into compiling it.
FAST: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}


class Architecture(NamedTuple):
    """A family of networks."""

    function: Callable[..., jax.Array]  # (activation, params, x)
    shapes: Sequence[tuple[int, ...]]  # of the kernels; each has a bias
    example: tuple[int, ...]  # the shape of an example
    convolutional: bool = False  # whether weights are shared by positions
    uncertain_inputs: bool = False  # as much as the weights


# Strides and padding.
CONVOLUTIONS = {"convolution": (1, "SAME"), "strided": (2, "SAME"), "unpadded": (1, "VALID")}
POOLS = {"maximum": nnx.max_pool, "average": nnx.avg_pool}
IMAGES = ("NHWC", "HWIO", "NHWC")


def layered(steps: str, activation: Callable[..., Any], params: Any, x: Any) -> Any:
    """A network by the names of its steps, whose layers take the parameters in turn.

    A step is "dense" or one of `CONVOLUTIONS`; such a name and "-block": x + f(activation(g(x))) of
    two such layers; "activation"; one of `POOLS`, of 2 x 2 pixels; "mean", over all pixels; "flat".
    """
    layers = iter(params)

    def layer(name: str, x: Any) -> Any:
        kernel, bias = next(layers)
        if name == "dense":
            return x @ kernel + bias
        stride, padding = CONVOLUTIONS[name]
        strides = stride, stride
        y = lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=IMAGES)
        return y + bias.reshape(1, 1, 1, -1)

    for step in steps.split():
        name, _, block = step.partition("-")
        if name == "activation":
            x = activation(x)
        elif name in POOLS:
            x = POOLS[name](x, (2, 2), (2, 2))
        elif name in ("mean", "flat"):
            x = x.mean((1, 2)) if name == "mean" else x.reshape(len(x), -1)
        else:
            x = x + layer(name, activation(layer(name, x))) if block else layer(name, x)
    return x


def dense(*sizes: int) -> Architecture:
    """Of networks of dense layers."""
    steps = " activation ".join(["dense"] * (len(sizes) - 1))
    return Architecture(partial(layered, steps), [*itertools.pairwise(sizes)], sizes[:1])


ARCHITECTURES = {
    "dense 32-64-64-64-10": dense(32, 64, 64, 64, 10),
    "dense 16-48-48-48-48-48-5": dense(16, 48, 48, 48, 48, 48, 5),
    "residual, 3 blocks": Architecture(
        partial(layered, "dense" + 3 * " dense-block" + " dense"),
        [(32, 48), *((48, 64), (64, 48)) * 3, (48, 10)],
        (32,),
    ),
    "dense, uncertain inputs": dense(32, 64, 64, 64, 10)._replace(uncertain_inputs=True),
}


def random_network(architecture: Architecture, seed: int) -> tuple[Any, jax.Array]:
    """Parameters that keep the size of what passes through, with small biases, and inputs."""
    *keys, last = jax.random.split(jax.random.key(seed), len(architecture.shapes) + 1)
    params = []
    for key, shape in zip(keys, architecture.shapes, strict=True):
        one, two = jax.random.split(key)
        kernel = jax.random.normal(one, shape) * math.prod(shape[:-1]) ** -0.5
        params.append((kernel, 0.1 * jax.random.normal(two, shape[-1:])))
    x = jax.random.normal(last, (INPUTS, *architecture.example))
    if architecture.convolutional:
        # Half of the images are white noise; neighbours in the others are alike, as in pictures.
        smooth = jax.image.resize(x[:, ::4, ::4], x.shape, "cubic")
        x = jnp.where((jnp.arange(INPUTS) % 2 == 0).reshape(-1, 1, 1, 1), x, smooth)
    return params, x


def gain(activation: str) -> float:
    """How much larger weights are for activations that lose half of what passes."""
    return 1.0 if activation == "tanh" else 2**0.5


def uncertain(params: Any, gain: float, share: float) -> Any:
    """Beliefs about the parameters: the variance of a layer is a share of its mean square."""
    return jax.tree.map(lambda m: _uncertain(gain * m, share), params)


def _uncertain(mean: jax.Array, share: float) -> cg.Belief:
    return cg.Belief(mean, jnp.full_like(mean, share) * jnp.mean(mean**2))


class Sampled(NamedTuple):
    """Moments of the outputs of sampled networks."""

    mean: np.ndarray
    variance: np.ndarray
    relative_error: float  # the standard error of the sum of all variances, relative to it


def sampler(architecture: Architecture, activations: list[str]) -> Callable[..., Any]:
    """`draw(key, beliefs, centres)`: outputs of networks, less the centres, and their squares' sum.

    `beliefs` about parameters and inputs hold an entry for each gain and share; `centres`, numbers
    near the outputs, one for each activation and share.
    """
    gains = list(dict.fromkeys(map(gain, activations)))
    on_beliefs = partial(jax.tree.map, is_leaf=lambda x: isinstance(x, cg.Belief))

    def drawn(belief: cg.Belief, noise: Any) -> Any:
        return belief.mean + jnp.sqrt(belief.variance) * noise

    def draw(key: Any, beliefs: Any, centres: Any) -> tuple[Any, Any]:
        means, structure = jax.tree.flatten(on_beliefs(lambda belief: belief.mean, beliefs[0]))
        keys = jax.random.split(key, len(means))
        noise = [jax.random.normal(k, m.shape) for k, m in zip(keys, means, strict=True)]
        noise = jax.tree.unflatten(structure, noise)
        networks = [on_beliefs(drawn, belief, noise) for belief in beliefs]
        outs = []
        for name in activations:
            first = gains.index(gain(name)) * len(SHARES)
            for params, x in networks[first : first + len(SHARES)]:
                outs.append(architecture.function(ACTIVATIONS[name], params, x))
        off = jnp.stack(outs) - centres
        return off, (off**2).sum((1, 2))

    return draw


def summarised(estimate: Any, centres: Any, draws: int) -> list[Sampled]:
    """Moments of each activation and share, from the average over so many draws."""
    arrays = jax.tree.map(lambda a: np.asarray(a, np.float64), estimate)
    (offset, _), (error, of_squares) = arrays
    mean, variance = np.asarray(centres) + offset, draws * error**2
    relative = of_squares / variance.sum((1, 2))
    return [Sampled(*cell) for cell in zip(mean, variance, relative.tolist(), strict=True)]


def errors(belief: cg.Belief, reference: Sampled) -> dict[str, float]:
    """Distances of a belief about the outputs from the reference.

    Returns:
        The error of the mean in output standard deviations, as a root mean square over outputs and
        inputs (with the noise of the reference, the square root of its number of draws); the total
        variance relative to the reference's; and the relative error of a single output's variance,
        as a root mean square.
    """
    mean, variance = (np.asarray(a, np.float64) for a in belief)
    distance = (mean - reference.mean) / np.sqrt(reference.variance)
    return {
        "mean_error": float(np.sqrt((distance**2).mean())),
        "variance_ratio": float(variance.sum() / reference.variance.sum()),
        "output_error": float(np.sqrt(((variance / reference.variance - 1) ** 2).mean())),
    }


def accuracy(
    name: str, architecture: Architecture, activations: list[str], seeds: range, draws: int
) -> list[dict[str, Any]]:
    """All cells of one architecture."""
    # Convolutions are fast one network after the other, matrix products of 20 at once.
    size = 1 if architecture.convolutional else 20
    average = jax.jit(cg.monte_carlo(sampler(architecture, activations), draws, batch_size=size))

    @cache
    def program(activation: str, positions: bool) -> Any:
        f = partial(architecture.function, ACTIVATIONS[activation])
        return jax.jit(cg.moments(f, positions=positions), compiler_options=FAST)

    keys = [*itertools.product(activations, SHARES)]
    cells: dict[tuple[str, float], dict[str, list[float]]] = {key: {} for key in keys}
    for seed in seeds:
        params, x = random_network(architecture, seed)
        beliefs, propagated, diagonal = {}, [], []
        for activation, share in keys:
            about = uncertain(params, gain(activation), share)
            inputs = _uncertain(x, share if architecture.uncertain_inputs else 0.0)
            beliefs[gain(activation), share] = about, inputs
            inputs = inputs if architecture.uncertain_inputs else x
            propagated.append(program(activation, True)(about, inputs))
            if architecture.convolutional:
                diagonal.append(program(activation, False)(about, inputs))
        centres = jnp.stack([b.mean for b in propagated])
        estimate = average(jax.random.key(10_000 + seed), list(beliefs.values()), centres)
        for i, reference in enumerate(summarised(estimate, centres, draws)):
            found = errors(propagated[i], reference)
            found["reference_error"] = reference.relative_error
            if diagonal:
                found["diagonal_ratio"] = errors(diagonal[i], reference)["variance_ratio"]
            for figure, value in found.items():
                cells[keys[i]].setdefault(figure, []).append(value)
    return [
        {"network": name, "activation": activation, "share": share, **cell}
        for (activation, share), cell in cells.items()
    ]


def measure(quick: bool) -> dict[str, Any]:
    """All architectures, activations and variances."""
    return measured(ARCHITECTURES, [*ACTIVATIONS], 2000 if quick else 200_000, quick)


def measured(networks: Any, activations: list[str], draws: int, quick: bool) -> dict[str, Any]:
    """The cells of some architectures by name, and how they were made."""
    cells, seeds = [], range(1 if quick else 4)
    for name, architecture in networks.items():
        begin = time.process_time()
        cells += accuracy(name, architecture, activations[: 1 if quick else None], seeds, draws)
        print(f"{name}: {time.process_time() - begin:.0f} s", flush=True)
    return {"seeds": list(seeds), "inputs": INPUTS, "draws": draws, "cells": cells}


def summary(cell: Any) -> dict[str, Any]:
    """A cell, and of its networks' figures the mean, the least, the most and the worst."""
    found = dict(cell)
    for name in (name for name, figures in cell.items() if isinstance(figures, list)):
        for what, of in (("mean", np.mean), ("least", min), ("most", max)):
            found[f"{name}_{what}"] = of(cell[name])
    ratio = max(cell["variance_ratio"], key=lambda ratio: abs(ratio - 1))
    return found | {"mean_error_worst": max(cell["mean_error"]), "variance_ratio_worst": ratio}


TABLES = [
    Table(
        "cells",
        "network {network} | activation {activation} | share {share} | "
        "mean error {mean_error_mean:.4f} | worst {mean_error_worst:.4f} | "
        "variance {variance_ratio_mean:.3f} | worst {variance_ratio_worst:.3f} | "
        "one output {output_error_mean:.3f} | reference {reference_error_mean:.4f} | "
        "diagonal {diagonal_ratio_mean:.3f}",
        more=summary,
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
