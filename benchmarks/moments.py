"""What does training on means and variances cost? Its step relative to the plain network's.

Steps of stochastic gradient descent (forward, backward, update of means and log-variances) on the
negative ELBO, for every procedure for uncertain weights in one interleaved run: the dense network
784-1024-1024-10 and a small convolutional network, with average and with max pooling, at batch 128
and 32. The matrix products of means and variances alone are three times those of the plain network,
two times where the input is certain.

    python -m benchmarks.moments                          # about 10 minutes on 2 cores
    python -m benchmarks.moments --quick --no-write
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from benchmarks import command
from benchmarks.timing import interleaved, repeated
from cgjax import weights

SIZES = (784, 1024, 1024, 10)
CHANNELS, SIDE = (3, 32, 32, 64), 16
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "ReLU": jax.nn.relu,
    "leaky ReLU": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "GELU": jax.nn.gelu,
}
PROCEDURES: dict[str, Callable[..., Any] | None] = {
    "plain": None,
    "moments": weights.deterministic,
    "moments, first order": lambda f: weights.deterministic(f, order=1),
    "weight sample": weights.weight_sample,
    "local reparameterisation": weights.local_reparameterization,
    "flipout": weights.flipout,
}


def dense(activation: Callable[..., Any]) -> tuple[Any, Any, tuple[int, ...], int]:
    """A network, its parameters, the shape of an example, and the batch size."""

    def f(params: Any, x: Any) -> Any:
        for i, (kernel, bias) in enumerate(params):
            x = (activation(x) if i else x) @ kernel + bias
        return x

    pairs = zip(SIZES[:-1], SIZES[1:], strict=True)
    params = [(kernel(m, (m, n)), jnp.zeros(n)) for m, n in pairs]
    return f, params, SIZES[:1], 128


def convolutional(
    activation: Callable[..., Any], pool: Callable[..., Any] = nnx.avg_pool
) -> tuple[Any, Any, tuple[int, ...], int]:
    """Three convolutions, a pooling after the second, and the average over all positions."""

    def f(params: Any, x: Any) -> Any:
        for i, (kernel, bias) in enumerate(params[:-1]):
            numbers = ("NHWC", "HWIO", "NHWC")
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
            x = activation(x + bias)
            if i == 1:
                x = pool(x, (2, 2), (2, 2))
        return x.mean((1, 2)) @ params[-1][0] + params[-1][1]

    pairs = zip(CHANNELS[:-1], CHANNELS[1:], strict=True)
    params = [(kernel(9 * m, (3, 3, m, n)), jnp.zeros(n)) for m, n in pairs]
    params.append((kernel(CHANNELS[-1], (CHANNELS[-1], 10)), jnp.zeros(10)))
    return f, params, (SIDE, SIDE, CHANNELS[0]), 32


def kernel(fan_in: int, shape: tuple[int, ...]) -> jax.Array:
    """Random weights that keep the size of what passes through."""
    return jax.random.normal(jax.random.key(len(shape) + fan_in), shape) * (2 / fan_in) ** 0.5


def max_pooled(activation: Callable[..., Any]) -> tuple[Any, Any, tuple[int, ...], int]:
    """The same convolutional network with max pooling."""
    return convolutional(activation, nnx.max_pool)


NETWORKS = {"dense": dense, "convolutional": convolutional, "max pooling": max_pooled}


def prepare(network: str, activation: str, procedure: str) -> tuple[Any, dict[str, Any]]:
    """A function that makes steps, and what is known of them before they are timed."""
    f, params, shape, batch = NETWORKS[network](ACTIVATIONS[activation])
    optimiser = optax.sgd(1e-3, momentum=0.9)
    build = PROCEDURES[procedure]
    start = params if build is None else weights.mean_field(params, 1e-4)

    def loss(params: Any, key: Any, x: Any, y: Any) -> Any:
        if build is None:
            logits = f(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        output = build(f)(key, params, x)
        head = weights.CategoricalHead()
        return weights.elbo(head, output, y, params).per_example(60_000)

    def step(params: Any, state: Any, key: Any, x: Any, y: Any) -> Any:
        key, own = jax.random.split(key)
        updates, state = optimiser.update(jax.grad(loss)(params, own, x, y), state)
        return optax.apply_updates(params, updates), state, key

    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.random((batch, *shape), dtype=np.float32))
    y = jnp.asarray(generator.integers(0, 10, batch))
    carry = (start, optimiser.init(start), jax.random.key(0))
    begin = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*carry, x, y).compile()
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    facts = {
        "compile_seconds": seconds,
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "batch_size": batch,
    }
    return repeated(compiled, carry, x, y), facts


def accuracy(network: str, activation: str) -> float:
    """The variance of all outputs by moments, relative to that of 4,000 sampled networks."""
    f, params, shape, _ = NETWORKS[network](ACTIVATIONS[activation])
    posterior = weights.mean_field(params, 1e-4)
    x = jnp.asarray(np.random.default_rng(1).random((4, *shape), dtype=np.float32))
    sample = weights.weight_sample(f)
    keys = jax.random.split(jax.random.key(1), 4000)
    draws = jax.jit(lambda k: lax.map(lambda key: sample(key, posterior, x).mean, k, batch_size=8))
    moments = weights.deterministic(f)(None, posterior, x)
    return float(moments.variance.sum() / draws(keys).var(0).sum())


def measure(quick: bool) -> dict[str, Any]:
    """Steps of all networks and procedures."""
    rows = []
    for network in NETWORKS:
        for activation in ["ReLU"] if quick else ACTIVATIONS:
            prepared = {p: prepare(network, activation, p) for p in PROCEDURES}
            timings = interleaved(
                {name: steps for name, (steps, _) in prepared.items()},
                rounds=2 if quick else 21,
                calls=1 if quick else 3,
            )
            for name, timing in timings.items():
                ratio = timing.ratio(timings["plain"])
                rows.append(
                    {
                        "network": network,
                        "activation": activation,
                        "procedure": name,
                        "milliseconds": 1e3 * timing.seconds,
                        "ratio": ratio.median,
                        "ratio_low": ratio.low,
                        "ratio_high": ratio.high,
                        "ratio_of_fastest": ratio.fastest,
                        **prepared[name][1],
                    }
                )
            if not quick:
                rows[-len(PROCEDURES) + 1]["variance_ratio"] = accuracy(network, activation)
    return {"steps": rows}


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    print(
        f"{'network':14} {'activation':10} {'procedure':25} {'ms':>8} {'ratio':>6} "
        f"{'quartiles':>11} {'fastest':>7} {'compile s':>9} {'temporary MB':>12} {'variance':>8}"
    )
    for r in result["steps"]:
        quartiles = f"{r['ratio_low']:.2f}-{r['ratio_high']:.2f}"
        variance = f"{r['variance_ratio']:8.3f}" if "variance_ratio" in r else ""
        print(
            f"{r['network']:14} {r['activation']:10} {r['procedure']:25} {r['milliseconds']:8.2f} "
            f"{r['ratio']:6.2f} {quartiles:>11} {r['ratio_of_fastest']:7.2f} "
            f"{r['compile_seconds']:9.2f} {(r['temporary_bytes'] or 0) / 1e6:12.1f} {variance}"
        )


if __name__ == "__main__":
    command.run("moments", "What does training on means and variances cost?", measure, show)
