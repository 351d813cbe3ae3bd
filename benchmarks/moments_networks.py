"""Of which networks are the variances of `moments` right, and for which uncertainty?

Small random networks of the kinds that covariances matter in: a residual block, dense and
convolutional, and one behind a layer norm with a scale; convolutions with maximum and average
pooling; a recurrent network over 20 steps, and eight steps that each add a little of one network,
as of a neural differential equation; a block of attention, and the average of its positions.
Inputs, weights, or both have a variance of 0.1 of their mean square. Variances of the outputs
relative to those of 10,000 samples: the total, and the quartiles over the single outputs, of which
samples have an error of 1.4 % and moments one that does not average out.

    taskset -c 0 python -m benchmarks.moments_networks      # several minutes of one core
    python -m benchmarks.moments_networks --only "attention*" "recurrent*" --no-write
    python -m benchmarks.moments_networks --quick --no-write
"""

from benchmarks import command

DRAWS = {"help": "samples of a network", "type": int, "default": 10_000}
ONLY = {"help": "patterns of networks", "nargs": "+", "default": ["*"]}
OPTIONS = command.read(__name__, __doc__, draws=DRAWS, only=ONLY)

from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from benchmarks.moments_accuracy import (
    ACTIVATIONS,
    FAST,
    Architecture,
    gain,
    layered,
    random_network,
    uncertain,
)
from benchmarks.records import Table

SHARE = 0.1
STEPS = 20


def recurrent(activation: Any, params: Any, x: Any) -> Any:
    """The last state of a recurrent network."""
    (inward, bias), (across, _) = params

    def step(state: Any, x: Any) -> tuple[Any, None]:
        return activation(x @ inward + state @ across + bias), None

    start = jnp.zeros((len(x), across.shape[0]))
    return lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0]


def layer(x: Any, parameters: Any) -> Any:
    """A dense layer."""
    return x @ parameters[0] + parameters[1]


def tied(activation: Any, params: Any, x: Any) -> Any:
    """Steps that each add an eighth of the same two layers."""
    first, second = params

    def step(x: Any, _: None) -> tuple[Any, None]:
        return x + layer(activation(layer(x, first)), second) / 8, None

    return lax.scan(step, x, None, length=8)[0]


def normalised(activation: Any, params: Any, x: Any) -> Any:
    """A layer, and a block whose branch begins with a layer norm."""
    inward, (scale, shift), first, second = params
    x = layer(x, inward)
    centred = x - x.mean(-1, keepdims=True)
    branch = centred * (lax.rsqrt((centred**2).mean(-1, keepdims=True)) * scale) + shift
    return x + layer(activation(layer(branch, first)), second)


def scored(params: Any, x: Any) -> Any:
    """The scores of attention."""
    query, key, *_ = params
    q, k = layer(x, query), layer(x, key)
    return q @ jnp.swapaxes(k, 1, 2) / q.shape[-1] ** 0.5


def weighed(params: Any, weights: Any, x: Any) -> Any:
    """The averages of the values by weights."""
    return weights @ layer(x, params[2])


def averaged(activation: Any, params: Any, x: Any) -> Any:
    """The average of the positions after a block of attention."""
    return attention(activation, params, x).mean(1)


def attended(params: Any, x: Any) -> Any:
    """Attention over positions, added to what it attends to."""
    weights = jax.nn.softmax(scored(params, x), axis=-1)
    return x + layer(weighed(params, weights, x), params[3])


def forward(activation: Any, params: Any, x: Any) -> Any:
    """Two layers at each position, added to what they are of."""
    *_, first, second = params
    return x + layer(activation(layer(x, first)), second)


def attention(activation: Any, params: Any, x: Any) -> Any:
    """Attention over positions and two layers at each, both beside what they are added to."""
    return forward(activation, params, attended(params, x))


def of_images(steps: str, *kernels: tuple[int, ...]) -> Architecture:
    """A network of 3 x 3 convolutions."""
    shapes = [(3, 3, *shape) for shape in kernels]
    return Architecture(partial(layered, steps), shapes, (8, 8, 3), convolutional=True)


CHANNELS = (3, 8), (8, 8), (8, 8)
ATTENTION = [*((16, 16),) * 4, (16, 32), (32, 16)]
# With an activation.
NETWORKS = {
    "residual block, dense": (
        Architecture(partial(layered, "dense dense-block"), [(32, 32), (32, 48), (48, 32)], (32,)),
        "ReLU",
    ),
    "three residual blocks, dense": (
        Architecture(
            partial(layered, "dense" + 3 * " dense-block"),
            [(32, 32), *((32, 48), (48, 32)) * 3],
            (32,),
        ),
        "ReLU",
    ),
    "residual block, convolution": (
        of_images("convolution convolution-block", *CHANNELS),
        "ReLU",
    ),
    "average pooling": (
        of_images("convolution activation average convolution activation average", *CHANNELS[:2]),
        "ReLU",
    ),
    "maximum pooling": (
        of_images("convolution activation maximum convolution activation maximum", *CHANNELS[:2]),
        "ReLU",
    ),
    "recurrent, 20 steps": (
        Architecture(recurrent, [(8, 32), (32, 32)], (STEPS, 8)),
        "tanh",
    ),
    "eight steps of one network": (Architecture(tied, [(16, 32), (32, 16)], (16,)), "tanh"),
    "residual block, layer norm": (
        Architecture(normalised, [(32, 32), (32,), (32, 48), (48, 32)], (32,)),
        "GELU",
    ),
    "attention block": (Architecture(attention, ATTENTION, (6, 16)), "GELU"),
    "attention block, averaged": (Architecture(averaged, ATTENTION, (6, 16)), "GELU"),
}
UNCERTAIN = ("inputs", "weights", "both")
# Derivatives along random directions, of which the first order of all variances is the mean.
DIRECTIONS, SKETCHED = (1, 4, 8, 32, 64, 0), "residual block, dense"
# Of which each step is looked at.
ATTENDING = "attention block"


def arguments(network: str, what: str, seed: int) -> tuple[Any, Any]:
    """Parameters and inputs of a random network, with beliefs about what is uncertain."""
    architecture, activation = NETWORKS[network]
    params, x = random_network(architecture, seed)
    about = uncertain(params, gain(activation), SHARE if what != "inputs" else 0.0)
    if what == "inputs":
        about = jax.tree.map(lambda b: b.mean, about, is_leaf=_is_belief)
    return about, x if what == "weights" else uncertain(x, 1.0, SHARE)


def ratios(network: str, what: str, seeds: range, draws: int) -> list[np.ndarray]:
    """Variances by moments relative to those of samples, and these, for each network."""
    architecture, activation = NETWORKS[network]
    function = partial(architecture.function, ACTIVATIONS[activation])
    moments = jax.jit(cg.moments(function), compiler_options=FAST)
    sampled = sampler(function, draws)
    found = []
    for seed in seeds:
        about, x = arguments(network, what, seed)
        reference = sampled(jax.random.key(1000 + seed), about, x)
        found.append(beside(moments(about, x), reference))
    return found


def beside(ours: cg.Belief, theirs: cg.Belief) -> np.ndarray:
    """The variances of both, one above the other."""
    return np.stack([ours.variance, theirs.variance]).reshape(2, -1)


def sampler(function: Any, draws: int) -> Any:
    """`sampled(key, about, x)`: mean and variance of a function of drawn weights and inputs."""

    @jax.jit
    def sampled(key: Any, about: Any, x: Any) -> cg.Belief:
        def draw(key: Any) -> Any:
            leaves, tree = jax.tree.flatten((about, x), is_leaf=_is_belief)
            keys = jax.random.split(key, len(leaves))
            return function(*jax.tree.unflatten(tree, map(_drawn, keys, leaves)))

        def add(sums: Any, key: Any) -> tuple[Any, None]:
            off = draw(key) - centre
            return (sums[0] + off, sums[1] + off**2), None

        centre = draw(key)
        zero = jnp.zeros_like(centre)
        (first, second), _ = lax.scan(add, (zero, zero), jax.random.split(key, draws))
        return cg.Belief(centre + first / draws, second / draws - (first / draws) ** 2)

    return sampled


def _is_belief(x: Any) -> bool:
    return isinstance(x, cg.Belief)


def _drawn(key: Any, value: Any) -> Any:
    if not _is_belief(value):
        return value
    return value.mean + jnp.sqrt(value.variance) * jax.random.normal(key, value.mean.shape)


def cell(network: str, what: str, seeds: range, draws: int) -> dict[str, Any]:
    """The total of each network, and the quartiles of all single outputs."""
    found = ratios(network, what, seeds, draws)
    named = {"network": network, "activation": NETWORKS[network][1], "uncertain": what}
    return named | compared(found)


def compared(found: list[np.ndarray]) -> dict[str, Any]:
    """Variances relative to those of samples, for each network."""
    single = np.concatenate([ours[theirs > 0] / theirs[theirs > 0] for ours, theirs in found])
    low, median, high = np.percentile(single, [25, 50, 75])
    return {
        "total": [float(ours.sum() / theirs.sum()) for ours, theirs in found],
        "single": {"median": median, "low": low, "high": high},
        "within": float((np.abs(single - 1) <= 0.25).mean()),
    }


def along(network: str, seeds: range, draws: int) -> list[dict[str, Any]]:
    """What derivatives along some random directions of the inputs say of the variances."""
    architecture, activation = NETWORKS[network]
    references = [theirs for _, theirs in ratios(network, "inputs", seeds, draws)]
    rows = []
    for number in DIRECTIONS:
        found = []
        for seed, theirs in zip(seeds, references, strict=True):
            params, x = arguments(network, "inputs", seed)
            network_at = partial(architecture.function, ACTIVATIONS[activation], params)
            _, linear = jax.linearize(network_at, x.mean)
            moved = jax.vmap(linear)(directions(number, seed, x.mean) * jnp.sqrt(x.variance))
            ours = (moved**2).mean(0)
            found.append(np.stack([ours, theirs.reshape(ours.shape)]).reshape(2, -1))
        named = {"network": network, "directions": number or "each input"}
        rows.append(named | compared(found))
    return rows


def directions(number: int, seed: int, x: Any) -> Any:
    """So many random ones; for none, that of each element of an example, as long as they are."""
    if not number:
        one = jnp.eye(x.shape[-1], dtype=x.dtype) * x.shape[-1] ** 0.5
        return jnp.broadcast_to(one[:, None], (x.shape[-1], *x.shape))
    key = jax.random.key(number + 100 * seed)
    return jax.random.rademacher(key, (number, *x.shape), x.dtype)


def steps_of_attention(seeds: range, draws: int) -> list[dict[str, Any]]:
    """Attention with uncertain inputs step by step: as it is, and each step from sampled moments.

    The latter is what a step would give if all that is known of the one before, element by element,
    were right: what is left is what elements have in common.
    """

    architecture, activation = NETWORKS[ATTENDING]
    softmax = partial(jax.nn.softmax, axis=-1)
    forwards = partial(forward, ACTIVATIONS[activation])
    functions = {
        "scores": scored,
        "weights of values": lambda params, x: softmax(scored(params, x)),
        "averages of values": lambda params, x: weighed(params, softmax(scored(params, x)), x),
        "with the skip": attended,
        "block": partial(architecture.function, ACTIVATIONS[activation]),
    }
    scores, weights, mixed, beside_skip, block = functions
    found: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        params, x = arguments(ATTENDING, "inputs", seed)
        key = jax.random.key(1000 + seed)
        true = {name: sampler(f, draws)(key, params, x) for name, f in functions.items()}
        ours = {name: cg.moments(f)(params, x) for name, f in functions.items()}
        ours |= {
            f"{weights}, of sampled scores": cg.moments(softmax)(true[scores]),
            f"{mixed}, of sampled weights": cg.moments(weighed)(params, true[weights], x),
            f"{mixed}, of known weights": cg.moments(weighed)(params, true[weights].mean, x),
            f"{block}, of sampled sums": cg.moments(forwards)(params, true[beside_skip]),
        }
        for name, belief in ours.items():
            found.setdefault(name, []).append(beside(belief, true[name.split(",")[0]]))
    return [{"network": ATTENDING, "step": name} | compared(f) for name, f in found.items()]


def measure(quick: bool, draws: int, only: list[str]) -> Any:
    """All networks of which a pattern is given, and all uncertainties."""
    cells, found, steps, result = [], [], [], {}
    seeds, draws = (range(1), 200) if quick else (range(3), draws)
    for network in NETWORKS:
        if not any(fnmatchcase(network, pattern) for pattern in only):
            continue
        for what in UNCERTAIN:
            cells.append(cell(network, what, seeds, draws))
            result = {"cells": cells, "draws": draws, "seeds": list(seeds), "share": SHARE}
            yield result
        if network == SKETCHED:
            found = along(network, seeds, draws)
        if network == ATTENDING:
            steps = steps_of_attention(seeds, draws)
    yield result | {"directions": found, "steps": steps}


def summary(row: Any) -> dict[str, Any]:
    """A cell, with the mean, the least and the most of its networks' totals."""
    total = row["total"]
    return {**row, "total_mean": np.mean(total), "least": min(total), "most": max(total)}


TABLES = [
    Table(
        "cells",
        "network {network} | activation {activation} | uncertain {uncertain} | "
        "total {total_mean:.2f} ({least:.2f}-{most:.2f}) | single (quartiles) {single~2} | "
        "within 25 % {within:.2f}",
        more=summary,
    ),
    Table(
        "directions",
        "network {network} | directions {directions} | total {total_mean:.2f} "
        "({least:.2f}-{most:.2f}) | single (quartiles) {single~2} | within 25 % {within:.2f}",
        title="Uncertain inputs, by derivatives along random directions:",
        more=summary,
    ),
    Table(
        "steps",
        "step {step} | total {total_mean:.2f} ({least:.2f}-{most:.2f}) | "
        "single (quartiles) {single~2} | within 25 % {within:.2f}",
        title="Attention with uncertain inputs, step by step:",
        more=summary,
    ),
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
