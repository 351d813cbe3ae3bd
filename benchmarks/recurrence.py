"""Which implementation of the independent recurrence is fastest, and how far from the bound?

Forward, and forward with the derivative by inputs and weights, of h_t = relu(x_t + u h_{t-1}) over
all steps: a plain `lax.scan` differentiated by JAX, against every implementation that this device
has; and with PCFF at rate 0.4, the walked nodes of such a scan against the kernels that sample.
Compared in interleaved rounds of one run. "speedup" is relative to the plain scan (walked nodes),
and "bound", on GPUs, the share of its time that moving each array once through memory would take,
at the bandwidth that adding 1 to a large array reaches. "error" is the largest error of states and
input gradients of the first example against float64, in units of the largest; of sampled
recurrences against the loop.

    python -m benchmarks.recurrence                       # about 5 minutes on 2 cores
    python -m benchmarks.recurrence --quick --no-write
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from benchmarks import command
from benchmarks.timing import interleaved
from cgjax.kernels import independent_recurrence, sampled_independent_recurrence

RATE = 0.4
# (time, batch, units)
SIZES = {
    "cpu": [(784, 1, 128), (784, 32, 128), (784, 128, 128), (5000, 32, 128)],
    "gpu": [(784, 32, 128), (784, 512, 512)],
}


def plain(x: Any, u: Any) -> Any:
    """The recurrence as one writes it."""

    def step(h: Any, x: Any) -> Any:
        h = jax.nn.relu(x + u[None] * h)
        return h, h

    return lax.scan(step, jnp.zeros(x.shape[1:], x.dtype), x)[1]


def nodes(x: Any, u: Any) -> Any:
    """The same as a network."""

    def step(h: Any, x: Any) -> Any:
        h = cg.node(cg.nodes.ReLU(), x + u[None] * h, name="state")
        return h, 2 * h  # not output nodes, which PCFF would leave collapsed

    return lax.scan(step, jnp.zeros(x.shape[1:], x.dtype), x)[1] / 2


def implementations(platform: str) -> dict[str, dict[str, Any]]:
    """Functions of (x, u), without noise and with PCFF; the first of each is the baseline."""
    names: list[Any] = ["scan", "parallel"] + ["mosaic_gpu"] * (platform == "gpu")
    key = jax.random.key(5)
    collapsed: dict[str, Any] = {"plain": plain}
    for name in names:
        collapsed[name] = partial(independent_recurrence, implementation=name)
    walked = cg.pcff(nodes, {"state": RATE})
    sampled: dict[str, Any] = {"walked": lambda x, u: walked(key, x, u)}
    for name in names:
        if name != "parallel":
            sampled[name] = partial(
                sampled_independent_recurrence, key, rate=RATE, implementation=name
            )
    return {"none": collapsed, "PCFF": sampled}


def with_gradients(f: Callable[..., Any], x: Any, u: Any, g: Any) -> Any:
    """States, and cotangents of x and u."""
    states, pull = jax.vjp(f, x, u)
    return states, *pull(g)


def exact(x: Any, u: Any, g: Any) -> tuple[np.ndarray, np.ndarray]:
    """States and input gradients of one example (time, units), in float64."""
    x, u, g = (np.asarray(a, np.float64) for a in (x, u, g))
    h, states = np.zeros_like(u), np.zeros_like(x)
    for t in range(len(x)):
        h = states[t] = np.maximum(x[t] + u * h, 0)
    delta, dx = np.zeros_like(u), np.zeros_like(x)
    for t in reversed(range(len(x))):
        delta = dx[t] = (states[t] > 0) * (g[t] + u * delta)
    return states, dx


def error(got: Any, expected: Any) -> float:
    """The largest error of states and input gradients, in units of the largest of each."""
    errors = [
        np.abs(np.asarray(a, np.float64) - b).max() / np.abs(b).max()
        for a, b in zip(got, expected, strict=True)
    ]
    return float(max(errors))


def bandwidth() -> float:
    """Bytes a second that adding 1 to a large array reads and writes."""
    x = jnp.zeros(1 << 26, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        add(x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * x.nbytes / min(seconds[2:])


def measure(
    quick: bool, sizes: Any = None, clock: Callable[[], float] | None = None
) -> dict[str, Any]:
    """All implementations at all sizes.

    Args:
        quick: few rounds and a small size.
        sizes: (time, batch, units) of each problem; by default those of the device's kind.
        clock: as in `benchmarks.timing.interleaved`.
    """
    platform = "cpu" if jax.default_backend() == "cpu" else "gpu"
    sizes = sizes or ([(64, 4, 32)] if quick else SIZES[platform])
    # The caches of a CPU hold these arrays.
    speed = None if platform == "cpu" else bandwidth()
    rows = []
    for size in sizes:
        generator = np.random.default_rng(0)
        x, g = (jnp.asarray(generator.normal(size=size), jnp.float32) for _ in range(2))
        bound = 5 ** (1 / size[0])
        u = jnp.asarray(generator.uniform(0, bound, size[2]), jnp.float32)
        known = exact(x[:, 0], u, g[:, 0])
        for noise, functions in implementations(platform).items():
            rows += _compared(size, noise, functions, (x, u, g), known, speed, quick, clock)
    return {"bytes_per_second": speed, "rows": rows}


def _compared(
    size: Any,
    noise: str,
    functions: Any,
    arrays: Any,
    known: Any,
    speed: float | None,
    quick: bool,
    clock: Any,
) -> list[dict[str, Any]]:
    x, u, g = arrays
    rows = []
    compiled, errors = {}, {}
    for name, f in functions.items():
        start = time.perf_counter()
        forward = jax.jit(f).lower(x, u).compile()
        both = jax.jit(partial(with_gradients, f)).lower(x, u, g).compile()
        compiled[name] = (forward, both, time.perf_counter() - start)
        states, dx, _ = both(x, u, g)
        first = states[:, 0], dx[:, 0]
        if noise == "none":
            errors[name] = error(first, known)
        elif name == "scan":
            known, errors[name] = tuple(np.asarray(a, np.float64) for a in first), 0.0
        elif name != "walked":  # which draws other numbers
            errors[name] = error(first, known)
    # What must be read and written once: x and h; and g, h and dx (and x for the slope of samples).
    for part, moved in (("forward", 2), ("forward and backward", 5 if noise == "none" else 6)):
        index = 0 if part == "forward" else 1
        inputs = (x, u) if part == "forward" else (x, u, g)

        def calls(run: Any, inputs: Any = inputs) -> Callable[[int], None]:
            def repeat(times: int) -> None:
                for _ in range(times):
                    jax.block_until_ready(run(*inputs))

            return repeat

        timings = interleaved(
            {name: calls(runs[index]) for name, runs in compiled.items()},
            rounds=2 if quick else 15,
            calls=1 if quick else max(1, int(2e7 / x.size)),
            clock=clock,
        )
        baseline = timings[next(iter(timings))]
        for name, timing in timings.items():
            ratio = baseline.ratio(timing)
            rows.append(
                {
                    "size": list(size),
                    "noise": noise,
                    "part": part,
                    "implementation": name,
                    "milliseconds": 1e3 * timing.seconds,
                    "speedup": ratio.median,
                    "speedup_low": ratio.low,
                    "speedup_high": ratio.high,
                    "share_of_bound": speed and moved * x.nbytes / speed / timing.seconds,
                    "compile_seconds": compiled[name][2],
                    "error": errors.get(name),
                }
            )
    return rows


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    if result["bytes_per_second"]:
        print(f"memory: {result['bytes_per_second'] / 1e9:.0f} GB/s")
    print(
        f"{'size':16} {'noise':5} {'part':20} {'implementation':14} {'ms':>9} {'speedup':>7} "
        f"{'quartiles':>11} {'bound':>6} {'compile s':>9} {'error':>8}"
    )
    for r in result["rows"]:
        quartiles = f"{r['speedup_low']:.2f}-{r['speedup_high']:.2f}"
        share = "" if r["share_of_bound"] is None else f"{r['share_of_bound']:.1%}"
        wrong = "" if r["error"] is None else f"{r['error']:8.1e}"
        print(
            f"{str(tuple(r['size'])):16} {r['noise']:5} {r['part']:20} {r['implementation']:14} "
            f"{r['milliseconds']:9.3f} {r['speedup']:7.2f} {quartiles:>11} "
            f"{share:>6} {r['compile_seconds']:9.2f} {wrong:>8}"
        )


if __name__ == "__main__":
    command.run(
        "recurrence",
        "Which implementation of the independent recurrence is fastest here?",
        measure,
        show,
    )
