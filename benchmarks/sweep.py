"""What is the fastest form of many small convolutions with different weights?

A sweep trains R runs of one network at once, and each run has weights of its own. Training steps of
ResNet20 (SGD with momentum; plain, and PCFF at a rate of each run's own) over a run axis of several
lengths, in three forms of its 3 x 3 convolutions, with float32 and bfloat16 convolutions and nodes
on float32 weights, all in one interleaved run:

- grouped: `vmap` of a convolution, which is one grouped convolution;
- products: `vmap` of a product of patches and the kernel, which is one batched matrix product;
- loop: `lax.map` over runs, each with its own ordinary convolution.

    python -m benchmarks.sweep                          # on a GPU or a CPU: a preset for each
    python -m benchmarks.sweep --preset gpu-short       # of one length besides 1: half the programs
    python -m benchmarks.sweep --form products          # one form alone: a third of them
    python -m benchmarks.sweep --quick --no-write       # a tiny network, to see that it works

It needs jax, flax, optax, chex, jaxtyping and numpy alone. Beside each step's time stand two
bounds, of a program that makes these multiply-adds and this traffic at the rates of the device,
which are measured: of a large matrix product in the step's dtype, and of a large copy.

- arithmetic: 2 (3 M - M_1) R B floating-point operations, for M multiply-adds of an image's forward
  pass and M_1 of the first convolution, by whose input nobody differentiates.
- memory: R B (3 sum_c (x_c + y_c) + 8 sum_n e_n) d + 24 R P bytes, for convolutions of x_c inputs
  and y_c outputs an image, e_n nodes, d bytes an element, P parameters. A convolution reads and
  writes both in the forward pass and in each of its two derivatives; normalisation and ReLU read e
  for the moments, read e and write h, read h's gradient and e twice, and write e's gradient; the
  optimiser reads and writes weights, momentum and gradient.

"error" is the relative distance of the first step's gradient, over all parameters of two runs (of
one, where there is one), from that of the loop in float64 with the same random numbers: a fast
wrong program would show.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

import cgjax as cg
from benchmarks import command
from benchmarks.timing import Timing, interleaved, repeated
from train.models.convolution import convolved, products
from train.models.resnet import ResNet

CLASSES = 10
DTYPES = ("float32", "bfloat16")
PROCEDURES = ("plain", "pcff")


class Preset(NamedTuple):
    """What is measured."""

    blocks: int
    widths: tuple[int, ...]
    side: int
    batch: int
    runs: tuple[int, ...]  # the first is 1, which the others are compared with
    rounds: int
    calls: int  # steps of each round
    product: int  # rows and columns of the large product
    copy: int  # bytes of the large copy


PRESETS = {
    "tiny": Preset(1, (4,), 8, 4, (1, 3), 2, 1, 256, 2**22),
    "cpu": Preset(3, (16, 32, 64), 32, 16, (1, 4), 5, 1, 2048, 2**27),
    "gpu-short": Preset(3, (16, 32, 64), 32, 128, (1, 20), 9, 3, 8192, 2**30),
    "gpu": Preset(3, (16, 32, 64), 32, 128, (1, 5, 20, 60), 9, 3, 8192, 2**30),
}


def mapped(step: Callable[..., Any]) -> Callable[..., Any]:
    """A function of all runs, side by side."""
    return jax.vmap(step)


def looped(step: Callable[..., Any]) -> Callable[..., Any]:
    """A function of all runs, one after the other."""
    return lambda *args: lax.map(lambda one: step(*one), args)


# Name: how a convolution is computed, and how runs are.
FORMS = {
    "grouped": (convolved, mapped),
    "products": (products, mapped),
    "loop": (convolved, looped),
}


class Measured(NamedTuple):
    """One of the programs that are compared."""

    form: str
    dtype: str
    procedure: str
    runs: int


def programs(preset: Preset, form: str = "all") -> Iterator[Measured]:
    """Those of one form, or of all."""
    for runs in preset.runs:
        for name in FORMS if form == "all" else [form]:
            for dtype in DTYPES:
                for procedure in PROCEDURES:
                    yield Measured(name, dtype, procedure, runs)


def network(preset: Preset, convolution: Any, dtype: Any, key: Any) -> ResNet:
    """A network of random weights."""
    return ResNet(
        blocks=preset.blocks,
        widths=preset.widths,
        classes=CLASSES,
        convolution=convolution,
        dtype=dtype,
        rngs=nnx.Rngs(key),
    )


@functools.lru_cache
def function(preset: Preset, convolution: Any, dtype: Any) -> Any:
    """`f(params, state, x) -> (logits, state)`."""
    make = functools.partial(network, preset, convolution, dtype)
    return cg.functional(nnx.eval_shape(lambda: make(jax.random.key(0))))[0]


def loss_of(f: Any, procedure: str) -> Callable[..., Any]:
    """The loss of one run on one batch, and its new state."""

    def loss(params: Any, state: Any, key: Any, rate: Any, x: Any, y: Any) -> Any:
        if procedure == "plain":
            logits, state = f(params, state, x)
        else:
            logits, state = cg.pcff(f, rate)(key, params, state, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state

    return loss


@functools.lru_cache
def start(preset: Preset, runs: int) -> tuple[Any, Any]:
    """Parameters and state of all runs, along a leading axis."""

    def one(run: Any) -> tuple[Any, Any]:
        key = jax.random.fold_in(jax.random.key(1), run)
        return cg.functional(network(preset, None, None, key))[1:]

    return jax.jit(jax.vmap(one))(jnp.arange(runs))


@functools.lru_cache
def inputs(preset: Preset, runs: int) -> tuple[Any, Any, Any, Any]:
    """Of each run a key, a PCFF rate, and a batch of random images and labels; the first run has
    the same in a sweep of any length."""
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(2)))(jnp.arange(runs))
    rates = np.linspace(0.3, 0.9, runs, dtype=np.float32)
    shape = (runs, preset.batch, preset.side, preset.side, 3)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = np.random.default_rng(1).integers(0, CLASSES, shape[:2]).astype(np.int32)
    return keys, *jax.device_put((rates, x, y))


def prepare(preset: Preset, measured: Measured) -> tuple[Any, dict[str, Any]]:
    """A function that makes steps of all runs, and what is known of them before they are timed."""
    convolution, over_runs = FORMS[measured.form]
    f = function(preset, convolution, jnp.dtype(measured.dtype))
    # As slow as it takes for many steps on one batch to stay with ordinary numbers.
    optimiser = optax.sgd(1e-4, momentum=0.9)
    differentiate = jax.grad(loss_of(f, measured.procedure), has_aux=True)

    def step(params: Any, state: Any, memory: Any, key: Any, rate: Any, x: Any, y: Any) -> Any:
        key, own = jax.random.split(key)
        gradient, state = differentiate(params, state, own, rate, x, y)
        updates, memory = optimiser.update(gradient, memory)
        return optax.apply_updates(params, updates), state, memory, key

    params, state = start(preset, measured.runs)
    key, *data = inputs(preset, measured.runs)
    carry = (params, state, jax.vmap(optimiser.init)(params), key)
    begin = time.perf_counter()
    compiled = jax.jit(over_runs(step), donate_argnums=(0, 1, 2)).lower(*carry, *data).compile()
    seconds = time.perf_counter() - begin
    analysis = compiled.memory_analysis()
    # After the first step the momentum is its gradient.
    momentum = compiled(*jax.tree.map(jnp.copy, carry), *data)[2][0].trace
    facts = {
        "compile_seconds": seconds,
        "temporary_bytes": analysis.temp_size_in_bytes if analysis else None,
        "error": distance(momentum, reference(preset, measured.procedure, measured.runs)),
    }
    return repeated(compiled, carry, *data), facts


# -- accuracy

COMPARED = 2


@functools.lru_cache
def reference(preset: Preset, procedure: str, runs: int) -> list[np.ndarray]:
    """The gradient of the first runs' first step, in float64 and one run after the other."""
    few = min(runs, COMPARED)
    params, state = start(preset, runs)
    keys, *data = inputs(preset, runs)
    keys = jax.vmap(jax.random.split)(keys)[:, 1]
    some = jax.tree.map(lambda a: a[:few], (params, state, keys, *data))
    with jax.enable_x64(True):
        params, state, keys, rates, x, y = some
        params, state, x = jax.tree.map(lambda a: a.astype(jnp.float64), (params, state, x))
        one = jax.grad(loss_of(function(preset, None, jnp.float64), procedure), has_aux=True)
        gradient, _ = jax.jit(looped(one))(params, state, keys, rates, x, y)
        return [np.asarray(g) for g in jax.tree.leaves(gradient)]


def distance(gradient: Any, exact: list[np.ndarray]) -> float:
    """Of the first runs' gradient from the reference, relative to it."""
    squares = [
        (np.sum((np.asarray(g[: len(e)], np.float64) - e) ** 2), np.sum(e**2))
        for g, e in zip(jax.tree.leaves(gradient), exact, strict=True)
    ]
    error, size = np.sum(squares, axis=0)
    return float(np.sqrt(error / size))


# -- bounds


class Work(NamedTuple):
    """What a forward pass of one image takes."""

    multiply_adds: int
    first_multiply_adds: int  # of the first convolution
    convolution_elements: int  # read and written by convolutions
    nodes: int
    parameters: int  # of the network


def work(preset: Preset) -> Work:
    """Counted from the program of the network, which nothing executes."""
    f = function(preset, None, None)
    params, state = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype),
        jax.eval_shape(functools.partial(start, preset, 1)),
    )
    x = jax.ShapeDtypeStruct((1, preset.side, preset.side, 3), jnp.float32)
    convolutions, elements, rest = [], 0, 0
    for equation in equations(jax.make_jaxpr(f)(params, state, x).jaxpr):
        if equation.primitive.name not in ("conv_general_dilated", "dot_general"):
            continue
        left, right = (v.aval.shape for v in equation.invars)
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":  # the last layer's
            rest += out * left[-1]
            continue
        convolutions.append(out * math.prod(right[:-1]))
        elements += math.prod(left) + out
    graph = cg.chain_graph(lambda x, params, state: f(params, state, x)[0])(x, params, state)
    return Work(
        multiply_adds=sum(convolutions) + rest,
        first_multiply_adds=convolutions[0],
        convolution_elements=elements,
        nodes=sum(math.prod(component.shape) for component in graph),
        parameters=sum(math.prod(p.shape) for p in jax.tree.leaves(params)),
    )


def equations(jaxpr: Any) -> Iterator[Any]:
    """Of a program and the programs in it, in order."""
    for equation in jaxpr.eqns:
        yield equation
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        )
        for program in (getattr(p, "jaxpr", p) for p in inner):
            if hasattr(program, "eqns"):
                yield from equations(program)


def operations(work: Work, images: int) -> int:
    """Floating-point operations of a step on so many images, by the formula above."""
    return 2 * (3 * work.multiply_adds - work.first_multiply_adds) * images


def traffic(work: Work, images: int, runs: int, element_bytes: int) -> int:
    """Bytes that a step of so many images of all runs reads and writes, by the formula above."""
    elements = 3 * work.convolution_elements + 8 * work.nodes
    return images * elements * element_bytes + 24 * runs * work.parameters


def rates(preset: Preset) -> dict[str, float]:
    """What the device does in a second: operations of each dtype, and bytes of a copy."""

    def large(dtype: Any) -> Callable[[int], None]:
        a = jnp.ones((preset.product, preset.product), dtype)
        program = jax.jit(lambda a: a @ a)

        def run(calls: int) -> None:
            for _ in range(calls):
                jax.block_until_ready(program(a))

        return run

    source = jnp.ones(preset.copy // 4)
    copy = jax.jit(lambda a: a + 1)

    def run(calls: int) -> None:
        for _ in range(calls):
            jax.block_until_ready(copy(source))

    functions = {dtype: large(jnp.dtype(dtype)) for dtype in DTYPES} | {"bytes": run}
    timings = interleaved(functions, rounds=max(preset.rounds, 5), calls=1)
    found = {dtype: 2 * preset.product**3 / timings[dtype].seconds for dtype in DTYPES}
    return found | {"bytes": 2 * preset.copy / timings["bytes"].seconds}


# -- the measurement


def chosen(quick: bool, name: str) -> str:
    """The name of the preset."""
    if quick:
        return "tiny"
    if name == "auto":
        return "cpu" if jax.default_backend() == "cpu" else "gpu"
    return name


def measure(quick: bool, preset_name: str = "auto", form: str = "all") -> dict[str, Any]:
    """One row for each program."""
    name = chosen(quick, preset_name)
    preset = PRESETS[name]
    prepared: dict[Measured, tuple[Any, dict[str, Any]]] = {}
    failed = []
    for measured in programs(preset, form):
        try:
            steps, facts = prepare(preset, measured)
            steps(1)
        except jax.errors.JaxRuntimeError as error:  # out of memory, above all
            failed.append(measured._asdict() | {"message": str(error).splitlines()[0]})
            continue
        prepared[measured] = steps, facts
        # A measurement that is cut short leaves this behind.
        print(
            *measured, {name: float(f"{fact or 0:.2g}") for name, fact in facts.items()}, flush=True
        )
    timings = interleaved(
        {str(k): steps for k, (steps, _) in enumerate(prepared.values())},
        rounds=preset.rounds,
        calls=preset.calls,
    )
    by_program = dict(zip(prepared, timings.values(), strict=True))
    facts = {measured: facts for measured, (_, facts) in prepared.items()}
    device, needed = rates(preset), work(preset)
    return {
        "preset": name,
        "settings": preset._asdict(),
        "work_of_an_image": needed._asdict(),
        "rates_of_the_device": device,
        "steps": [
            row(preset, measured, by_program, needed, device) | facts[measured]
            for measured in by_program
        ],
        "failed": failed,
    }


def row(
    preset: Preset,
    measured: Measured,
    timings: dict[Measured, Timing],
    needed: Work,
    device: dict[str, float],
) -> dict[str, Any]:
    """The figures of one program."""
    timing, images = timings[measured], measured.runs * preset.batch
    bytes_moved = traffic(needed, images, measured.runs, jnp.dtype(measured.dtype).itemsize)
    figures: dict[str, Any] = measured._asdict() | {
        "milliseconds": 1e3 * timing.seconds,
        "images_per_second_of_a_run": preset.batch / timing.seconds,
        "images_per_second": images / timing.seconds,
        "arithmetic_bound_milliseconds": 1e3 * operations(needed, images) / device[measured.dtype],
        "memory_bound_milliseconds": 1e3 * bytes_moved / device["bytes"],
    }
    single = measured._replace(runs=preset.runs[0])
    plain = measured._replace(procedure="plain")
    if single in timings:
        # How many runs of their own the runs side by side are worth.
        gain = timings[single].ratio(timing)
        figures["speed_up_over_single_runs"] = measured.runs * gain.median
        figures["speed_up_low"] = measured.runs * gain.low
        figures["speed_up_high"] = measured.runs * gain.high
    if measured.procedure == "pcff" and plain in timings:
        ratio = timing.ratio(timings[plain])
        figures |= {"over_plain": ratio.median, "over_plain_low": ratio.low}
        figures |= {"over_plain_high": ratio.high, "over_plain_of_fastest": ratio.fastest}
    return figures


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    device, preset = result["rates_of_the_device"], result["settings"]
    print(
        f"preset {result['preset']}: batch {preset['batch']}, widths {tuple(preset['widths'])}; "
        + ", ".join(f"{device[dtype] / 1e12:.2f} TFLOP/s {dtype}" for dtype in DTYPES)
        + f", {device['bytes'] / 1e9:.0f} GB/s\n"
    )
    print(
        f"{'form':9} {'dtype':9} {'':6} {'runs':>4} {'ms':>9} {'img/s run':>9} {'img/s':>9} "
        f"{'speed-up':>8} {'quartiles':>11} {'/plain':>6} {'quartiles':>11} {'arith ms':>8} "
        f"{'memory ms':>9} {'temp MB':>8} {'compile s':>9} {'error':>8}"
    )
    for r in result["steps"]:
        speed_up, over, quartiles, over_quartiles = "", "", "", ""
        if "speed_up_over_single_runs" in r:
            speed_up = f"{r['speed_up_over_single_runs']:.2f}"
            quartiles = f"{r['speed_up_low']:.2f}-{r['speed_up_high']:.2f}"
        if "over_plain" in r:
            over = f"{r['over_plain']:.2f}"
            over_quartiles = f"{r['over_plain_low']:.2f}-{r['over_plain_high']:.2f}"
        print(
            f"{r['form']:9} {r['dtype']:9} {r['procedure']:6} {r['runs']:4} "
            f"{r['milliseconds']:9.2f} {r['images_per_second_of_a_run']:9.0f} "
            f"{r['images_per_second']:9.0f} {speed_up:>8} {quartiles:>11} {over:>6} "
            f"{over_quartiles:>11} {r['arithmetic_bound_milliseconds']:8.3f} "
            f"{r['memory_bound_milliseconds']:9.3f} {(r['temporary_bytes'] or 0) / 1e6:8.1f} "
            f"{r['compile_seconds']:9.1f} {r['error']:8.1e}"
        )
    for r in result["failed"]:
        print(
            f"{r['form']:9} {r['dtype']:9} {r['procedure']:6} {r['runs']:4} failed: {r['message']}"
        )


if __name__ == "__main__":
    command.run(
        "sweep",
        "What is the fastest form of many small convolutions with different weights?",
        measure,
        show,
        choices={"preset": ("auto", *PRESETS), "form": ("all", *FORMS)},
    )
