"""What experiments share that compare dropout and PCFF ([A] 5.1).

Runs are (regulariser, rate, seed), of networks of one kind of nodes or of several. Mapped, those of
a kind are one program with arrays of rates, in which what is off has rate 0; one after the other,
each is a program that knows its rates, and what is off is not computed.
"""

import functools
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
from train import data
from train.data import Dataset
from train.engine import loop, testing, whole
from train.engine.groups import Group
from train.engine.loop import Learner, Variables
from train.engine.recipes import Recipe
from train.engine.runs import Display, Finished
from train.engine.settings import Compared, Rates, Run
from train.engine.whole import Ends, Training, carried_out
from train.report import sweep_figure
from train.report import tables as report

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


class Experiment(NamedTuple):
    """What is compared, on what, and how."""

    title: str  # what `result.json` calls it
    source: str  # where the paper has it
    settings: Compared  # which runs, and how they are computed
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


def groups(experiment: Experiment) -> list[Group]:
    """The programs of an experiment: one for each kind of nodes, or one for each run."""

    def group(name: str, runs: Sequence[Run], known: Rates | None) -> Group:
        learner = experiment.learner_of(experiment.networks[runs[0].nodes], known)
        keys = np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in runs])
        columns = zip(*(run.rates for run in runs), strict=True)
        hyper = Rates(*(np.array(column, np.float32) for column in columns))
        return Group(name, learner, tuple(run.name for run in runs), keys, hyper)

    runs = experiment.settings.runs
    if experiment.settings.how == "sequential":
        return [group(run.name, [run], run.rates) for run in runs]
    kinds = {nodes: [run for run in runs if run.nodes == nodes] for nodes in experiment.networks}
    return [group(nodes or "runs", same, None) for nodes, same in kinds.items()]


def run(
    experiment_of: Callable[[Any, Dataset], Experiment],
    settings: Any,
    command: str,
    console: Any,
    *,
    draw: Callable[[Sequence[Path], Path], None] = sweep_figure.draw,
) -> dict[str, Any]:
    """Trains, tests, and leaves the result, which is returned, and a figure behind.

    The experiment is made of settings, below `Compared`, and data; `draw([result.json], figure)`
    draws it. For errors see `train.engine.whole.carried_out`.
    """
    known: list[Experiment] = []

    def training() -> Training:
        known.append(experiment_of(settings, data.load(settings.data, settings.data_dir)))
        return training_of(known[-1])

    def test(_: Training, finished: Sequence[Finished]) -> dict[str, Any]:
        return tested(known[-1], finished, command, settings.folder)

    return carried_out(training, settings, console, Ends(test, draw, report.tables))


def training_of(experiment: Experiment) -> Training:
    """The runs of an experiment, for the engine."""
    title, source, settings, recipe, dataset, *_ = experiment
    return Training(title, source, settings, recipe, dataset, groups(experiment))


def trained(
    experiment: Experiment,
    folder: Path | None,
    display: Display | None = None,
    *,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains all runs, with the checkpoint in a folder, if there is one; see
    `train.engine.runs.train`."""
    return whole.trained(training_of(experiment), folder, display, deadline=deadline)


def tested(
    experiment: Experiment, finished: Sequence[Finished], command: str, out: Path
) -> dict[str, Any]:
    """Tests all runs, and leaves `result.json` and `timing.json` behind, see `whole.leave`."""
    runs = experiment.settings.runs
    result = training_of(experiment).begun(finished, command) | {
        "labels": list(runs[0].labels),
        "runs": [_test(experiment, *pair) for pair in zip(runs, finished, strict=True)],
    }
    whole.leave(out, result, finished)
    return result


def _test(experiment: Experiment, run: Run, finished: Finished) -> dict[str, Any]:
    """What `result.json` says of a run; the figures are `None` if its loss never was a number."""
    told = {**run.labels, "rate": run.told_rate, "seed": run.seed, **testing.told(finished)}
    told |= {"test": None, "monte carlo": None}
    if finished.best_epoch == 0:
        return told
    variables = jax.tree.map(jnp.asarray, finished.best)
    if experiment.statistics is not None:
        variables = experiment.statistics(variables)
    network = experiment.networks[run.nodes]
    plain, sampled = _scorers(network, experiment.prepare, experiment.samples)
    told["test"] = plain(variables, experiment.dataset)
    # Without noise the average of samples is the feed-forward prediction.
    if experiment.samples and any(run.rates):
        key = jax.random.fold_in(jax.random.key(run.seed), loop.TEST)
        rates = Rates(*map(np.float32, run.rates))
        told["monte carlo"] = sampled(variables, experiment.dataset, rates, key)
    return told


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
