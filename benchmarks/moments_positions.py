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

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import cgjax as cg
from benchmarks import moments_accuracy
from benchmarks.moments_accuracy import Architecture, random_network, uncertain
from benchmarks.records import Table
from benchmarks.timing import Steps, compiled, interleaved

ACTIVATIONS = {a: f for a, f in moments_accuracy.ACTIVATIONS.items() if a != "leaky ReLU"}


def pooled(pool: Callable[..., Any], activation: Callable[..., Any], params: Any, x: Any) -> Any:
    """Two convolutions, each before a pooling of 2 x 2 pixels; of what averages the average over
    all pixels."""
    for layer in params[:-1]:
        x = pool(activation(convolution(layer, x)), (2, 2), (2, 2))
    return dense(params[-1], x.mean((1, 2)) if pool is nnx.avg_pool else x.reshape(len(x), -1))


def strided(activation: Callable[..., Any], params: Any, x: Any) -> Any:
    """A convolution with stride 2 and one without padding; no pooling."""
    x = activation(convolution(params[0], x, 2))
    x = activation(convolution(params[1], x, padding="VALID"))
    return dense(params[2], x.reshape(x.shape[0], -1))


def residual_blocks(activation: Callable[..., Any], params: Any, x: Any) -> Any:
    """Two residual blocks with an average pooling between them, and the average over all."""
    first, *blocks, last = params
    x = activation(convolution(first, x))
    for i, (inner, outer) in enumerate(zip(blocks[::2], blocks[1::2], strict=True)):
        x = x + convolution(outer, activation(convolution(inner, x)))
        x = x if i else nnx.avg_pool(x, (2, 2), (2, 2))
    return dense(last, activation(x).mean((1, 2)))


def max_pooled_residual(activation: Callable[..., Any], params: Any, x: Any) -> Any:
    """A maximum pooling, a residual block, a strided convolution, and the average over all."""
    x = nnx.max_pool(activation(convolution(params[0], x)), (2, 2), (2, 2))
    x = activation(x + convolution(params[2], activation(convolution(params[1], x))))
    x = activation(convolution(params[3], x, 2))
    return dense(params[4], x.mean((1, 2)))


def convolution(layer: Any, x: Any, stride: int = 1, padding: str = "SAME") -> Any:
    """A convolution of images with channels last."""
    (kernel, bias), axes = layer, ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=axes)
    return y + bias.reshape(1, 1, 1, -1)


def dense(layer: Any, x: Any) -> Any:
    """A dense layer."""
    return x @ layer[0] + layer[1]


def of_images(function: Any, channels: tuple[int, ...], last: tuple[int, int]) -> Architecture:
    """A network of the channels of its convolutions and the sizes of its dense layer."""
    kernels = [(3, 3, m, n) for m, n in itertools.pairwise(channels)]
    return Architecture(function, [*kernels, last], (12, 12, 3), convolutional=True)


ARCHITECTURES = {
    "maximum pooling": of_images(functools.partial(pooled, nnx.max_pool), (3, 8, 16), (144, 10)),
    "average pooling, global average": of_images(
        functools.partial(pooled, nnx.avg_pool), (3, 8, 16), (16, 10)
    ),
    "strides, no pooling": of_images(strided, (3, 8, 16), (256, 10)),
    "residual blocks, global average": of_images(residual_blocks, (3, 8, 8, 8, 8, 8), (8, 10)),
    "maximum pooling, residual, global average": of_images(
        max_pooled_residual, (3, 8, 8, 8, 16), (16, 10)
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
    f = functools.partial(architecture.function, ACTIVATIONS[activation])
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
