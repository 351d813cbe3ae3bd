"""How fast is the training of recurrent and residual networks, beside PyTorch and a plain scan?

Images per second of an epoch of `train.indrnn` (six layers of 128 on sequences of 784 pixels,
batches of 32) and of `train.resnet` (ResNet20 with the authors' shortcuts, batches of 128), beside

- plain scan: the same training with a `lax.scan` of the nodes in place of the recurrence's kernel,
  differentiated by JAX;
- PyTorch: as many steps of the authors' loop in `benchmarks.torch_networks`. The recurrence is a
  Python loop over steps; its authors' other form is for GPUs only.

All in interleaved rounds of one run.

    python -m benchmarks.structured_throughput              # about 10 minutes on 2 cores
    python -m benchmarks.structured_throughput --quick --no-write

Neither side loads files, and nothing is validated. The program gathers, scales and augments its
batches in random order; PyTorch is given one batch that is ready. Without PyTorch only the
program's own figures are made.

"error" of the plain scan is the relative distance of its gradient of a first step from that of the
kernel, where both draw the same random numbers (not with PCFF); of PyTorch, the largest distance of
its log-probabilities of a batch from the program's, for the same weights, in units of the largest.
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import cgjax as cg
from benchmarks.epochs import distance, epochs, initial, made_up
from benchmarks.records import Table
from benchmarks.timing import Facts, interleaved
from train.engine import sweep
from train.engine.loop import Learner, RunState, Variables, scaled
from train.engine.recipes import PatientRecipe, Recipe, SteppedRecipe
from train.engine.settings import Rates, Run
from train.indrnn import experiment as indrnn
from train.models.indrnn import Options, Plain
from train.resnet import experiment as resnet


class Sizes(NamedTuple):
    """What is measured."""

    depth: int  # recurrent layers
    features: int  # nodes of each
    pixels: int  # of a sequence
    sequences: int  # of a batch
    blocks: int  # residual blocks of a stage
    channels: int  # of the first stage
    images: int  # of a batch
    steps: int  # of an epoch, which is a call
    rounds: int


FULL = Sizes(6, 128, 784, 32, 3, 16, 128, steps=3, rounds=9)
QUICK = Sizes(2, 8, 16, 4, 1, 2, 4, steps=1, rounds=2)

Shapes = dict[str, tuple[int, ...]]  # of parameters, by name


class PlainReLU(cg.nodes.ReLU):
    """ReLU nodes that no kernel knows: a recurrent layer is a scan of them, as one writes it."""


def plain_network(depth: int, features: int, steps: int) -> sweep.Network:
    """The network of `train.indrnn` with plain scans."""
    options = Options(steps, family=PlainReLU())
    return sweep.network(lambda rngs: Plain(depth, options, features=features, rngs=rngs))


class Case(NamedTuple):
    """One network and its training."""

    name: str
    recipe: Recipe
    pixels: int  # numbers of an image
    runs: Sequence[Run]  # what regularises it
    learner: Callable[[Rates], Learner]  # what is trained
    plain: Callable[[Rates], Learner] | None  # the same with plain scans, if it is recurrent
    inputs: Callable[[Any], Any]  # from images in [0, 1] to what the PyTorch network takes
    torch: Callable[[Any, Rates], Any]  # from `benchmarks.torch_networks` to the PyTorch network


def cases(sizes: Sizes) -> list[Case]:
    """The recurrent and the residual network, at the rates for which [A] has results."""
    recurrent = sizes.depth, sizes.features, sizes.pixels
    residual = sizes.blocks, sizes.channels
    patient = PatientRecipe(batch_size=sizes.sequences)
    chosen = indrnn.Shape("plain", *recurrent), resnet.Shape("convolution", *residual)
    return [
        Case(
            "IndRNN",
            patient,
            sizes.pixels,
            indrnn.Config(dropout=(0.1,), pcff=(0.1,), seeds=(0,)).runs,
            lambda known: indrnn.learner(indrnn.network(chosen[0]), patient, known),
            lambda known: indrnn.learner(plain_network(*recurrent), patient, known),
            lambda x: indrnn.sequences(x).swapaxes(0, 1),
            lambda networks, rates: networks.IndRNN(*recurrent, rates),
        ),
        Case(
            "ResNet",
            SteppedRecipe(batch_size=sizes.images),
            3 * resnet.SIDE**2,
            resnet.Config(dropout=(0.3,), pcff=(0.3,), seeds=(0,)).runs,
            lambda known: sweep.learner(
                resnet.network(chosen[1]), resnet.standardised, known, augment=resnet.augmented
            ),
            None,
            lambda x: resnet.standardised(x).transpose(0, 3, 1, 2),
            lambda networks, rates: networks.ResNet(*residual, rates),
        ),
    ]


def named(params: Any) -> dict[str, np.ndarray]:
    """Parameters by their names and in their shapes in `benchmarks.torch_networks`."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        # Modules that PyTorch's networks do without.
        name = name.replace(".side.", ".").replace(".node.normalise.", ".normalise.")
        for ours in (".kernel", ".scale"):
            name = name.replace(ours, ".weight")
        axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(leaf.ndim)
        found[name] = np.transpose(leaf, axes)
    return found


def require_same(ours: Shapes, theirs: Shapes, network: str) -> None:
    """Refuses to compare networks whose parameters differ.

    Raises:
        ValueError: if their names or shapes are not the same.
    """
    if ours != theirs:
        numbers = [sum(int(np.prod(s)) for s in shapes.values()) for shapes in (ours, theirs)]
        wrong = sorted(dict(ours.items() ^ theirs.items()))
        raise ValueError(
            f"{network} has {numbers[0]} parameters, in PyTorch {numbers[1]}; names or shapes "
            f"differ of {', '.join(wrong)}."
        )


def gradient(learner: Learner, variables: Variables, rates: Rates, x: Any, y: Any) -> Any:
    """Of the loss of a batch, at a fixed key."""

    def loss(params: Any) -> Any:
        return learner.loss(variables._replace(params=params), jax.random.key(1), rates, x, y)[0]

    return jax.jit(jax.grad(loss))(variables.params)


def measure(quick: bool, sizes: Sizes | None = None) -> Facts:
    """One row for each training, by default of sizes as they are, or small ones if quick."""
    sizes = sizes or (QUICK if quick else FULL)
    rows = []
    for case in cases(sizes):
        # No rate changes it.
        start = initial(case.learner(case.runs[0].rates), case.recipe, 1)
        rows += [row(sizes, case, run, start) for run in case.runs]
    return {"sizes": sizes._asdict(), "trainings": rows}


def row(sizes: Sizes, case: Case, run: Run, start: RunState) -> Facts:
    """The figures of one training from a given start."""
    images, rates = sizes.steps * case.recipe.batch_size, run.rates
    data = made_up(images, case.pixels)
    x = scaled(data.train_x[: case.recipe.batch_size], data.largest)
    y = data.train_y[: len(x)]
    learner = case.learner(rates)
    variables = jax.tree.map(lambda a: a[0], start.variables)
    weights = named(variables.params)
    figures: Facts = {"network": case.name, "regulariser": run.regulariser, "rate": run.told_rate}
    figures |= {"batch": len(x), "parameters": sum(w.size for w in weights.values())}
    functions = {"cgjax": epochs(learner, case.recipe, rates, data, start)}
    if case.plain is not None:
        plain = case.plain(rates)
        functions["plain_scan"] = epochs(plain, case.recipe, rates, data, start)
        if run.regulariser != "pcff":
            ours, theirs = (gradient(k, variables, rates, x, y) for k in (learner, plain))
            exact = [np.asarray(g, np.float64) for g in jax.tree.leaves(ours)]
            figures["plain_scan_error"] = distance(theirs, exact)
    if command.has_torch():
        from benchmarks import torch_networks

        network = case.torch(torch_networks, rates)
        shapes = {name: w.shape for name, w in weights.items()}
        require_same(shapes, torch_networks.shapes(network), case.name)
        torch_networks.fill(network, weights)
        inputs = np.asarray(case.inputs(x))
        assert learner.log_probs is not None  # it tells classes
        known = np.asarray(jax.jit(learner.log_probs)(variables, x))
        wrong = np.abs(torch_networks.log_probs(network, inputs) - known).max()
        figures["torch_error"] = float(wrong / np.abs(known).max())
        steps = network.steps(case.recipe, inputs, np.asarray(y))
        functions["torch"] = lambda calls: steps(calls * sizes.steps)
    timings = interleaved(functions, rounds=sizes.rounds, calls=1, pause=0.1)
    figures["images_per_second"] = images / timings["cgjax"].seconds
    for name in list(timings)[1:]:
        figures[f"{name}_images_per_second"] = images / timings[name].seconds
        figures[f"over_{name}"] = timings[name].ratio(timings["cgjax"])._asdict()
    return figures


def told(row: Any) -> Facts:
    """A row that tells its regulariser and rate in one."""
    name = row["regulariser"].replace("pcff", "PCFF")
    return row | {"told": f"{name} {row['rate']:g}" if row["rate"] else name}


TABLES = [
    Table(
        "trainings",
        "network {network} | regulariser {told} | +parameters {parameters:.0f} | "
        "images/s {images_per_second:.1f} | plain scan {plain_scan_images_per_second:.1f} | "
        "ratio (quartiles) {over_plain_scan~2} | of the fastest {over_plain_scan[fastest]:.2f} | "
        "PyTorch {torch_images_per_second:.1f} | ratio (quartiles) {over_torch~2} | "
        "of the fastest {over_torch[fastest]:.2f} | error, scan {plain_scan_error:.1g} | "
        "error, PyTorch {torch_error:.1g}",
        faster=("over_plain_scan", "over_torch"),
        more=told,
        names="network regulariser rate",
    )
]


def notes(result: Facts) -> list[str]:
    """How often it was measured."""
    return ["{rounds} rounds of {steps} steps".format(**result["sizes"])]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, notes)
