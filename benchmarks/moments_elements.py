"""What do the mean and the variance of an element-wise function cost, in nanoseconds an element?

Forward (mean and variance), and with the gradient: both again, and what they pull back to the mean
and the variance of the argument, as a layer does in training. 1.2 million elements in float32, with
means from N(0, 1) and deviations from 0.1 to 1.5, in one interleaved run beside tanh and exp alone.
"function" is `moments` of a plain function; "node", of 0.3 million elements, what a family says of
its statistic, with the noise of the node itself. "error" is the largest distance of a mean, in
deviations of the argument, and of a variance, in its variances, from a fine grid in float64.

    python -m benchmarks.moments_elements                 # about 2 minutes on 2 cores
    python -m benchmarks.moments_elements --names ReLU GELU --no-write
"""

from benchmarks import command

NAMES = {"nargs": "*", "default": [], "help": "rows to measure, all by default", "metavar": "NAME"}
OPTIONS = command.read(__name__, __doc__, names=NAMES)

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from benchmarks.records import Table
from benchmarks.timing import Steps, called, compiled, interleaved
from cgjax import nodes

ELEMENTS = {"alone": 1_200_000, "function": 1_200_000, "node": 300_000}
CHECKED = 300  # of these
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ReLU": jax.nn.relu,
    "leaky ReLU": jax.nn.leaky_relu,
    "GELU": jax.nn.gelu,
    "SiLU": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "ELU": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "hard tanh": jax.nn.hard_tanh,
}
FAMILIES: dict[str, nodes.Family] = {
    "ReLU": nodes.ReLU(),
    "GELU": nodes.GELU(),
    "SiLU": nodes.SiLU(),
    "tanh": nodes.Spin(),
    "ELU": nodes.ELU(),
    "softplus": nodes.Softplus(),
    "hard tanh": nodes.HardTanh(),
    "soft sign": nodes.SoftSign(),
}
ALONE: dict[str, Callable[..., Any]] = {"tanh": jnp.tanh, "exp": jnp.exp}
# Nanoseconds, forward and with the gradient.
TARGETS = {"ReLU": (3, 6), "leaky ReLU": (3, 6), "softplus": (8, 14)}
TARGET = (5, 9)  # of all others


def of_function(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mean and variance of a plain function, from those of its argument."""
    return lambda mean, variance: tuple(cg.moments(f)(cg.Belief(mean, variance)))


def of_family(family: nodes.Family) -> Callable[..., Any]:
    """Mean and variance of a node's statistic, from those of its natural parameter."""
    return lambda mean, variance: tuple(family.moments(mean, variance)[0])


def with_gradients(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mean and variance, and what two arrays pull back to those of the argument."""

    def both(mean: Any, variance: Any, *pulled: Any) -> Any:
        values, pull = jax.vjp(f, mean, variance)
        return *values, *pull(pulled)

    return both


def arrays() -> list[np.ndarray]:
    """Means and variances, and two arrays to pull back."""
    generator, size = np.random.default_rng(0), max(ELEMENTS.values())
    mean, *pulled = generator.standard_normal((3, size))
    variance = generator.uniform(0.1, 1.5, size) ** 2
    return [a.astype(np.float32) for a in (mean, variance, *pulled)]


def error(got: Any, kind: str, name: str, mean: np.ndarray, variance: np.ndarray) -> float:
    """The larger one of the errors of means and variances."""
    t = np.linspace(-8, 8, 2001)
    weight = np.exp(-(t**2) / 2)
    weight = (weight / weight.sum()).reshape(-1, 1)
    mean, variance = (a[:CHECKED].astype(np.float64) for a in (mean, variance))
    with jax.enable_x64(True):
        points = jnp.asarray(mean + np.sqrt(variance) * t.reshape(-1, 1))
        if kind == "function":
            values, noise = FUNCTIONS[name](points), 0.0
        else:
            values, noise = FAMILIES[name].mean(points), FAMILIES[name].variance(points)
        values, noise = np.asarray(values), np.asarray(noise)
    centre = (weight * values).sum(0)
    spread = (weight * ((values - centre) ** 2 + noise)).sum(0)
    found = [np.asarray(a[:CHECKED], np.float64) for a in got]
    errors = abs(found[0] - centre) / np.sqrt(variance), abs(found[1] - spread) / variance
    return float(np.max(errors))


def measure(quick: bool, names: list[str] | None = None) -> dict[str, Any]:
    """Times of all functions and families."""
    data = arrays()
    by_kind = {k: [jnp.asarray(a[:size]) for a in data] for k, size in ELEMENTS.items()}
    steps: dict[tuple[str, str, str], Steps] = {}
    rows: list[dict[str, Any]] = []
    for name, f in ALONE.items():
        given = by_kind["alone"][:1]
        program, _ = compiled(jax.jit(f), *given)
        steps[name, "alone", "forward"] = called(program, *given)
        rows.append({"name": name, "kind": "alone"})
    chosen = names or [*FUNCTIONS, *FAMILIES]
    tables = {"function": FUNCTIONS, "node": FAMILIES}
    makers: dict[str, Callable[..., Any]] = {"function": of_function, "node": of_family}
    for kind, table in tables.items():
        for name in (n for n in table if n in chosen):
            f = makers[kind](table[name])
            row: dict[str, Any] = {"name": name, "kind": kind}
            for part, whole, count in (("forward", f, 2), ("gradient", with_gradients(f), 4)):
                given = by_kind[kind][:count]
                program, facts = compiled(jax.jit(whole), *given)
                steps[name, kind, part] = called(program, *given)
                row |= {f"{part}_{fact}": value for fact, value in facts.items()}
                if part == "forward":
                    row["error"] = error(program(*given[:2]), kind, name, *data[:2])
            rows.append(row)
    timings = interleaved(steps, rounds=3 if quick else 7, calls=1)
    for row in rows:
        for part in ("forward", "gradient"):
            timing = timings.get((row["name"], row["kind"], part))
            if timing is not None:
                row[part] = 1e9 * timing.seconds / ELEMENTS[row["kind"]]
                fastest = float(timing.each.min())
                row[f"{part}_fastest"] = 1e9 * fastest / ELEMENTS[row["kind"]]
        if row["kind"] != "alone":
            row["target"] = "{} / {}".format(*TARGETS.get(row["name"], TARGET))
    return {"elements": ELEMENTS, "rows": rows}


TABLES = [
    Table(
        "rows",
        "of {name} | as {kind} | forward, ns {forward:.1f} | with gradient, ns {gradient:.1f} | "
        "target {target} | fastest {forward_fastest:.1f} | with gradient {gradient_fastest:.1f} | "
        "compile s {forward_compile_seconds:.2f} | with gradient {gradient_compile_seconds:.2f} | "
        "temporary MB {gradient_temporary_bytes/1e6:.0f} | error {error:.0e}",
        names="name kind",
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
