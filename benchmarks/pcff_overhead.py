"""What does PCFF cost? Its training step relative to the plain network's, beside dropout's.

Steps of stochastic gradient descent with momentum on the 784-1024-1024-10 network, for each batch
size all procedures in one interleaved run; and the time to compile a network of 100 layers.
"sampled" is the measured part of the first layer's nodes that the procedure replaced, which is its
rate: a fast step that samples nothing would show.

    python -m benchmarks.pcff_overhead                          # 4 minutes on 2 cores
    python -m benchmarks.pcff_overhead --quick --no-write       # half a minute

PyTorch's steps are measured too where it is installed, in rounds of their own and relative to its
own plain step; `benchmarks.training_throughput` compares the two.
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import cgjax as cg
from benchmarks.records import Table
from benchmarks.timing import (
    Facts,
    Prepared,
    Steps,
    batch,
    called,
    compared,
    compiled,
    descent,
    interleaved,
)
from cgjax.kernels.random_bits import random_words, standard_normal

SIZES = (784, 1024, 1024, 10)
DEEP, DEEP_WIDTH, DEEP_BATCH = 100, 64, 32
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}
FAMILIES = {"tanh": cg.nodes.Spin(), "relu": cg.nodes.ReLU()}

# Name: node, procedure, rate. The first of each node is what the others are compared with.
PROCEDURES = {
    "tanh": ("tanh", "none", 0.0),
    "tanh, nnx.Dropout .5": ("tanh", "dropout", 0.5),
    "tanh, cgjax dropout .5": ("tanh", "noise", 0.5),
    "tanh, PCFF .4": ("tanh", "pcff", 0.4),
    "ReLU": ("relu", "none", 0.0),
    "ReLU, nnx.Dropout .5": ("relu", "dropout", 0.5),
    "ReLU, cgjax dropout .5": ("relu", "noise", 0.5),
    "ReLU, PCFF .4": ("relu", "pcff", 0.4),
    "ReLU, PCFF 1": ("relu", "pcff", 1.0),
}


def network(sizes: tuple[int, ...], node: str, procedure: str, rate: float) -> nnx.Module:
    """A dense network: plain, with Flax's dropout, with cgjax's, or with marked nodes."""
    rngs, layers, activation = nnx.Rngs(0), [], ACTIVATIONS[node]
    if procedure == "pcff":
        activation = functools.partial(cg.node, FAMILIES[node], name="hidden")
    for inputs, outputs in itertools.pairwise(sizes):
        if layers:
            layers.append(activation)
            layers += [nnx.Dropout(rate, rngs=rngs)] * (procedure == "dropout")
            layers += [cg.layers.Dropout(rate)] * (procedure == "noise")
        layers.append(nnx.Linear(inputs, outputs, rngs=rngs))
    return nnx.Sequential(*layers)


def procedure_of(sizes: tuple[int, ...], node: str, procedure: str, rate: float) -> Any:
    """`run(key, params, state, x) -> (out, state)`, the function that it transforms, its state."""
    f, params, state = cg.functional(network(sizes, node, procedure, rate))
    if procedure in ("pcff", "noise"):
        return cg.pcff(f, rate if procedure == "pcff" else 0.0), f, params, state
    return (lambda key, *args: f(*args)), f, params, state


def prepare(name: str, batch_size: int) -> Prepared:
    """A function that makes steps, and what is known of them before they are timed."""
    _, procedure, _ = PROCEDURES[name]
    run, f, params, state = procedure_of(SIZES, *PROCEDURES[name])

    def loss(params: Any, key: Any, state: Any, x: Any, y: Any) -> Any:
        logits, new_state = run(key, params, state, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new_state

    x, y = batch(batch_size, SIZES[:1])
    steps, facts = descent(loss, params, state, x, y, rate=0.01)
    return steps, facts | {"sampled": sampled_part(run, f, params, state, x, procedure)}


def sampled_part(run: Any, f: Any, params: Any, state: Any, x: Any, procedure: str) -> float | None:
    """The part of the first layer's values that the procedure replaced, of those it can."""
    if procedure not in ("pcff", "noise"):
        return None
    nodes = cg.with_nodes(run)(jax.random.key(1), params, state, x)[1]
    if procedure == "noise":
        return float((next(iter(nodes.values())) == 0).mean())
    activation = cg.with_nodes(cg.feed_forward(f))(params, state, x)[1]["hidden"]
    live = activation != 0  # a rectified node at 0 may well be 0 when sampled
    return float(((nodes["hidden"] != activation) & live).sum() / live.sum())


def measure_steps(batch_size: int, rounds: int, calls: int) -> list[Facts]:
    """One row for each procedure, and one for each that PyTorch makes, where it is installed."""
    rows = []
    for library in ["cgjax", "torch"] if command.has_torch() else ["cgjax"]:
        for node in ("tanh", "ReLU"):
            prepared = {}
            for name, (_, procedure, _) in PROCEDURES.items():
                if not name.startswith(node) or (library, procedure) == ("torch", "noise"):
                    continue
                if library == "cgjax":
                    prepared[name] = prepare(name, batch_size)
                    continue
                from benchmarks import torch_networks

                steps = torch_networks.dense(SIZES, batch_size, *PROCEDURES[name])
                prepared[name.replace("nnx.", "")] = steps, {}
            found = compared(prepared, node, rounds=rounds, calls=calls, images=batch_size)
            for name, figures in found.items():
                row = {"library": library, "procedure": name, "batch_size": batch_size}
                rows.append(row | figures)
    return rows


def measure_compilation(repeats: int) -> list[Facts]:
    """Seconds to trace, lower and compile a deep tanh network, forwards and with its gradient."""
    sizes = (DEEP_WIDTH,) * (DEEP + 1)
    x = jnp.ones((DEEP_BATCH, DEEP_WIDTH))
    rows = []
    for name in ("tanh", "tanh, nnx.Dropout .5", "tanh, PCFF .4"):
        for what in ("forward", "gradient"):
            seconds = []
            for _ in range(repeats):
                jax.clear_caches()
                run, _, params, state = procedure_of(sizes, *PROCEDURES[name])

                def total(params: Any, key: Any, state: Any, run: Any = run) -> Any:
                    return run(key, params, state, x)[0].sum()

                function = total if what == "forward" else jax.grad(total)
                _, facts = compiled(jax.jit(function), params, jax.random.key(0), state)
                seconds.append(facts["compile_seconds"])
            rows.append({"procedure": name, "what": what, "seconds": float(np.median(seconds))})
    return rows


def parts() -> dict[str, Callable[[Any, Any], Any]]:
    """What a step does at one layer besides the matrix products: functions of a key and e."""

    def words(key: Any, e: Any) -> Any:
        word0, word1 = random_words(key, e.shape)
        return e + (word0 ^ word1).astype(jnp.float32)

    def both(function: Callable[[Any, Any], Any], key: Any, e: Any) -> Any:
        value, pull = jax.vjp(functools.partial(function, key), e)
        return pull(value)[0]

    def dropout(key: Any, e: Any) -> Any:
        return nnx.Dropout(0.5, deterministic=False)(jax.nn.relu(e), rngs=key)

    def pcff(node: str, rate: float) -> Callable[[Any, Any], Any]:
        return cg.pcff(lambda e: cg.node(FAMILIES[node], e, name="node"), {"node": rate})

    there_and_back: dict[str, Callable[[Any, Any], Any]] = {
        "ReLU": lambda key, e: jax.nn.relu(e),
        "tanh": lambda key, e: jnp.tanh(e),
        "tanh, PCFF .4": pcff("tanh", 0.4),
        "ReLU, PCFF .4": pcff("relu", 0.4),
        "ReLU, PCFF 1": pcff("relu", 1.0),
        "ReLU, nnx.Dropout .5": dropout,
    }
    return {
        "tanh alone, forwards": there_and_back["tanh"],
        "words of the random generator": words,
        "words and normal numbers": lambda k, e: e + standard_normal(random_words(k, e.shape)[1]),
        **{name: functools.partial(both, function) for name, function in there_and_back.items()},
    }


def measure_parts(
    rounds: int, shape: tuple[int, ...] = (32, SIZES[1]), repeats: int = 200
) -> list[Facts]:
    """Microseconds of each, for nodes of a shape, repeated in each round; by default 32 x 1024."""
    e = jax.random.normal(jax.random.key(0), shape)

    def many(function: Callable[[Any, Any], Any]) -> Steps:
        @jax.jit
        def program(e: Any) -> Any:
            def turn(e: Any, number: Any) -> Any:
                # Keys that cost nothing, and values that stay as large as they are.
                key = jax.random.wrap_key_data(jnp.stack([number, number]))
                return 1e-3 * function(key, e) + e, None

            return jax.lax.scan(turn, e, jnp.arange(repeats, dtype=jnp.uint32))[0]

        return called(program, e)

    functions = {name: many(function) for name, function in parts().items()}
    timings = interleaved(functions, rounds=rounds, calls=1)
    return [{"part": n, "microseconds": 1e6 * t.seconds / repeats} for n, t in timings.items()]


def measure(quick: bool) -> Facts:
    """Steps of all batch sizes, compilation, and the parts of a step."""
    steps = []
    for batch_size in [32] if quick else [32, 128, 512]:
        steps += measure_steps(batch_size, 3 if quick else 61, max(3, 640 // batch_size))
    return {
        "steps": steps,
        "compilation": measure_compilation(1 if quick else 3),
        "parts": measure_parts(3 if quick else 31),
    }


STEPS = Table(
    "steps",
    "batch {batch_size} | training step {step} | ms {milliseconds:.2f} | "
    "ratio (quartiles) {ratio~3} | of the fastest {ratio_of_fastest:.3f} | "
    "images/s {images_per_second:.0f} | compile s {compile_seconds:.2f} | "
    "temporary MB {temporary_bytes/1e6:.2f} | sampled {sampled:.3f}",
    more=lambda row: {**row, "step": "PyTorch: " * (row["library"] == "torch") + row["procedure"]},
    names="batch_size library procedure",
)
COMPILATION = Table(
    "compilation",
    "network {procedure} | of {what} | seconds {seconds:.2f}",
    title=f"trace, lower and compile, {DEEP} layers of {DEEP_WIDTH}, batch {DEEP_BATCH}",
)
PARTS = Table(
    "parts",
    "what {part} | microseconds {microseconds:.1f}",
    title="one layer of nodes, forwards and backwards, without the matrix products",
)
TABLES = [STEPS, COMPILATION, PARTS]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
