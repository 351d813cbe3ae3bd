"""What does training on means and variances cost? Its step relative to the plain network's.

Steps of stochastic gradient descent (forward, backward, update of means and log-variances) on the
negative ELBO, for every procedure for uncertain weights in one interleaved run: the dense network
784-1024-1024-10 and a small convolutional network, with average and with max pooling, at batch 128
and 32. The matrix products of means and variances alone are three times those of the plain network,
two times where the input is certain. "variance" is the total variance of the outputs by moments,
relative to that of 4,000 sampled networks.

    python -m benchmarks.moments                          # about 10 minutes on 2 cores
    python -m benchmarks.moments --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import moments_accuracy
from benchmarks.moments_accuracy import Architecture, dense, layered
from benchmarks.records import Table
from benchmarks.timing import Prepared, batch, compared, descent
from cgjax import weights

SIZES = (784, 1024, 1024, 10)
ACTIVATIONS = {a: f for a, f in moments_accuracy.ACTIVATIONS.items() if a != "SiLU"}
PROCEDURES: dict[str, Callable[..., Any] | None] = {
    "plain": None,
    "moments": weights.deterministic,
    "moments, first order": partial(weights.deterministic, order=1),
    "weight sample": weights.weight_sample,
    "local reparameterisation": weights.local_reparameterization,
    "flipout": weights.flipout,
}


def convolutional(pool: str) -> Architecture:
    """Three convolutions, a pooling after the second, and the average over all positions."""
    steps = (
        f"convolution activation convolution activation {pool} convolution activation mean dense"
    )
    kernels = [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (64, 10)]
    return Architecture(partial(layered, steps), kernels, (16, 16, 3))


# With their batch sizes.
NETWORKS = {
    "dense": (dense(*SIZES), 128),
    "convolutional": (convolutional("average"), 32),
    "max pooling": (convolutional("maximum"), 32),
}


def network(name: str, activation: str) -> tuple[Callable[..., Any], Any]:
    """A network, and random weights that keep the size of what passes through."""
    architecture, _ = NETWORKS[name]

    def layer(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        fan_in = math.prod(shape[:-1])
        kernel = jax.random.normal(jax.random.key(len(shape) + fan_in), shape)
        return kernel * (2 / fan_in) ** 0.5, jnp.zeros(shape[-1])

    f = partial(architecture.function, ACTIVATIONS[activation])
    return f, [layer(shape) for shape in architecture.shapes]


def prepare(name: str, activation: str, procedure: str) -> Prepared:
    """A function that makes steps, and what is known of them before they are timed."""
    f, params = network(name, activation)
    architecture, size = NETWORKS[name]
    build = PROCEDURES[procedure]

    def loss(params: Any, key: Any, state: Any, x: Any, y: Any) -> Any:
        if build is None:
            logits = f(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state
        output = build(f)(key, params, x)
        terms = weights.elbo(weights.CategoricalHead(), output, y, params)
        return terms.per_example(60_000), state

    start = params if build is None else weights.mean_field(params, 1e-4)
    steps, facts = descent(loss, start, (), *batch(size, architecture.example), rate=1e-3)
    return steps, facts | {"batch_size": size}


def accuracy(name: str, activation: str) -> float:
    """The variance of all outputs by moments, relative to that of 4,000 sampled networks."""
    f, params = network(name, activation)
    posterior = weights.mean_field(params, 1e-4)
    shape = (4, *NETWORKS[name][0].example)
    x = jnp.asarray(np.random.default_rng(1).random(shape, dtype=np.float32))
    sample = weights.weight_sample(f)
    keys = jax.random.split(jax.random.key(1), 4000)
    draws = jax.jit(lambda k: lax.map(lambda key: sample(key, posterior, x).mean, k, batch_size=8))
    moments = weights.deterministic(f)(None, posterior, x)
    return float(moments.variance.sum() / draws(keys).var(0).sum())


def measure(quick: bool) -> dict[str, Any]:
    """Steps of all networks and procedures."""
    rows = []
    rounds, calls = (2, 1) if quick else (21, 3)
    for name in NETWORKS:
        for activation in ["ReLU"] if quick else ACTIVATIONS:
            prepared = {p: prepare(name, activation, p) for p in PROCEDURES}
            for p, figures in compared(prepared, "plain", rounds=rounds, calls=calls).items():
                rows.append({"network": name, "activation": activation, "procedure": p} | figures)
            if not quick:
                rows[-len(PROCEDURES) + 1]["variance_ratio"] = accuracy(name, activation)
    return {"steps": rows}


TABLES = [
    Table(
        "steps",
        "network {network} | activation {activation} | training step {procedure} | "
        "ms {milliseconds:.1f} | ratio (quartiles) {ratio~2} | "
        "of the fastest {ratio_of_fastest:.2f} | compile s {compile_seconds:.2f} | "
        "temporary MB {temporary_bytes/1e6:.1f} | variance {variance_ratio:.2f}",
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
