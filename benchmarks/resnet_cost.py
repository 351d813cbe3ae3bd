"""What does PCFF cost in ResNet20, and where does the time go?

Training steps of `train.resnet` (ResNet20 with the authors' shortcuts, batches of 128) by the
training loop's own program, which gathers, scales and augments its batches: without noise, with
dropout, with PCFF 0.3, and with PCFF whose samples leave something out. Each of the latter has
other values and the same structure, so that the differences between neighbours are what the parts
cost:

- the mask: a sample is 0, so that one random word decides about each node and nothing else is done;
- a normal number besides: a sample is max(0, e + n), whose derivative is that of the ReLU;
- its scale besides: max(0, e + tanh(e) n), with the ReLU's derivative still;
- PCFF: with the derivative of the sample;
- in thirteen rounds of the random generator in place of twenty.

All in one interleaved run, relative to the step without noise; "part" is the difference to the row
named beside it, in milliseconds. Then the parts of one place of nodes alone, of the first stage's
size, as `benchmarks.pcff_overhead` measures them.

    python -m benchmarks.resnet_cost                        # about 5 minutes on 2 cores
    python -m benchmarks.resnet_cost --dtype bfloat16       # convolutions and nodes of 16 bits
    python -m benchmarks.resnet_cost --quick --no-write

Target, on a GPU: a step with PCFF takes at most 1.10 times the plain step (and at best 1.05).
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__, dtype=command.DTYPE)

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import cgjax as cg
from benchmarks.epochs import epochs, initial, made_up, slow
from benchmarks.pcff_overhead import PARTS, measure_parts
from benchmarks.records import TARGETS, VERDICTS, Table
from benchmarks.timing import Facts, interleaved
from cgjax.kernels.random_bits import standard_normal
from train.engine import sweep
from train.engine.loop import Learner
from train.engine.sweep import Rates
from train.models.resnet import ResNet
from train.resnet import experiment as resnet


class Sizes(NamedTuple):
    """What is measured."""

    blocks: int
    channels: int  # of the first stage
    batch: int
    steps: int  # of an epoch, which is a call
    rounds: int
    repeats: int  # of the parts of one place


TARGET = 1.10  # the most that a step with PCFF may take, relative to the plain one
QUICK = Sizes(1, 2, 4, steps=1, rounds=2, repeats=2)
CPU = Sizes(3, 16, 128, steps=1, rounds=15, repeats=4)
GPU = Sizes(3, 16, 128, steps=16, rounds=21, repeats=200)


@dataclasses.dataclass(frozen=True, eq=False)
class Scaled(cg.nodes.ReLU):
    """The ReLU node's sample with the derivative of the ReLU."""

    def derivative(self, e: Any, value: Any) -> Any:
        return (value > 0).astype(e.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Shifted(Scaled):
    """max(0, e + n) for a standard normal number n."""

    def from_words(self, words: Any, e: Any) -> Any:
        return jnp.maximum(e + standard_normal(words, e.dtype), 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Masked(Scaled):
    """0."""

    def from_words(self, words: Any, e: Any) -> Any:
        return jnp.zeros_like(e)


class Training(NamedTuple):
    """One of the steps that are compared."""

    family: cg.nodes.Family
    rates: Rates
    rounds: int = 20
    beside: str | None = None  # the one that lacks what this one adds


PLAIN, PCFF = Rates(0.0, 0.0), Rates(0.0, 0.3)
# The first is what the others are compared with.
TRAININGS = {
    "none": Training(cg.nodes.ReLU(), PLAIN),
    "dropout .3": Training(cg.nodes.ReLU(), Rates(0.3, 0.0), beside="none"),
    "mask": Training(Masked(), PCFF, beside="none"),
    "mask, normal number": Training(Shifted(), PCFF, beside="mask"),
    "mask, scaled number": Training(Scaled(), PCFF, beside="mask, normal number"),
    "PCFF .3": Training(cg.nodes.ReLU(), PCFF, beside="mask, scaled number"),
    "PCFF .3, 13 rounds": Training(cg.nodes.ReLU(), PCFF, 13, beside="PCFF .3"),
}


def network(sizes: Sizes, dtype: str, family: cg.nodes.Family, rngs: nnx.Rngs) -> ResNet:
    """A residual network of nodes of a family."""
    widths = tuple(sizes.channels * factor for factor in (1, 2, 4))
    net = ResNet(blocks=sizes.blocks, widths=widths, dtype=jnp.dtype(dtype), rngs=rngs)
    for _, module in nnx.iter_modules(net):
        if isinstance(module, cg.layers.Node):
            module.family = family
    return net


def learner(sizes: Sizes, dtype: str, training: Training) -> Learner:
    """What is trained."""
    net = sweep.network(functools.partial(network, sizes, dtype, training.family))
    how: Any = {"augment": resnet.augmented, "rounds": training.rounds}
    return sweep.learner(net, resnet.standardised, training.rates, **how)


def measure(quick: bool, dtype: str = "float32") -> Facts:
    """One row for each training, and one for each part of a place of nodes."""
    sizes = QUICK if quick else CPU if jax.default_backend() == "cpu" else GPU
    recipe, images = slow(sizes.batch), sizes.steps * sizes.batch
    data = made_up(images, 3 * resnet.SIDE**2)
    start = initial(learner(sizes, dtype, TRAININGS["none"]), recipe, 1)  # the same for all
    functions = {
        name: epochs(learner(sizes, dtype, training), recipe, training.rates, data, start)
        for name, training in TRAININGS.items()
    }
    timings, rows = interleaved(functions, rounds=sizes.rounds, calls=1), []
    for name, timing in timings.items():
        beside = TRAININGS[name].beside
        row = {"training": name, "dtype": dtype, "beside": beside}
        row |= timing.figures(timings["none"], sizes.steps, images)
        row |= difference(timing.each - timings[beside].each, sizes.steps) if beside else {}
        rows.append(row)
    shape = (sizes.batch, resnet.SIDE, resnet.SIDE, sizes.channels)
    return {
        "sizes": sizes._asdict(),
        "steps": rows,
        "place": list(shape),
        "parts": measure_parts(sizes.rounds, shape, sizes.repeats),
    }


def difference(seconds: Any, steps: int) -> Facts:
    """What a part takes, in milliseconds a step: quartiles over the rounds."""
    low, median, high = (1e3 * float(q) / steps for q in np.percentile(seconds, [25, 50, 75]))
    return {"part": median, "part_low": low, "part_high": high}


TABLES = [
    Table(
        "steps",
        "training step {training} | dtype {dtype} | ms {milliseconds:.2f} | "
        "ratio (quartiles) {ratio~3} | of the fastest {ratio_of_fastest:.3f} | "
        "ms (quartiles) more than {part:.3f} ({part_low:.3f}-{part_high:.3f}): {beside}",
        names="training dtype",
    ),
    PARTS,
]


def reached(rows: list[Facts]) -> list[str]:
    """Whether the target is: a sentence for each dtype."""
    return [
        f"{row['dtype']}: a step with {row['training']} takes {row['ratio']:.3f} times the plain "
        f"step; at most {TARGET:.2f} times: {VERDICTS[row['ratio'] <= TARGET]}."
        for row in rows
        if row["training"] == "PCFF .3"
    ]


def notes(result: Facts) -> list[str]:
    """The size of the place of nodes, and the targets."""
    place = f"one place of {' x '.join(map(str, result['place']))} nodes"
    return [place, TARGETS, *reached(result["steps"])]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, notes)
