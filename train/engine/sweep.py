"""What experiments share that compare dropout and PCFF ([A] 5.1).

Runs are (regulariser, rate, seed), of networks of one kind of nodes or of several. Mapped, those of
a kind are one program with arrays of rates, in which what is off has rate 0; one after the other,
each is a program that knows its rates, and what is off is not computed.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from train.engine.checkpoint import CheckpointError, Checkpoints
from train.engine.loop import Learner, Variables
from train.engine.recipes import Recipe
from train.engine.runs import Display, Finished, Group, train
from train.engine.settings import Computation, Rates, Run
from train.report import files, machine
from train.report import tables as report

# In --out.
RESULT, CHECKPOINT = "result.json", "checkpoint"

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
        augment: `augment(key, x)`, of prepared examples in training; without it the noise has the
            whole key of a step, else a half of it.
        optimiser, project: as in `train.engine.loop.Learner`.
        rounds: as in `cgjax.pcff`.
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


class Model(NamedTuple):
    """A network and how it is trained.

    Attributes:
        network: the network.
        learner_of: the learner that knows its rates, or (None) takes them.
    """

    network: Network
    learner_of: Callable[[Rates | None], Learner]


class Experiment(NamedTuple):
    """What is compared, on what, and how.

    Attributes:
        title, source: what `result.json` calls it, and where the paper has it.
        settings: which runs, and how they are computed.
        recipe: how each is trained.
        dataset: on what.
        models: the networks, by the `nodes` of their runs.
        prepare: from rows of numbers in [0, 1] to what the networks take.
        statistics: `statistics(variables) -> variables`, new running statistics before the test.
        samples: of each Monte Carlo prediction of the test images; 0: none are made.
    """

    title: str
    source: str
    settings: Computation
    recipe: Recipe
    dataset: Dataset
    models: Mapping[str, Model]
    prepare: Callable[[Array], Array]
    statistics: Callable[[Variables], Variables] | None = None
    samples: int = 0


def groups(experiment: Experiment) -> list[Group]:
    """The programs of an experiment: one for each kind of nodes, or one for each run."""
    runs, models = experiment.settings.runs, experiment.models
    if experiment.settings.how == "sequential":
        return [_group(run.name, [run], models[run.nodes].learner_of(run.rates)) for run in runs]
    kinds = {nodes: [run for run in runs if run.nodes == nodes] for nodes in models}
    return [
        _group(nodes or "runs", same, models[nodes].learner_of(None))
        for nodes, same in kinds.items()
    ]


def _group(name: str, runs: Sequence[Run], learner: Learner) -> Group:
    keys = [jax.random.key_data(jax.random.key(run.seed)) for run in runs]
    columns = zip(*(run.rates for run in runs), strict=True)
    hyper = Rates(*(np.array(column, np.float32) for column in columns))
    return Group(name, learner, tuple(run.name for run in runs), np.stack(keys), hyper)


def run(
    settings: Computation,
    build: Callable[[], Experiment],
    command: str,
    out: Path,
    console: Any,
    draw: Callable[[Sequence[Path], Path], None] | None = None,
) -> dict[str, Any]:
    """Trains, tests, and leaves the result and a figure behind.

    Args:
        settings: those of the experiment.
        build: makes it; called when this process has joined the others, if there are any.
        command: what was typed, for the result.
        out: the folder.
        console: the `rich.console.Console` to tell progress on.
        draw: `draw([result.json], figure)`; none: `train.report.sweep_figure.draw`.

    Returns:
        The result, as in `result.json`.

    Raises:
        DataFileError: no data, or bad files; the folder cannot be written, is another process's, or
            holds the result of another experiment.
        CheckpointError, ValueError: see `train.engine.runs.train` and `train.engine.devices`.
    """
    from train.engine.progress import ProgressBar
    from train.report import sweep_figure

    budget, began = settings.budget_seconds, time.monotonic()
    devices.join(settings.coordinator, settings.processes, settings.process)
    console.quiet = not devices.is_first()
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    with files.held(out) if devices.is_first() else contextlib.nullcontext():
        experiment = build()
        say(f"{experiment.dataset.source}; results go to {out}")
        if devices.is_first():
            files.refuse_other_result(out / RESULT, experiment.title, settings.facts())
            if settings.earlier is not None:
                bring(settings.earlier / CHECKPOINT, out / CHECKPOINT)
        with ProgressBar(experiment.recipe.last_epoch, len(settings.runs), console) as bar:
            deadline = None if budget is None else began + budget
            finished = trained(experiment, out / CHECKPOINT, bar, deadline=deadline)
        result = tested(experiment, finished, command, out)
        if devices.is_first():
            (draw or sweep_figure.draw)([out / RESULT], out / "figure.png")
        console.print(*report.tables(result))
        say(f"{out / RESULT}, {out}/figure.png")
        running = sum(run.status == loop.STATUS[loop.RUNNING] for run in finished)
        if running:
            say(
                f"{running} of {len(finished)} runs have not ended. The same command continues "
                f"them, elsewhere with --from and a copy of {out}."
            )
    return result


def bring(source: Path, target: Path) -> None:
    """Copies the newest checkpoint of a folder, which is only read, to another where that has no
    newer one.

    Raises:
        CheckpointError: there is none, or a damaged one, or it cannot be written.
    """
    there, here = Checkpoints(source), Checkpoints(target)
    with contextlib.closing(there), contextlib.closing(here):
        brought, known = there.latest(), here.latest()
        if brought is None:
            raise CheckpointError(
                f"{source}: no checkpoint there. Give the folder that was --out, or leave --from "
                "out to begin anew."
            )
        if known is None or known.step < brought.step:
            here.save(*brought)


def trained(
    experiment: Experiment,
    folder: Path | None,
    display: Display | None = None,
    *,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains all runs.

    Args:
        experiment: the experiment.
        folder: where the checkpoint lies, if any.
        display: where progress is told.
        deadline: as in `train.engine.runs.train`.

    Raises:
        ValueError: see `train.engine.devices.mesh`.
    """
    settings, dataset = experiment.settings, experiment.dataset
    return train(
        groups(experiment),
        dataset,
        experiment.recipe,
        mode=settings.how,
        mesh=devices.mesh(settings.devices, settings.batch_devices),
        width=settings.mapped,
        folder=folder,
        settings=settings.facts() | {"data digest": dataset.digest},
        save_seconds=settings.save_seconds,
        display=display,
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
            settings.how, settings.devices, settings.mapped, settings.batch_devices
        ),
        "data": dataset.source,
        "settings": settings.facts(),
        "updates per epoch": experiment.recipe.steps(len(dataset.train_x)),
        "labels": list(settings.runs[0].labels),
        "runs": [_test(experiment, run, done) for run, done in pairs],
    }
    if devices.is_first():
        files.write_atomic(out / RESULT, json.dumps(result, indent=1).encode())
        timing = {
            **{name: result[name] for name in ("experiment", "command", "commit", "machine")},
            "seconds of training": round(log.seconds, 1),
            "training images per second": round(float(np.median(log.rates)), 1),
            "updates per epoch": result["updates per epoch"],
            "runs": len(finished),
            "epochs": len(log.rates),
        }
        files.write_atomic(out / "timing.json", json.dumps(timing, indent=1).encode())
    return result


def _test(experiment: Experiment, run: Run, finished: Finished) -> dict[str, Any]:
    """What `result.json` says of a run; the figures are `None` if its loss never was a number."""
    told = {
        **run.labels,
        "rate": run.told_rate,
        "seed": run.seed,
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
    network = experiment.models[run.nodes].network
    plain, sampled = _testers(network, experiment.prepare, experiment.samples)
    inputs = variables, dataset.test_x, dataset.test_y, np.float32(dataset.largest)
    told["test"] = _floats(plain(*inputs))
    # Without noise the average of samples is the feed-forward prediction.
    if experiment.samples and any(run.rates):
        key = jax.random.fold_in(jax.random.key(run.seed), loop.TEST)
        told["monte carlo"] = _floats(sampled(*inputs, Rates(*map(np.float32, run.rates)), key))
    return told


def _floats(figures: dict[str, Array]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


@functools.lru_cache
def _testers(
    network: Network, prepare: Callable[[Array], Array], samples: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Figures of feed-forward predictions, and of the average prediction of the procedure that the
    network was trained by."""

    def plain(variables: Variables, x: Array, y: Array, largest: Array) -> dict[str, Array]:
        def some(x: Array) -> Array:
            prepared = prepare(loop.scaled(x, largest))
            return jax.nn.log_softmax(network.evaluation(*variables, prepared, None)[0])

        return _figures(loop.in_batches(some, x), y)

    def probs(variables: Variables, x: Array, drop: Any) -> Array:
        return jax.nn.softmax(network.evaluation(*variables, x, drop)[0])

    def sampled(
        variables: Variables, x: Array, y: Array, largest: Array, rates: Rates, key: Any
    ) -> dict[str, Array]:
        # A batch at a time, so that memory is that of a few samples of a thousand images.
        average = cg.monte_carlo(cg.pcff(probs, rates.pcff), samples, batch_size=4)

        def some(x: Array, number: Array) -> Array:
            images = prepare(loop.scaled(x, largest))
            return average(jax.random.fold_in(key, number), variables, images, rates.drop).mean

        # An average may underflow to 0, whose logarithm would make the figures infinite.
        smallest = jnp.finfo(jnp.float32).tiny
        probabilities = jnp.maximum(loop.in_batches(some, x, numbered=True), smallest)
        return _figures(jnp.log(probabilities), y)

    return jax.jit(plain), jax.jit(sampled)


def _figures(log_probs: Array, labels: Array) -> dict[str, Array]:
    probs = jnp.exp(log_probs)
    return {
        "error": metrics.error(log_probs, labels),
        "nll": metrics.nll(log_probs, labels),
        "ece": metrics.ece(probs, labels),
        "brier": metrics.brier(probs, labels),
    }
