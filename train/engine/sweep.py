"""What experiments share that compare dropout and PCFF ([A] 5.1).

Runs are (regulariser, rate, seed), of networks of one kind of nodes or of several. Mapped, those of
a kind are one program with arrays of rates, in which what is off has rate 0; one after the other,
each is a program that knows its rates, and what is off is not computed.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from train import data
from train.data import Dataset
from train.engine import devices, loop, testing
from train.engine.groups import Group, Layout
from train.engine.loop import Learner, Variables
from train.engine.progress import ProgressBar
from train.engine.recipes import Recipe
from train.engine.runs import Display, Finished, Keeping, train
from train.engine.settings import Computation, Rates, Run
from train.report import files, results, sweep_figure
from train.report import tables as report

# In --out.
RESULT, CHECKPOINT = "result.json", "checkpoint"

Build = Callable[[nnx.Rngs], nnx.Module]


class Network(NamedTuple):
    """A module in its two modes, as pure functions."""

    init: Callable[[Any], Variables]  # init(key)
    training: Callable[..., tuple[Array, Any]]  # (params, state, x, drop_rate) -> (logits, state)
    evaluation: Callable[..., tuple[Array, Any]]  # the same with running statistics


def network(build: Build, evaluated: Build | None = None) -> Network:
    """The functions of a module that `build` makes, and `evaluated` for evaluation, where that is
    another of the same variables."""

    def abstract(build: Build) -> nnx.Module:
        return nnx.eval_shape(lambda: build(nnx.Rngs(0)))

    def init(key: Any) -> Variables:
        _, params, state = cg.functional(build(nnx.Rngs(key)))
        return Variables(params, state)

    training, evaluation = abstract(build), abstract(evaluated or build)
    training.train()
    evaluation.eval()
    return Network(init, cg.functional(training)[0], cg.functional(evaluation)[0])


@functools.lru_cache
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
        network: what is trained.
        prepare: from rows of numbers in [0, 1] to what the network takes.
        known: the rates, if they are known when it is compiled; else the loss takes them as its
            `hyper`. Without dropout's noise nodes, others have other random numbers, so that the
            mode belongs to a checkpoint's identity.
        augment: `augment(key, x)`, of prepared examples in training; without it the noise has the
            whole key of a step, else a half of it.
        optimiser, project, rounds: as in `Learner`, and as in `cgjax.pcff`.
    """

    def loss(
        variables: Variables, key: Any, hyper: Rates, x: Array, y: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        drop, rate = hyper if known is None else known
        x, noise = prepare(x), key
        if augment is not None:
            noise, other = jax.random.split(key)
            x = augment(other, x)
        off = known is not None and not drop
        sampled = cg.pcff(network.training, rate, rounds=rounds)
        logits, state = sampled(noise, *variables, x, None if off else drop)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        wrong = (logits.argmax(-1) != y).sum(dtype=jnp.int32)
        return losses.mean(), (wrong, state)

    def log_probs(variables: Variables, x: Array) -> Array:
        return jax.nn.log_softmax(network.evaluation(*variables, prepare(x), None)[0])

    return Learner(network.init, loss, log_probs, optimiser, project)


def first(dataset: Dataset, images: int | None) -> Dataset:
    """A data set with the first training images only."""
    if images is None or images >= len(dataset.train_x):
        return dataset
    return dataset._replace(
        train_x=dataset.train_x[:images],
        train_y=dataset.train_y[:images],
        source=f"{dataset.source}, of which the first {images} for training",
    )


class Trainable(Protocol):
    """What `run` asks of an experiment."""

    @property
    def title(self) -> str:
        """What `result.json` calls it."""
        ...

    @property
    def source(self) -> str:
        """Where the paper has it."""
        ...

    @property
    def settings(self) -> Computation:
        """Which runs, and how they are computed."""
        ...

    @property
    def recipe(self) -> Recipe:
        """How a run is trained."""
        ...

    @property
    def dataset(self) -> Dataset:
        """What runs are trained on."""
        ...

    def groups(self) -> list[Group]:
        """The programs of all runs, in the order of these."""
        ...

    def test(self, run: Any, finished: Finished) -> dict[str, Any]:
        """What `result.json` says of a run besides how it went; the figures are `None` if its loss
        never was a number."""
        ...

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal."""
        ...


class Experiment(NamedTuple):
    """What is compared, on what, and how."""

    title: str  # what `result.json` calls it
    source: str  # where the paper has it
    settings: Computation  # which runs, and how they are computed
    recipe: Recipe
    dataset: Dataset
    networks: Mapping[str, Network]  # by the `nodes` of their runs
    # learner_of(network, rates): the one that knows its rates or, without, takes them; always the
    # same one for the same
    learner_of: Callable[[Network, Rates | None], Learner]
    prepare: Callable[[Array], Array]  # from rows of numbers in [0, 1] to what the networks take
    # statistics(variables): those with new running statistics, for the test
    statistics: Callable[[Variables], Variables] | None = None
    samples: int = 0  # of each Monte Carlo prediction of the test images; 0: none are made

    def groups(self) -> list[Group]:
        """The programs of all runs: one for each kind of nodes, or one for each run."""

        def group(name: str, runs: Sequence[Run], known: Rates | None) -> Group:
            learner = self.learner_of(self.networks[runs[0].nodes], known)
            keys = np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in runs])
            columns = zip(*(run.rates for run in runs), strict=True)
            hyper = Rates(*(np.array(column, np.float32) for column in columns))
            return Group(name, learner, tuple(run.name for run in runs), keys, hyper)

        runs = self.settings.runs
        if self.settings.how == "sequential":
            return [group(run.name, [run], run.rates) for run in runs]
        kinds = {nodes: [run for run in runs if run.nodes == nodes] for nodes in self.networks}
        return [group(nodes or "runs", same, None) for nodes, same in kinds.items()]

    def test(self, run: Run, finished: Finished) -> dict[str, Any]:
        """The figures of a run's predictions; `None` if its loss never was a number."""
        told: dict[str, Any] = {"rate": run.told_rate, "test": None, "monte carlo": None}
        if finished.best_epoch == 0:
            return told
        variables = jax.tree.map(jnp.asarray, finished.best)
        if self.statistics is not None:
            variables = self.statistics(variables)
        plain, sampled = _scorers(self.networks[run.nodes], self.prepare, self.samples)
        told["test"] = plain(variables, self.dataset)
        # Without noise the average of samples is the feed-forward prediction.
        if self.samples and any(run.rates):
            key = jax.random.fold_in(jax.random.key(run.seed), loop.TEST)
            rates = Rates(*map(np.float32, run.rates))
            told["monte carlo"] = sampled(variables, self.dataset, rates, key)
        return told

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal."""
        return report.tables(result)


def images(settings: Any) -> Dataset:
    """The images that settings name."""
    return data.load(settings.data, settings.data_dir)


def run(
    experiment_of: Callable[[Any, Any], Trainable],
    settings: Any,
    command: str,
    console: Any,
    *,
    draw: Callable[[Sequence[Path], Path], None] = sweep_figure.draw,
    load: Callable[[Any], Any] = images,
    rows: str = "images",
) -> dict[str, Any]:
    """Trains, tests, and leaves the result, which is returned, and a figure behind.

    The experiment is made of settings, below `Computation`, and of the data that `load(settings)`
    finds, whose `rows` progress counts, when this process has joined the others, if there are any;
    `draw([result.json], figure)` draws it. DataFileError if there are
    no data, or bad files, or the folder cannot be written, is another process's, or holds the
    result of another experiment; else see `train.engine.runs.train` and `train.engine.devices`.
    """
    out, budget, began = settings.folder, settings.budget_seconds, time.monotonic()
    devices.join(settings.coordinator, settings.processes, settings.process)
    console.quiet = not devices.is_first()
    say = results.said_on(console)
    with files.held(out) if devices.is_first() else contextlib.nullcontext():
        experiment = experiment_of(settings, load(settings))
        say(f"{experiment.dataset.source}; results go to {out}")
        if devices.is_first():
            files.refuse_other_result(out / RESULT, experiment.title, settings.facts())
        last = experiment.recipe.last_epoch
        with ProgressBar(last, len(settings.runs), console, rows=rows) as bar:
            deadline = None if budget is None else began + budget
            finished = trained(experiment, out / CHECKPOINT, bar, deadline=deadline)
        result = tested(experiment, finished, command, out)
        if devices.is_first():
            draw([out / RESULT], out / "figure.png")
        console.print(*experiment.tables(result))
        say(f"{out / RESULT}, {out}/figure.png")
        if running := sum(run.status == loop.STATUS[loop.RUNNING] for run in finished):
            say(
                f"{running} of {len(finished)} runs have not ended. The same command continues "
                f"them, elsewhere with --from and a copy of {out}."
            )
    return result


def trained(
    experiment: Trainable,
    folder: Path | None,
    display: Display | None = None,
    *,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains all runs, with the checkpoint in a folder, if there is one; see
    `train.engine.runs.train`."""
    settings, dataset = experiment.settings, experiment.dataset
    earlier = settings.earlier and settings.earlier / CHECKPOINT
    facts = settings.facts() | {"data digest": dataset.digest}
    keeping = Keeping(folder, earlier, facts, settings.save_seconds, deadline)
    return train(
        experiment.groups(), dataset, experiment.recipe, layout(settings), keeping, display
    )


def layout(settings: Computation) -> Layout:
    """How the runs of some settings are computed."""
    mesh = devices.mesh(settings.devices, settings.batch_devices)
    return Layout(settings.how, mesh, settings.mapped)


def tested(
    experiment: Trainable, finished: Sequence[Finished], command: str, out: Path
) -> dict[str, Any]:
    """Tests all runs, and leaves `result.json` and `timing.json` behind.

    The first is reproducible to the byte; what is not, is in the second: how long the training took
    over all its starts, and the training images per second over all runs in the median epoch.
    """
    settings, dataset = experiment.settings, experiment.dataset
    log = finished[0].log
    told = {"data": dataset.source, "settings": settings.facts(), "command": command}
    result = results.origin(
        experiment.title, experiment.source, identity=layout(settings).identity, **told
    )
    if earlier := [known for known in log.commits if known != result["commit"]]:
        result["earlier commits"] = earlier
    result |= {
        "updates per epoch": experiment.recipe.steps(len(dataset.train_x)),
        "labels": list(settings.runs[0].labels),
        "runs": [
            {**run.labels, "seed": run.seed, **testing.told(ended), **experiment.test(run, ended)}
            for run, ended in zip(settings.runs, finished, strict=True)
        ],
    }
    if devices.is_first():
        results.write(out / RESULT, result)
        timing = {
            **{name: result[name] for name in ("experiment", "command", "commit", "machine")},
            "seconds of training": round(log.seconds, 1),
            "training images per second": round(float(np.median(log.rates)), 1),
            "updates per epoch": result["updates per epoch"],
            "runs": len(finished),
            "epochs": len(log.rates),
        }
        results.write(out / "timing.json", timing)
    return result


@functools.lru_cache
def _scorers(
    network: Network, prepare: Callable[[Array], Array], samples: int
) -> tuple[Callable[..., dict[str, float]], Callable[..., dict[str, float]]]:
    """Of feed-forward predictions, and of the average prediction of the procedure that the network
    was trained by."""

    def plain(variables: Variables, x: Array, _: Any) -> Array:
        return jax.nn.log_softmax(network.evaluation(*variables, prepare(x), None)[0])

    def probs(variables: Variables, x: Array, drop: Any) -> Array:
        return jax.nn.softmax(network.evaluation(*variables, prepare(x), drop)[0])

    def sampled(variables: Variables, x: Array, number: Array, rates: Rates, key: Any) -> Array:
        # A batch at a time, so that memory is that of a few samples of a thousand images.
        average = cg.monte_carlo(cg.pcff(probs, rates.pcff), samples, batch_size=4)
        found = average(jax.random.fold_in(key, number), variables, x, rates.drop)
        return testing.logarithm(found.mean)

    return testing.scorer(plain), testing.scorer(sampled)
