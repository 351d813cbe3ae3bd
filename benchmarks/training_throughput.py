"""How fast is the training program, relative to the loop of the training script of [A] in PyTorch?

Images per second of an epoch of `train.dense` (network 784-1024-1024-9 and a zero, batches of 32 in
random order), and of as many steps of `benchmarks.torch_networks`, interleaved in one run. Neither
loads data, and nothing is validated.

    python -m benchmarks.training_throughput                # 2 minutes on 2 cores
    python -m benchmarks.training_throughput --quick --no-write

"Products" are the images per second of the steps' matrix products alone, a bound for any program.
Without PyTorch only the program's own figures are made. The two share the network, the procedure,
the optimiser and the figures that are read: the program reads them once for an epoch.
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.epochs import epochs, made_up
from benchmarks.records import Table
from benchmarks.timing import Steps, called, interleaved
from train.dense import experiment as dense
from train.engine import sweep
from train.engine.loop import Data
from train.engine.recipes import PlateauRecipe
from train.engine.settings import Rates

FEATURES, HIDDEN, BATCH = 784, 1024, 32
SIZES = (FEATURES, HIDDEN, HIDDEN, dense.CLASSES - 1)

# Name: node, procedure, rate, as in [A] 5.1.
TRAININGS: dict[str, tuple[dense.Nodes, str, float]] = {
    "tanh": ("tanh", "none", 0.0),
    "tanh, dropout .5": ("tanh", "dropout", 0.5),
    "tanh, PCFF .4": ("tanh", "pcff", 0.4),
    "ReLU": ("relu", "none", 0.0),
    "ReLU, dropout .5": ("relu", "dropout", 0.5),
    "ReLU, PCFF 1": ("relu", "pcff", 1.0),
}


def products(data: Data) -> Steps:
    """A function that makes the matrix products of so many epochs' steps, and nothing else: what no
    training program on this machine and library of products can be faster than."""
    *keys, last = jax.random.split(jax.random.key(0), 4)
    pairs = zip(keys, itertools.pairwise(SIZES), strict=True)
    weights = [jax.random.normal(key, (m, n)) / m**0.5 for key, (m, n) in pairs]
    gradient = jax.random.normal(last, (BATCH, SIZES[-1]))

    def loss(weights: Any, x: Any) -> Any:
        out = functools.reduce(jnp.matmul, weights, x)
        return jnp.vdot(out, gradient + out / 2)  # so that the last product is needed

    def step(_: Any, x: Any) -> Any:
        return jax.grad(loss)(weights, x), None

    @jax.jit
    def program(images: Any) -> Any:
        return jax.lax.scan(step, weights, images)[0]

    return called(program, (data.train_x / data.largest).reshape(-1, BATCH, FEATURES))


def measure(quick: bool) -> dict[str, Any]:
    """One row for each training."""
    rounds, steps = (2, 20) if quick else (15, 150)
    recipe = PlateauRecipe(batch_size=BATCH, stop_patience=10**6)
    data, rows = made_up(steps * BATCH, FEATURES), []
    for name, (node, procedure, rate) in TRAININGS.items():
        rates = Rates(rate * (procedure == "dropout"), rate * (procedure == "pcff"))
        learner = sweep.learner(dense.network(node, FEATURES, HIDDEN), dense.rows, rates)
        functions = {"cgjax": epochs(learner, recipe, rates, data), "products": products(data)}
        if command.has_torch():
            from benchmarks import torch_networks

            made = torch_networks.dense(SIZES, BATCH, node, procedure, rate)
            functions["torch"] = lambda calls, run=made: run(calls * steps)
        timings = interleaved(functions, rounds=rounds, calls=1, pause=0.1)
        ends = {"cgjax": "", "products": "products_", "torch": "torch_"}
        row: dict[str, Any] = {"training": name}
        for which, timing in timings.items():
            row[f"{ends[which]}images_per_second"] = steps * BATCH / timing.seconds
        if "torch" in timings:
            row |= timings["torch"].ratio(timings["cgjax"]).figures()
        # What the program reaches of its bound, where there is nothing else to compare it with.
        row |= timings["products"].ratio(timings["cgjax"]).figures("share_of_products")
        rows.append(row)
    return {"trainings": rows}


TABLES = [
    Table(
        "trainings",
        "training {training} | images/s {images_per_second:.0f} | "
        "products alone {products_images_per_second:.0f} | "
        "+share of that (quartiles) {share_of_products~2} | "
        "PyTorch {torch_images_per_second:.0f} | ratio (quartiles) {ratio~2} | "
        "of the fastest {ratio_of_fastest:.2f}",
        faster=("share_of_products", "ratio"),
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
