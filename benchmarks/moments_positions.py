"""How much of the variance do positions share, and what does it cost to follow it?

Random convolutional networks that nobody tuned, with uncertain weights as in
`benchmarks.moments_accuracy`: with pooling by maximum and average, strides, residual blocks and
global average, four activations. Total variance of the outputs by `moments`, and by the diagonal
method of [B] (`positions=False`), relative to 10,000 sampled networks; and the CPU time of values
and gradients with what positions share, relative to that without.

    taskset -c 0 python -m benchmarks.moments_positions      # about 10 minutes of one core
    python -m benchmarks.moments_positions --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import itertools
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import cgjax as cg
from benchmarks import moments_accuracy
from benchmarks.moments_accuracy import Architecture, layered, random_network, uncertain
from benchmarks.records import Table
from benchmarks.timing import Steps, compiled, interleaved

ACTIVATIONS = {a: f for a, f in moments_accuracy.ACTIVATIONS.items() if a != "leaky ReLU"}


def of_images(steps: str, channels: tuple[int, ...], last: tuple[int, int]) -> Architecture:
    """A network of the channels of its convolutions and the sizes of its dense layer."""
    kernels = [(3, 3, m, n) for m, n in itertools.pairwise(channels)]
    return Architecture(partial(layered, steps), [*kernels, last], (12, 12, 3), convolutional=True)


ARCHITECTURES = {
    "maximum pooling": of_images(
        2 * "convolution activation maximum " + "flat dense", (3, 8, 16), (144, 10)
    ),
    "average pooling, global average": of_images(
        2 * "convolution activation average " + "mean dense", (3, 8, 16), (16, 10)
    ),
    "strides, no pooling": of_images(
        "strided activation unpadded activation flat dense", (3, 8, 16), (256, 10)
    ),
    "residual blocks, global average": of_images(
        "convolution activation convolution-block average convolution-block activation mean dense",
        (3, 8, 8, 8, 8, 8),
        (8, 10),
    ),
    "maximum pooling, residual, global average": of_images(
        "convolution activation maximum convolution-block activation strided activation mean dense",
        (3, 8, 8, 8, 16),
        (16, 10),
    ),
}
TIMED = ("maximum pooling", "average pooling, global average", "residual blocks, global average")


def wider(architecture: Architecture, factor: int) -> Architecture:
    """The same with more channels; colours and outputs stay 3 and 10."""

    def scaled(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n if n in (3, 10) else factor * n for n in sizes)

    shapes = [(*s[:-2], *scaled(s[-2:])) for s in architecture.shapes]
    return architecture._replace(shapes=shapes)


def cost(name: str, activation: str, quick: bool) -> dict[str, Any]:
    """CPU time with what positions share, relative to that without: values and gradients.

    Of networks with four times the channels: those of the accuracy are too small to time.
    """
    architecture = wider(ARCHITECTURES[name], 4)
    params, x = random_network(architecture, 0)
    about = uncertain(params, moments_accuracy.gain(activation), 0.1)
    x = jnp.tile(x, (8, 1, 1, 1))  # 16 examples
    f = partial(architecture.function, ACTIVATIONS[activation])
    found: dict[str, Any] = {"network": name, "activation": activation, "batch_size": len(x)}
    often = {"rounds": 2, "calls": 1} if quick else {"rounds": 15, "calls": 3}

    def timed(positions: bool, differentiated: bool) -> Steps:
        run = cg.moments(f, positions=positions)

        def loss(about: Any, x: Any) -> Any:
            out = run(about, x)
            return jnp.sum(out.mean**2 + out.variance)

        program, _ = compiled(jax.jit(jax.grad(loss) if differentiated else run), about, x)
        return lambda calls: jax.block_until_ready([program(about, x) for _ in range(calls)])

    for what in ("value", "gradient"):
        functions = {positions: timed(positions, what == "gradient") for positions in (False, True)}
        timings = interleaved(functions, clock=time.process_time, **often)
        found[f"{what}_milliseconds"] = 1e3 * timings[True].seconds
        found[f"{what}_ratio"] = timings[True].ratio(timings[False])._asdict()
    return found


def measure(quick: bool) -> dict[str, Any]:
    """Accuracy of all architectures, activations and variances; then the cost."""
    draws = 400 if quick else 10_000
    found = moments_accuracy.measured(ARCHITECTURES, list(ACTIVATIONS), draws, quick)
    begin = time.process_time()
    costs = [cost(name, "ReLU", quick) for name in TIMED]
    print(f"cost: {time.process_time() - begin:.0f} s", flush=True)
    return {**found, "cost": costs}


TABLES = [
    *moments_accuracy.TABLES,
    Table(
        "cost",
        "network {network} | activation {activation} | "
        "+ms {value_milliseconds:.2f} | values {value_ratio~2} | "
        "+ms {gradient_milliseconds:.2f} | gradients {gradient_ratio~2}",
    ),
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
