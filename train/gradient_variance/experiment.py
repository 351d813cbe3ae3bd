"""The experiment from the data to `result.json`; see `train.gradient_variance`."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cgjax import weights
from train import data
from train.data import Dataset
from train.engine import loop
from train.engine.progress import ProgressBar
from train.engine.runs import Finished
from train.gradient_variance import noise, training
from train.gradient_variance.figure import draw, variance_grids
from train.gradient_variance.settings import Config, Name
from train.report import machine, results
from train.report.statistics import mean

SOURCE = "[B] 4.1, Figure 1"
TITLE = "variance of gradients and learning curves of procedures for weights"
REFERENCE = "flipout"  # its expectation is exact for any network
NOISELESS = ("moments", "plain")
_VARIANCE, _BIAS = 10, 11  # streams of the key besides those of train.engine.loop

Rows = list[dict[str, Any]]


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, measures, and leaves the result behind. DataFileError for bad data, CheckpointError
    as in `train.engine.runs.train`, ValueError if training diverged, so that there is nothing to
    measure at."""
    dataset = restricted(config, data.load(config.data, config.data_dir))
    identity, settings = machine.identity(config.how), config.facts()
    result = results.origin(
        TITLE, SOURCE, command=command, identity=identity, data=dataset.source, settings=settings
    )
    runs, out = training.all_runs(config), config.folder
    with results.leaving(out, result, console, draw) as say:
        with ProgressBar(config.scale.epochs, len(runs), console) as bar:
            finished = training.learn(config, dataset, out / "checkpoint", bar)
        pairs = zip(runs, finished, strict=True)
        told = [training.tested(config, dataset, *pair) for pair in pairs]
        points = posteriors(config, dataset, finished)
        initial = points["initial"]
        result |= {
            "sizes": {
                "training images": len(dataset.train_x),
                "validation images": len(dataset.validation_x),
                "test images": len(dataset.test_x),
                "uncertain weights": sum(k.mean.size for k in training.uncertain(initial)),
                "parameters": sum(a.size for a in jax.tree.leaves(weights.means(initial))),
            },
            "variance": variances(config, dataset, points, say),
            "bias": biases(config, dataset, points, say),
            "cost": costs(config, dataset, initial),
            "runs": told,
        }
        console.print(*(grid.rich() for grid in variance_grids(result)))
    return result


def restricted(config: Config, dataset: Dataset) -> Dataset:
    """The images that are used."""
    few = config.evaluation_images
    sizes = {"train": config.images, "validation": few, "test": few}
    names = [(f"{part}_{what}", size) for part, size in sizes.items() for what in "xy"]
    return dataset._replace(**{name: getattr(dataset, name)[:size] for name, size in names})


def posteriors(config: Config, dataset: Dataset, finished: Sequence[Finished]) -> dict[str, Any]:
    """Where gradients are measured: before and after the training of the first seed. ValueError if
    that never had a finite loss."""
    trained_by, seed = config.trained_by, config.seeds[0]
    run = finished[training.all_runs(config).index((trained_by, seed))]
    if run.best_epoch == 0:
        raise ValueError(
            f"training by {trained_by} diverged, so that there is no trained posterior to "
            "measure gradients at: choose another --trained-by, or a smaller --learning-rate."
        )
    begin = training.learner(config, trained_by, dataset.train_x.shape[1], len(dataset.train_x))
    state = jax.jit(functools.partial(loop.init_run, begin, training.recipe(config)))
    initial = state(jax.random.key_data(jax.random.key(seed))).variables.params
    return {"initial": initial, "trained": jax.tree.map(jnp.asarray, run.best.params)}


def _batch(config: Config, dataset: Dataset) -> tuple[Array, Array]:
    """The first training images, in [0, 1], and their labels."""
    some = slice(config.scale.batch_size)
    x = loop.scaled(jnp.asarray(dataset.train_x[some]), jnp.float32(dataset.largest))
    return x, jnp.asarray(dataset.train_y[some])


def _row(labels: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Means and standard errors of independent estimates, by group of parameters and by kind."""

    def told(values: np.ndarray) -> dict[str, float]:
        value, error, _ = mean(values.tolist())
        return {"value": value, "standard error": error}

    groups = jax.device_get(found).items()
    return labels | {
        group: {kind: told(values) for kind, values in kinds._asdict().items()}
        for group, kinds in groups
    }


def variances(
    config: Config, dataset: Dataset, points: dict[str, Any], say: Callable[[str], None]
) -> Rows:
    """The variance of every procedure's gradient at every point, by batch size."""
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _VARIANCE)
    images = jnp.asarray(dataset.train_x), jnp.asarray(dataset.train_y)
    largest, rows = np.float32(dataset.largest), []
    for procedure in config.procedures:
        for size in config.batch_sizes:
            # One program for all posteriors.
            measure = jax.jit(functools.partial(_variance, config, procedure, size))
            for point, posterior in points.items():
                labels = {"procedure": procedure, "point": point, "batch size": size}
                rows.append(_row(labels, measure(key, posterior, *images, largest)))
            say(f"variance of {procedure} at batch size {size}")
    return rows


def _variance(
    config: Config, procedure: Name, size: int, key: Any, posterior: Any, *data: Array
) -> dict[str, noise.Variance]:
    x, y, largest = data
    net = training.learning(config, x.shape[1])

    def gradient(key: Any, x: Array, y: Array) -> Any:
        return net.gradient(procedure, key, posterior, loop.scaled(x, largest), y)

    # Without noise, two draws show that they are equal.
    draws = 2 if procedure in NOISELESS else config.draws
    return noise.variance(gradient, key, x, y, batch_size=size, pairs=config.pairs, draws=draws)


def biases(
    config: Config, dataset: Dataset, points: dict[str, Any], say: Callable[[str], None]
) -> Rows:
    """The distance of every procedure's expected gradient from flipout's, on one batch.

    A row holds, for either group of parameters, estimates of the squared distance and of the
    squared norm of the reference, and "relative": the root of their ratio; 0 where the estimate of
    the first is negative, which says that it is below the noise.
    """
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _BIAS)
    gradient = training.learning(config, dataset.train_x.shape[1]).gradient

    @jax.jit
    def measure(key: Any, posterior: Any, x: Array, y: Array) -> dict[str, Any]:
        batch = {"posterior": posterior, "x": x, "y": y}
        sources = {
            name: noise.Source(functools.partial(gradient, name, **batch), name not in NOISELESS)
            for name in config.procedures
        }
        reference = functools.partial(gradient, REFERENCE, **batch)
        return noise.distances(sources, reference, key, draws=config.bias_draws, groups=8)

    rows = []
    for point, posterior in points.items():
        found = measure(key, posterior, *_batch(config, dataset))
        for procedure, groups in found.items():
            row = _row({"procedure": procedure, "point": point}, groups)
            for group in groups:
                distance, norm = (row[group][k]["value"] for k in ("difference", "reference"))
                row[group]["relative"] = math.sqrt(max(distance, 0) / max(norm, 1e-30))
            rows.append(row)
        say(f"bias at the {point} posterior")
    return rows


def costs(config: Config, dataset: Dataset, posterior: Any) -> Rows:
    """The time of a gradient: all procedures in turn, in several rounds."""
    x, y = _batch(config, dataset)
    gradient = training.learning(config, dataset.train_x.shape[1]).gradient
    programs = {name: jax.jit(functools.partial(gradient, name)) for name in config.procedures}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(config.rounds + 1):
        for procedure, program in programs.items():
            key = jax.random.key(number)
            start = time.perf_counter()
            jax.block_until_ready(program(key, posterior, x, y))
            seconds[procedure].append(time.perf_counter() - start)
    return [
        {
            "procedure": procedure,
            "batch size": len(x),
            "milliseconds": 1e3 * float(np.median(taken[1:])),  # the first round compiles
            "fastest milliseconds": 1e3 * min(taken[1:]),
        }
        for procedure, taken in seconds.items()
    ]
