"""What experiments share that compare rates of dropout and PCFF on one network ([A] 5.1).

Runs are (regulariser, rate, seed). Mapped, all of them are one program with arrays of rates; one
after the other, each is a program that knows its rates, and what is off is not computed.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from cgjax import metrics
from train.data import Dataset
from train.engine import devices, loop
from train.engine.checkpoint import Checkpoints, Store
from train.engine.loop import Learner, Variables
from train.engine.recipes import Recipe
from train.engine.runs import Display, Finished, Group, train
from train.report import machine
from train.report import tables as report
from train.report.files import write_atomic
from train.report.settings import require

# Settings on which results do not depend, or which are told as the machine's.
_NOT_FACTS = (
    *("data_dir", "out", "save_seconds", "mode", "width"),
    *("devices", "batch_devices", "coordinator", "processes", "process"),
)

Regulariser = Literal["none", "dropout", "pcff", "both"]


class Rates(NamedTuple):
    """What regularises a run; numbers, or arrays over runs."""

    drop: Any
    pcff: Any


class Run(NamedTuple):
    """One training of the network."""

    regulariser: Regulariser
    rate: float | Rates  # the latter of both together
    seed: int

    @property
    def name(self) -> str:
        rate = self.told_rate if isinstance(self.rate, Rates) else f"{self.rate:g}"
        return f"{self.regulariser} {rate} {self.seed}"

    @property
    def told_rate(self) -> float | str:
        """The rate as the result has it: of both together "DROP RATE + RATE OF PCFF"."""
        if isinstance(self.rate, Rates):
            return f"{self.rate.drop:g} + {self.rate.pcff:g}"
        return self.rate

    @property
    def rates(self) -> Rates:
        """Its rates; 0 for what is off."""
        if isinstance(self.rate, Rates):
            return self.rate
        drop, pcff = (self.rate if self.regulariser == r else 0.0 for r in ("dropout", "pcff"))
        return Rates(drop, pcff)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that such experiments share."""

    none: bool = True
    """Whether the network without regulariser is among the runs."""
    dropout: tuple[float, ...] = ()
    """Drop rates, each of which is a run."""
    pcff: tuple[float, ...] = ()
    """Rates of PCFF, each of which is a run."""
    both: tuple[tuple[float, float], ...] = ()
    """Drop rates and rates of PCFF in turn, each pair of which is a run with both."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of each run; they are of initial weights, order, noise and augmentation."""
    images: int | None = None
    """Train on the first so many images only; without it on all."""
    mode: Literal["auto", "vmap", "sequential"] = "auto"
    """All runs at once, or one after the other. "auto": the latter on a CPU."""
    devices: int = 1
    """Over how many devices the runs are split; only with "vmap"."""
    batch_devices: int = 1
    """Over how many devices each batch is split besides; only with "vmap"."""
    coordinator: str | None = None
    """Where several processes compute together: HOST:PORT, on which the first of them listens, or
    "auto" on a cluster that JAX knows (Slurm, Open MPI, TPU). All are started with the same command
    but for `--process`, share the folder `--out`, and the devices above are those of all."""
    processes: int = 1
    """How many such processes there are."""
    process: int = 0
    """The number of this one, from 0; the first one writes the files."""
    width: int | None = None
    """How many runs a device maps at a time; without it all."""
    out: Path | None = None
    """The folder for results; without it one under `runs/`."""
    save_seconds: float = 30.0
    """The least time between two checkpoints."""

    def __post_init__(self) -> None:
        def rates(values: Sequence[Any]) -> tuple[bool, str]:
            fits = len(set(values)) == len(values) and all(0 < v <= 1 for v in np.ravel(values))
            return fits, "probabilities in (0, 1], none twice"

        some = self.dropout or self.pcff or self.both
        require(
            self,
            none=(self.none or bool(some), "True where there are no rates"),
            dropout=rates(self.dropout),
            pcff=rates(self.pcff),
            both=rates(self.both),
            seeds=(
                len(self.seeds) > 0
                and len(set(self.seeds)) == len(self.seeds)
                and all(0 <= s < 2**32 for s in self.seeds),
                "at least one in [0, 2^32), and none twice: a run counts once in a mean",
            ),
            images=(self.images is None or self.images >= 1, "at least 1"),
            devices=(self.devices >= 1, "at least 1"),
            batch_devices=(self.batch_devices >= 1, "at least 1"),
            processes=(
                self.processes == 1 if self.coordinator in (None, "auto") else self.processes >= 1,
                "at least 1, and more only with a coordinator's address",
            ),
            process=(0 <= self.process < self.processes, "from 0 to one less than the processes"),
            width=(self.width is None or self.width >= 1, "at least 1"),
            save_seconds=(self.save_seconds >= 0, "0 or more"),
        )

    @property
    def runs(self) -> list[Run]:
        """The runs, in the order of the results."""
        cases = [
            *(Run("none", 0.0, 0) for _ in range(self.none)),
            *(Run("dropout", rate, 0) for rate in self.dropout),
            *(Run("pcff", rate, 0) for rate in self.pcff),
            *(Run("both", Rates(*pair), 0) for pair in self.both),
        ]
        return [case._replace(seed=seed) for case in cases for seed in self.seeds]

    @property
    def how(self) -> loop.Mode:
        """How the runs are computed."""
        if self.mode != "auto":
            return self.mode
        return "sequential" if jax.default_backend() == "cpu" else "vmap"

    def facts(self) -> dict[str, Any]:
        """What the results depend on, in the form that JSON gives back."""
        chosen = dataclasses.asdict(self)
        for name in _NOT_FACTS:
            chosen.pop(name, None)
        return json.loads(json.dumps(chosen))


Build = Callable[[nnx.Rngs], nnx.Module]


class Network(NamedTuple):
    """A module in its two modes, as pure functions.

    Attributes:
        init: `init(key) -> Variables`.
        training: `training(params, state, x, drop_rate) -> (logits, state)`.
        evaluation: the same with running statistics.
    """

    init: Callable[[Any], Variables]
    training: Callable[..., tuple[Array, Any]]
    evaluation: Callable[..., tuple[Array, Any]]


def network(build: Build, evaluated: Build | None = None) -> Network:
    """The functions of a module that `build` makes.

    Args:
        build: makes the module.
        evaluated: makes the one for evaluation where that is another of the same variables.
    """

    def function(build: Build, training: bool) -> Callable[..., Any]:
        abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        if training:
            abstract.train()
        else:
            abstract.eval()
        return cg.functional(abstract)[0]

    def init(key: Any) -> Variables:
        _, params, state = cg.functional(build(nnx.Rngs(key)))
        return Variables(params, state)

    return Network(init, function(build, True), function(evaluated or build, False))


def learner(
    network: Network,
    prepare: Callable[[Array], Array],
    known: Rates | None,
    *,
    augment: Callable[[Any, Array], Array] | None = None,
    optimiser: optax.GradientTransformation | None = None,
    project: Callable[[Any], Any] | None = None,
    rounds: int = 20,
) -> Learner:
    """What is learnt: maximising the log-probability of the label, [A] 3.

    Args:
        network: the network.
        prepare: from rows of numbers in [0, 1] to what the network takes.
        known: the rates, if they are known when it is compiled; else the loss takes them as its
            `hyper`.
        augment: `augment(key, x)`, of prepared examples in training.
        optimiser, project: as in `train.engine.loop.Learner`.
        rounds: as in `cgjax.pcff`.
    """

    def loss(
        variables: Variables, key: Any, hyper: Rates, x: Array, y: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        drop, rate = hyper if known is None else known
        noise, other = jax.random.split(key)
        x = prepare(x) if augment is None else augment(other, prepare(x))
        off = known is not None and not drop
        sampled = cg.pcff(network.training, rate, rounds=rounds)
        logits, state = sampled(noise, *variables, x, None if off else drop)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        wrong = (logits.argmax(-1) != y).sum(dtype=jnp.int32)
        return losses.mean(), (wrong, state)

    def log_probs(variables: Variables, x: Array) -> Array:
        return jax.nn.log_softmax(network.evaluation(*variables, prepare(x), None)[0])

    return Learner(network.init, loss, log_probs, optimiser, project)


def groups(settings: Settings, learner_of: Callable[[Rates | None], Learner]) -> list[Group]:
    """The programs of an experiment: one, or one for each run."""
    if settings.how == "sequential":
        return [_group(run.name, [run], learner_of(run.rates)) for run in settings.runs]
    return [_group("runs", settings.runs, learner_of(None))]


def _group(name: str, runs: Sequence[Run], learner: Learner) -> Group:
    keys = [jax.random.key_data(jax.random.key(run.seed)) for run in runs]
    columns = zip(*(run.rates for run in runs), strict=True)
    hyper = Rates(*(np.array(column, np.float32) for column in columns))
    return Group(name, learner, tuple(run.name for run in runs), np.stack(keys), hyper)


def first(dataset: Dataset, images: int | None) -> Dataset:
    """A data set with the first training images only."""
    if images is None or images >= len(dataset.train_x):
        return dataset
    return dataset._replace(
        train_x=dataset.train_x[:images],
        train_y=dataset.train_y[:images],
        source=f"{dataset.source}, of which the first {images} for training",
    )


class Experiment(NamedTuple):
    """What is compared, on what, and how.

    Attributes:
        title, source: what `result.json` calls it, and where the paper has it.
        settings: which runs, and how they are computed.
        recipe: how each is trained.
        dataset: on what.
        network: the network.
        prepare: from rows of numbers in [0, 1] to what the network takes.
        learner_of: the learner that knows its rates, or (None) takes them.
        statistics: `statistics(variables) -> variables`, new running statistics before the test.
    """

    title: str
    source: str
    settings: Settings
    recipe: Recipe
    dataset: Dataset
    network: Network
    prepare: Callable[[Array], Array]
    learner_of: Callable[[Rates | None], Learner]
    statistics: Callable[[Variables], Variables] | None = None


def run(
    settings: Settings,
    build: Callable[[], Experiment],
    command: str,
    out: Path,
    console: Any,
) -> dict[str, Any]:
    """Trains, tests, and leaves the result and a figure behind.

    Args:
        settings: those of the experiment.
        build: makes it; called when this process has joined the others, if there are any.
        command: what was typed, for the result.
        out: the folder.
        console: the `rich.console.Console` to tell progress on.

    Returns:
        The result, as in `result.json`.

    Raises:
        DataFileError: no data, or bad files.
        CheckpointError, ValueError: see `train.engine.runs.train` and `train.engine.devices`.
    """
    from train.engine.progress import ProgressBar
    from train.report.sweep_figure import draw

    devices.join(settings.coordinator, settings.processes, settings.process)
    console.quiet = not devices.is_first()
    experiment = build()
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"{experiment.dataset.source}; results go to {out}")
    with ProgressBar(experiment.recipe.last_epoch, len(settings.runs), console) as bar:
        finished = trained(experiment, out / "checkpoint", bar)
    result = tested(experiment, finished, command, out)
    if devices.is_first():
        draw([out / "result.json"], out / "figure.png")
    console.print(*report.tables(result))
    say(f"{out}/result.json, {out}/figure.png")
    return result


def trained(
    experiment: Experiment,
    folder: Path | None,
    display: Display | None = None,
    *,
    store: Callable[[Path], Store] = Checkpoints,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains all runs.

    Args:
        experiment: the experiment.
        folder: where the checkpoint lies, if any.
        display: where progress is told.
        store, deadline: as in `train.engine.runs.train`.

    Raises:
        ValueError: see `train.engine.devices.mesh`.
    """
    settings, dataset = experiment.settings, experiment.dataset
    return train(
        groups(settings, experiment.learner_of),
        dataset,
        experiment.recipe,
        mode=settings.how,
        mesh=devices.mesh(settings.devices, settings.batch_devices),
        width=settings.width,
        folder=folder,
        settings=settings.facts() | {"data digest": dataset.digest},
        save_seconds=settings.save_seconds,
        display=display,
        store=store,
        deadline=deadline,
    )


def tested(
    experiment: Experiment, finished: Sequence[Finished], command: str, out: Path
) -> dict[str, Any]:
    """Tests all runs, and leaves `result.json` and `timing.json` behind.

    The first is reproducible to the byte; what is not, is in the second: how long the training took
    over all its starts, and the training images per second over all runs in the median epoch.

    Args:
        experiment: the experiment.
        finished: what came of each run.
        command: what was typed.
        out: the folder.

    Returns:
        The result, as in the file.
    """
    settings, dataset = experiment.settings, experiment.dataset
    pairs = zip(settings.runs, finished, strict=True)
    log, commit = finished[0].log, machine.commit()
    earlier = [known for known in log.commits if known != commit]
    result = {
        "experiment": experiment.title,
        "source": experiment.source,
        "command": command,
        "commit": commit,
        **({"earlier commits": earlier} if earlier else {}),
        "machine": machine.identity(
            settings.how, settings.devices, settings.width, settings.batch_devices
        ),
        "data": dataset.source,
        "settings": settings.facts(),
        "updates per epoch": experiment.recipe.steps(len(dataset.train_x)),
        "labels": ["regulariser", "rate"],
        "runs": [_test(experiment, run, done) for run, done in pairs],
    }
    if devices.is_first():
        write_atomic(out / "result.json", json.dumps(result, indent=1).encode())
        timing = {
            **{name: result[name] for name in ("experiment", "command", "commit", "machine")},
            "seconds of training": round(log.seconds, 1),
            "training images per second": round(float(np.median(log.rates)), 1),
            "updates per epoch": result["updates per epoch"],
            "runs": len(finished),
            "epochs": len(log.rates),
        }
        write_atomic(out / "timing.json", json.dumps(timing, indent=1).encode())
    return result


def _test(experiment: Experiment, run: Run, finished: Finished) -> dict[str, Any]:
    """What `result.json` says of a run."""
    told = {
        **run._asdict(),
        "rate": run.told_rate,
        "status": finished.status,
        "epochs": finished.epochs,
        "best epoch": finished.best_epoch,
        "history": {
            name: [round(float(v), 6) if np.isfinite(v) else None for v in column]
            for name, column in zip(loop.Record._fields, finished.history.T, strict=True)
        },
        "test": None,
        "monte carlo": None,
    }
    if finished.best_epoch == 0:
        return told
    variables, dataset = jax.tree.map(jnp.asarray, finished.best), experiment.dataset
    if experiment.statistics is not None:
        variables = experiment.statistics(variables)
    figures = _tester(experiment.network, experiment.prepare)(
        variables, dataset.test_x, dataset.test_y, np.float32(dataset.largest)
    )
    return told | {"test": {name: float(value) for name, value in figures.items()}}


@functools.lru_cache
def _tester(network: Network, prepare: Callable[[Array], Array]) -> Callable[..., dict[str, Array]]:
    def figures(variables: Variables, x: Array, y: Array, largest: Array) -> dict[str, Array]:
        def some(x: Array) -> Array:
            prepared = prepare(loop.scaled(x, largest))
            return jax.nn.log_softmax(network.evaluation(*variables, prepared, None)[0])

        log_probs = loop.in_batches(some, x)
        return {
            "error": metrics.error(log_probs, y),
            "nll": metrics.nll(log_probs, y),
            "ece": metrics.ece(jnp.exp(log_probs), y),
        }

    return jax.jit(figures)
