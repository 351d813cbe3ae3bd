"""Which implementation of the independent recurrence is fastest, and how far from the bound?

Forward, and forward with the derivative by inputs and weights, of h_t = relu(x_t + u h_{t-1}) over
all steps: a plain `lax.scan` differentiated by JAX, against every implementation that this device
has; and with PCFF at rate 0.4, the walked nodes of such a scan against the kernels that sample.
Compared in interleaved rounds of one run. "speedup" is relative to the plain scan (walked nodes),
and "bound", on GPUs, the time that moving each array once through memory would take, at the
bandwidth that adding 1 to a large array reaches, as a share of its time. "error" is the distance of
states, input gradients or weight gradients (the largest of the three, each in units of its norm)
from the plain scan in float64; with PCFF from one that is handed the kernels' random words. Walked
nodes draw others, so that theirs is not told.

    python -m benchmarks.recurrence                       # about 6 minutes on 2 cores
    python -m benchmarks.recurrence --dtype bfloat16      # of the sizes that have targets
    python -m benchmarks.recurrence --quick --no-write

Targets, on a GPU, forward and backward: 20 times as fast as the plain scan at (time 784, batch 32,
128 units), and half of the bound at (784, 512, 512). What cannot be compiled or run is told, and
the rest measured; figures are written after each size.
"""

from benchmarks import command

DTYPE = command.DTYPE | {"choices": ("all", *command.DTYPES)}
OPTIONS = command.read(__name__, __doc__, dtype=DTYPE)

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from benchmarks import bounds
from benchmarks.records import VERDICTS, Row, Table, groups
from benchmarks.timing import Facts, called, compiled, interleaved
from cgjax.kernels import independent_recurrence, sampled_independent_recurrence
from cgjax.kernels.random_bits import random_words, uniform

RATE, SEED = 0.4, 5
# (time, batch, units)
SIZES = {
    "cpu": [(784, 1, 128), (784, 32, 128), (784, 128, 128), (5000, 32, 128)],
    "gpu": [(784, 32, 128), (784, 512, 512)],
}
# Times as fast as a plain scan, and a share of the bound.
TARGET, TARGET_BOUND = (20, [784, 32, 128]), (0.5, [784, 512, 512])
# What the others are compared with: without noise, and with PCFF.
BASELINES = ("plain", "walked")
NARROW = SIZES["gpu"]  # those measured in bfloat16 too
# Arrays that must be read or written once: x and h; and g, h and dx (and x for the slope of
# samples).
PARTS = {
    "forward": {"none": 2, "PCFF": 2},
    "forward and backward": {"none": 5, "PCFF": 6},
}


def scanned(node: Callable[..., Any], x: Any, u: Any, *words: Any) -> Any:
    """The recurrence as one writes it, of nodes that may have words of their own at each step."""

    def step(h: Any, of_step: Any) -> Any:
        x, *own = of_step
        h = node(x + u[None] * h, *own)
        return h, h

    return lax.scan(step, jnp.zeros(x.shape[1:], x.dtype), (x, *words))[1]


plain = partial(scanned, jax.nn.relu)
nodes = partial(scanned, lambda e: cg.node(cg.nodes.ReLU(), e, name="state"))


def implementations(platform: str) -> dict[str, dict[str, Any]]:
    """Functions of (x, u), without noise and with PCFF; the first of each is the baseline."""
    key = jax.random.key(SEED)
    names: list[Any] = ["scan", "parallel"] + ["mosaic_gpu"] * (platform == "gpu")
    collapsed: dict[str, Any] = {"plain": plain}
    sampled: dict[str, Any] = {"walked": partial(cg.pcff(nodes, {"state": RATE}), key)}
    with_words = partial(sampled_independent_recurrence, key, rate=RATE)
    for name in names:
        collapsed[name] = partial(independent_recurrence, implementation=name)
        if name != "parallel":
            sampled[name] = partial(with_words, implementation=name)
    return {"none": collapsed, "PCFF": sampled}


def with_gradients(f: Callable[..., Any], x: Any, u: Any, g: Any) -> Any:
    """States, and cotangents of x and u."""
    states, pull = jax.vjp(f, x, u)
    return states, *pull(g)


def exact(x: Any, u: Any, g: Any, key: Any = None) -> list[np.ndarray]:
    """States and cotangents in float64, differentiated by JAX; with a key, PCFF by its words."""
    words = () if key is None else random_words(key, x.shape)
    family = cg.nodes.ReLU()

    def sampled(e: Any, mask: Any, sample: Any) -> Any:
        return jnp.where(uniform(mask) < RATE, family.from_words(sample, e), jax.nn.relu(e))

    with jax.enable_x64(True):
        arrays = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, u, g)]
        f = plain if key is None else lambda x, u: scanned(sampled, x, u, *words)
        return [np.asarray(a) for a in jax.jit(partial(with_gradients, f))(*arrays)]


def error_of(got: Any, expected: Any) -> float:
    """The largest distance of an array from what is expected, in units of the latter's norm."""
    norm, pairs = np.linalg.norm, zip(got, expected, strict=True)
    return max(float(norm(np.asarray(a, np.float64) - b) / norm(b)) for a, b in pairs)


def calls_of(size: tuple[int, ...], platform: str) -> int:
    """How often a function is called in a round."""
    elements = int(np.prod(size))
    # A GPU is waited for once in a round, so that dispatch is not what is measured.
    return max(1, int(2e7 / elements)) if platform == "cpu" else max(5, int(6.4e7 / elements))


def measure(quick: bool, dtype: str = "all", sizes: Any = None) -> Iterator[Facts]:
    """All implementations, one size (time, batch, units) after the other, by default those of the
    device, or a small one if quick: all figures so far after each."""
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    dtypes = command.DTYPES if dtype == "all" else (dtype,)
    problems = [
        (size, name)
        for size in sizes or ([(64, 4, 32)] if quick else SIZES[platform])
        for name in dtypes
        if sizes or quick or name == "float32" or size in NARROW
    ]
    # The caches of a CPU hold these arrays.
    speed = None if platform == "cpu" else bounds.bandwidth()
    rows, failed = [], []
    for size, name in problems:
        generator = np.random.default_rng(0)
        x, g = (jnp.asarray(generator.normal(size=size), name) for _ in range(2))
        bound = 5 ** (1 / size[0])
        u = jnp.asarray(generator.uniform(0, bound, size[2]), name)
        rounds, calls = (2, 1) if quick else (15, calls_of(size, platform))
        for noise, functions in implementations(platform).items():
            problem = {"size": list(size), "dtype": name, "noise": noise}
            key = None if noise == "none" else jax.random.key(SEED)
            made = _compiled(problem, functions, (x, u, g), exact(x, u, g, key), failed)
            for part, arrays in PARTS.items():
                steps = {which: called(*ways[part]) for which, (ways, _) in made.items()}
                timings = interleaved(steps, rounds=rounds, calls=calls)
                least = None if speed is None else arrays[noise] * x.nbytes / speed
                baseline = next((timings[which] for which in BASELINES if which in timings), None)
                for which, timing in timings.items():
                    speedup = {"speedup": None}
                    if baseline:
                        speedup = baseline.ratio(timing).figures("speedup")
                    row = {
                        "part": part,
                        "implementation": which,
                        "baseline": which in BASELINES,
                        "milliseconds": 1e3 * timing.seconds,
                        "bound_milliseconds": least and 1e3 * least,
                        "share_of_bound": least and least / timing.seconds,
                    }
                    rows.append(problem | row | speedup | made[which][1])
            print(*problem.values(), "measured", flush=True)
        yield {"bytes_per_second": speed, "rows": rows, "failed": failed}


def _compiled(
    problem: Facts, functions: Any, arrays: Any, known: Any, failed: list[Facts]
) -> dict[str, tuple[Facts, Facts]]:
    """What is timed of each implementation, by part; the seconds of its compilation and its error.
    What fails is put with the failed."""
    x, u, g = arrays
    made = {}
    for name, f in functions.items():
        try:
            forward, one = compiled(jax.jit(f), x, u)
            both, other = compiled(jax.jit(partial(with_gradients, f)), x, u, g)
            jax.block_until_ready(forward(x, u))
            got = jax.block_until_ready(both(x, u, g))
        # A kernel may fail in any way on a device that it was never compiled for.
        except Exception as error:
            message = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            failed.append(problem | {"implementation": name, "message": message})
            print(*problem.values(), name, "failed:", message, flush=True)
            continue
        ways = dict(zip(PARTS, [(forward, x, u), (both, x, u, g)], strict=True))
        seconds = one["compile_seconds"] + other["compile_seconds"]
        wrong = None if name == "walked" else error_of(got, known)
        made[name] = ways, {"compile_seconds": seconds, "error": wrong}
    return made


TABLES = [
    Table(
        "rows",
        "time x batch x units {told} | dtype {dtype} | noise {noise} | part {part} | "
        "implementation {implementation} | ms {milliseconds:.2f} | "
        "speed-up (quartiles) {speedup~2} | +bound, ms {bound_milliseconds:.3f} | "
        "of the bound {share_of_bound:.1%} | compile s {compile_seconds:.2f} | error {error:.1g}",
        faster=("speedup",),
        more=lambda row: {"dtype": "float32", **row, "told": " x ".join(map(str, row["size"]))},
        names="size dtype noise part implementation",
    ),
    Table("failed", "failed {size} | {dtype} | {noise} | {implementation} | {message}"),
]


def reached(rows: list[Facts]) -> list[str]:
    """Whether the targets are: a sentence for each dtype and kind of noise, of the best
    implementation, forward and backward."""

    def best(size: list[int], figure: str) -> Iterable[Row]:
        both = [r for r in rows if r["part"] == "forward and backward" and r["size"] == size]
        for group in groups(both, "dtype", "noise"):
            known = [r for r in group if r[figure] is not None and not r["baseline"]]
            if known:
                yield max(known, key=lambda r: r[figure])

    def said(row: Row) -> str:
        shape, noise = tuple(row["size"]), "" if row["noise"] == "none" else f", {row['noise']}"
        return f"{shape}, forward and backward, {row['dtype']}{noise}: {row['implementation']}"

    (least, size), (share, large) = TARGET, TARGET_BOUND
    return [
        f"{said(row)} is {row['speedup']:.1f} times as fast as a scan; at least {least} times: "
        f"{VERDICTS[row['speedup'] >= least]}."
        for row in best(size, "speedup")
    ] + [
        f"{said(row)} reaches {row['share_of_bound']:.0%} of the memory-traffic bound; at least "
        f"{share:.0%}: {VERDICTS[row['share_of_bound'] >= share]}."
        for row in best(large, "share_of_bound")
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """The memory's speed and the targets, which are for GPUs."""
    speed = result["bytes_per_second"]
    return [f"memory: {speed / 1e9:.0f} GB/s", *reached(result["rows"])] if speed else []


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, notes)
