"""How many runs are one program worth, and in which form of many small convolutions?

A sweep trains R runs of one network at once, and each run has weights of its own. Epochs of
`train.resnet` (ResNet20 with the authors' shortcuts, batches of 128) by the training loop's own
program, `train.engine.loop.programs`: a scan over batches gathered from bytes on the device,
scaled, flipped and cropped inside, SGD with momentum and weight decay. In three forms of its 3 x 3
convolutions:

- grouped: all runs mapped, which makes a convolution one grouped convolution;
- products: all runs mapped, with a product of patches and the kernel, one batched matrix product;
- loop: one run after the other (`--width 1`), each with its own ordinary convolution;

and with float32 and bfloat16 convolutions and nodes on float32 weights. What is trained: one run
without noise ("plain"), one with PCFF 0.3 ("pcff"), and sweeps of several lengths, the first of 1,
whose runs have dropout, PCFF or none at rates of their own ("sweep"). All in one interleaved run.

    python -m benchmarks.sweep                # a preset; on a CPU 4 runs, in float32: 8 minutes
    python -m benchmarks.sweep --form products --dtype bfloat16         # four programs
    python -m benchmarks.sweep --quick --no-write --form loop           # of a tiny network

Beside each time stand two bounds: as many multiply-adds, and as much traffic, at the rates of the
device (`benchmarks.bounds`). Target, on a GPU: 60 runs at least 8 times as fast, in images per
second, as a sweep of one run in the same form and dtype; or at half of the memory-traffic bound, if
that is slower.

"error" is the relative distance of what the momentum is after an epoch at learning rate 0, a sum of
its gradients over all parameters of two runs (of one, where there is one), from that of the loop in
float64 on a CPU with the same random numbers: a fast wrong program would show.
"""

from typing import Any, NamedTuple

from benchmarks import command

DTYPES = command.DTYPES


class Preset(NamedTuple):
    """What is measured."""

    blocks: int
    channels: int  # of the first stage
    batch: int
    steps: int  # of an epoch, which is a call
    dtypes: tuple[str, ...]  # unless one is asked for
    runs: tuple[int, ...]  # the first is 1, which the others are compared with
    rounds: int
    product: int  # rows and columns of the large product
    copy: int  # bytes of the large array


PRESETS = {
    "tiny": Preset(1, 2, 4, 2, DTYPES, (1, 3), 2, 256, 2**22),
    "cpu": Preset(3, 16, 16, 2, ("float32",), (1, 4), 5, 2048, 2**27),
    "gpu": Preset(3, 16, 128, 16, DTYPES, (1, 60), 7, 8192, 2**30),
}
COMPARED = 2  # at the most, of the runs
FORMS = {"grouped": None, "products": None, "loop": 1}  # how many runs are mapped (none: all)
OPTIONS = command.read(
    __name__,
    __doc__,
    preset={"help": "sizes; auto: of the device", "choices": ("auto", *PRESETS)},
    form={"help": "of the convolutions", "choices": ("all", *FORMS)},
    dtype=command.DTYPE | {"choices": ("all", *DTYPES)},
)

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bounds
from benchmarks.bounds import Work
from benchmarks.epochs import distance, initial, made_up, slow
from benchmarks.records import TARGETS, VERDICTS, Row, Table, groups
from benchmarks.timing import Facts, Prepared, compiled, interleaved, repeated
from train.engine import sweep
from train.engine.loop import Data, Learner, RunState, programs
from train.engine.sweep import Rates
from train.models.convolution import convolved, products
from train.models.resnet import ResNet
from train.resnet import experiment as resnet

# Times as many images per second as a sweep of one run, or else a share of the bound.
TARGET, TARGET_SHARE = 8, 0.5
# What is trained: the rates, if the program knows them; and whether at all lengths or at 1 alone.
PROCEDURES = {
    "plain": (Rates(0.0, 0.0), False),
    "pcff": (Rates(0.0, 0.3), False),
    "sweep": (None, True),
}


class Measured(NamedTuple):
    """One of the programs that are compared."""

    form: str
    dtype: str
    procedure: str
    runs: int


def programs_of(preset: Preset, form: str = "all", dtype: str = "all") -> Iterator[Measured]:
    """Those of one form, or of all, and of one dtype, or of the preset's."""
    forms = FORMS if form == "all" else [form]
    dtypes = preset.dtypes if dtype == "all" else [dtype]
    for form, dtype, procedure in itertools.product(forms, dtypes, PROCEDURES):
        for runs in preset.runs if PROCEDURES[procedure][1] else preset.runs[:1]:
            yield Measured(form, dtype, procedure, runs)


def network(preset: Preset, form: str, dtype: str) -> sweep.Network:
    """ResNet20, or a smaller one; not `train.resnet.network`, whose evaluation stays in float32."""
    sizes: Any = {"blocks": preset.blocks, "widths": tuple(preset.channels * k for k in (1, 2, 4))}
    how = {"convolution": {"products": products}.get(form, convolved), "dtype": jnp.dtype(dtype)}
    return sweep.network(lambda rngs: ResNet(**sizes, **how, rngs=rngs))


@functools.lru_cache
def learner(preset: Preset, form: str, dtype: str, procedure: str) -> Learner:
    """What is trained."""
    net, (known, _) = network(preset, form, dtype), PROCEDURES[procedure]
    return sweep.learner(net, resnet.standardised, known, augment=augmented)


def augmented(key: Any, x: Any) -> Any:
    """`train.resnet.augmented`, with the same random numbers where numbers have 64 bits."""
    with jax.enable_x64(False):
        return resnet.augmented(key, x)


@functools.lru_cache
def start(preset: Preset, runs: int) -> RunState:
    """All runs before their first epoch. The first run is the same in a sweep of any length."""
    return initial(learner(preset, "loop", "float32", "plain"), slow(preset.batch), runs)


def rates(runs: int) -> Rates:
    """Of each run: PCFF, dropout, none, and again, at several rates."""
    values = np.linspace(0.3, 0.9, runs, dtype=np.float32)
    turn = np.arange(runs) % 3
    return Rates(*(np.where(turn == which, values, np.float32(0)) for which in (1, 0)))


@functools.lru_cache
def images(preset: Preset) -> Data:
    """Random images for an epoch, as bytes on the device."""
    return made_up(preset.steps * preset.batch, 3 * resnet.SIDE**2)


def prepare(preset: Preset, measured: Measured) -> Prepared:
    """A function that trains all runs for epochs, and what is known of it before it is timed."""
    trained, width = learner(preset, *measured[:3]), FORMS[measured.form]
    epoch: Any = programs(trained, slow(preset.batch), "vmap", width=width)[1]
    states, hyper, data = start(preset, measured.runs), rates(measured.runs), images(preset)
    made, facts = compiled(epoch, states, hyper, data)
    copied = jax.tree.map(jnp.copy, at_rest(states))  # an epoch takes its states over
    momentum = made(copied, hyper, data)[0].momentum
    error = distance(momentum, reference(preset, measured.procedure, measured.runs))
    steps = repeated(lambda *args: made(*args)[:1], (states,), hyper, data)
    return steps, facts | {"error": error}


def at_rest(states: RunState) -> RunState:
    """The same, at learning rate 0 for the next epoch."""
    rate = jnp.zeros_like(states.progress.learning_rate)
    return states._replace(progress=states.progress._replace(learning_rate=rate))


@functools.lru_cache
def reference(preset: Preset, procedure: str, runs: int) -> list[np.ndarray]:
    """The momentum of the first runs after an epoch at learning rate 0, in float64 and one run
    after the other."""
    some = jax.tree.map(lambda a: a[:COMPARED], (at_rest(start(preset, runs)), rates(runs)))
    (states, hyper), data = jax.device_get((some, images(preset)))
    exact, recipe = learner(preset, "loop", "float64", procedure), slow(preset.batch)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        learnt = {"variables": states.variables, "momentum": states.momentum}
        states = states._replace(**jax.tree.map(lambda a: a.astype(np.float64), learnt))
        after, _ = programs(exact, recipe, "vmap", width=FORMS["loop"])[1](states, hyper, data)
        return [np.asarray(m) for m in jax.tree.leaves(after.momentum)]


def chosen(quick: bool, name: str) -> str:
    """The name of the preset."""
    if quick:
        return "tiny"
    if name == "auto":
        return "cpu" if jax.default_backend() == "cpu" else "gpu"
    return name


def work(preset: Preset) -> Work:
    """What a forward pass of one image takes, in any form."""
    net = network(preset, "grouped", "float32")
    params, state = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, resnet.SIDE, resnet.SIDE, 3), jnp.float32)
    return bounds.work(net.training, params, state, x)


def measure(quick: bool, preset: str = "auto", form: str = "all", dtype: str = "all") -> Facts:
    """One row for each program."""
    name, prepared, failed = chosen(quick, preset), {}, []
    sizes = PRESETS[name]
    for measured in programs_of(sizes, form, dtype):
        try:
            epochs, facts = prepare(sizes, measured)
            epochs(1)
        except jax.errors.JaxRuntimeError as error:  # out of memory, above all
            failed.append(measured._asdict() | {"message": str(error).splitlines()[0]})
            continue
        prepared[measured] = epochs, facts
        # A measurement that is cut short leaves this behind.
        print(*measured, {n: float(f"{fact or 0:.2g}") for n, fact in facts.items()}, flush=True)
    functions = {measured: epochs for measured, (epochs, _) in prepared.items()}
    timings = interleaved(functions, rounds=sizes.rounds, calls=1)
    device = bounds.rates(sizes.product, sizes.copy, max(sizes.rounds, 5), DTYPES)
    needed = work(sizes)
    rows = [row(sizes, each, timings, needed, device) | prepared[each][1] for each in timings]
    return {
        "preset": name,
        "settings": sizes._asdict(),
        "work_of_an_image": needed._asdict(),
        "rates_of_the_device": device,
        "steps": rows,
        "failed": failed,
    }


def row(preset: Preset, measured: Measured, timings: Any, needed: Work, device: Facts) -> Facts:
    """The figures of one program's step, by the timings of all."""
    timing, images = timings[measured], measured.runs * preset.batch
    seconds = timing.seconds / preset.steps
    bytes_moved = bounds.traffic(needed, images, measured.runs, jnp.dtype(measured.dtype).itemsize)
    least = bytes_moved / device["bytes"]
    computing = bounds.operations(needed, images) / device[measured.dtype]
    figures: Facts = {
        **measured._asdict(),
        "milliseconds": 1e3 * seconds,
        "images_per_second_of_a_run": preset.batch / seconds,
        "images_per_second": images / seconds,
        "arithmetic_bound_milliseconds": 1e3 * computing,
        "memory_bound_milliseconds": 1e3 * least,
        "share_of_memory_bound": least / seconds,
    }
    single, plain = measured._replace(runs=preset.runs[0]), measured._replace(procedure="plain")
    if single in timings:
        # How many runs of their own the runs side by side are worth.
        figures |= timings[single].ratio(timing, measured.runs).figures("speed_up")
    if measured.procedure == "pcff" and plain in timings:
        figures |= timing.ratio(timings[plain]).figures("over_plain")
    return figures


TABLES = [
    Table(
        "steps",
        "form {form} | dtype {dtype} | training {told} | runs {runs} | ms {milliseconds:.1f} | "
        "images/s {images_per_second:.0f} | of a run {images_per_second_of_a_run:.0f} | "
        "runs' worth (quartiles) {speed_up~2} | over plain (quartiles) {over_plain~2} | "
        "arithmetic bound, ms {arithmetic_bound_milliseconds:.1f} | "
        "memory bound, ms {memory_bound_milliseconds:.1f} | "
        "share of it {share_of_memory_bound:.1%} | +temporary bytes {temporary_bytes:,} | "
        "compile s {compile_seconds:.1f} | error {error:.1g}",
        faster=("speed_up",),
        more=lambda row: {**row, "told": row["procedure"].replace("pcff", "PCFF .3")},
        names="form dtype procedure runs",
    ),
    Table("failed", "failed {form} | {dtype} | {procedure} | {runs} | {message}"),
]


def reached(rows: list[Facts]) -> list[str]:
    """Whether the target is: a sentence for each dtype, of the longest sweeps' best form."""
    sweeps = [row for row in rows if row["procedure"] == "sweep"]
    return [said for group in groups(sweeps, "dtype") for said in _of_dtype(group)]


def _of_dtype(rows: list[Row]) -> list[str]:
    longest = max(row["runs"] for row in rows)
    single = {row["form"]: row for row in rows if row["runs"] == 1}
    images: Callable[[Row], float] = lambda row: row["images_per_second"]  # noqa: E731
    candidates = [row for row in rows if row["runs"] == longest and row["form"] in single]
    if longest == 1 or not candidates:
        return []
    best = max(candidates, key=images)
    alone, fastest = images(single[best["form"]]), max(map(images, single.values()))
    bound = images(best) / best["share_of_memory_bound"]
    ways = [(TARGET * alone, f"{TARGET} times one run")]
    ways.append((TARGET_SHARE * bound, f"{TARGET_SHARE:g} of the bound"))
    (required, what), (more, other) = sorted(ways)
    return [
        f"{best['dtype']}, {longest} runs: fastest as {best['form']}, {images(best):.0f} images/s, "
        f"{images(best) / longest:.0f} of a run: {images(best) / alone:.1f} times a sweep of one "
        f"run in that form, {images(best) / fastest:.1f} times the fastest of one run, "
        f"{best['share_of_memory_bound']:.0%} of the memory-traffic bound. "
        f"Required: {what}, {required:.0f} images/s, which is less than {other}, {more:.0f}: "
        f"{VERDICTS[images(best) >= required]}."
    ]


def notes(result: Facts) -> list[str]:
    """The preset, the rates of the device, and the targets."""
    device, preset = result["rates_of_the_device"], result["settings"]
    rates = [f"{device[dtype] / 1e12:.2f} TFLOP/s {dtype}" for dtype in DTYPES]
    rates.append(f"{device['bytes'] / 1e9:.0f} GB/s")
    told = f"batch {preset['batch']}, {preset['channels']} channels; {', '.join(rates)}"
    return [f"preset {result['preset']}: {told}", TARGETS, *reached(result["steps"])]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, notes)
