"""Variance, bias and cost of the gradients of all procedures, at the same posteriors."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from train.data import Dataset
from train.engine import loop
from train.engine.runs import Finished
from train.gradient_variance import noise
from train.gradient_variance.networks import PROCEDURES, learning
from train.gradient_variance.settings import Config
from train.gradient_variance.training import all_runs, initial
from train.report.statistics import mean

REFERENCE = "flipout"  # its expectation is exact for any network
_VARIANCE, _BIAS = 10, 11  # streams of the key besides those of train.engine.loop

Say = Callable[[str], None]


def posteriors(config: Config, dataset: Dataset, finished: Sequence[Finished]) -> dict[str, Any]:
    """Where gradients are measured.

    Raises:
        ValueError: the training that leads there never had a finite loss.
    """
    run = finished[all_runs(config).index((config.trained_by, config.seeds[0]))]
    if run.best_epoch == 0:
        raise ValueError(
            f"training by {config.trained_by} diverged, so that there is no trained posterior to "
            "measure gradients at: choose another --trained-by, or a smaller --learning-rate."
        )
    trained = jax.tree.map(jnp.asarray, run.best.params)
    return {"initial": initial(config, dataset), "trained": trained}


def _gradients(config: Config, dataset: Dataset) -> dict[str, noise.Source]:
    """Of each procedure, and of the reference."""
    gradient = learning(config, dataset.train_x.shape[1]).gradient
    return {
        procedure: noise.Source(
            functools.partial(gradient, procedure), PROCEDURES[procedure].random
        )
        for procedure in dict.fromkeys([*config.procedures, REFERENCE])
    }


def _batch(config: Config, dataset: Dataset) -> tuple[Array, Array]:
    """The first training images, in [0, 1], and their labels."""
    some = slice(config.scale.batch_size)
    x = loop.scaled(jnp.asarray(dataset.train_x[some]), jnp.float32(dataset.largest))
    return x, jnp.asarray(dataset.train_y[some])


def _estimate(values: np.ndarray) -> dict[str, float]:
    found = mean([float(v) for v in values])
    return {"value": found.value, "standard error": found.standard_error}


def variances(
    config: Config, dataset: Dataset, points: dict[str, Any], say: Say
) -> list[dict[str, Any]]:
    """The variance of every procedure's gradient at every point, by batch size."""
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _VARIANCE)
    inputs = jnp.asarray(dataset.train_x), jnp.asarray(dataset.train_y)
    largest, sources, rows = np.float32(dataset.largest), _gradients(config, dataset), []
    for procedure in config.procedures:
        source = sources[procedure]
        for examples in config.batch_sizes:
            # One program for all posteriors.
            measure = jax.jit(functools.partial(_variance, config, source, examples))
            for point, posterior in points.items():
                found = jax.device_get(measure(key, posterior, *inputs, largest))
                rows.append(
                    {"procedure": procedure, "point": point, "batch size": examples}
                    | {
                        group: {kind: _estimate(of) for kind, of in each._asdict().items()}
                        for group, each in found.items()
                    }
                )
            say(f"variance of {procedure} at batch size {examples}")
    return rows


def _variance(
    config: Config,
    source: noise.Source,
    examples: int,
    key: Any,
    posterior: Any,
    *data: Array,
) -> Any:
    *inputs, largest = data

    def of_bytes(key: Any, posterior: Any, x: Array, y: Array) -> Any:
        return source.gradient(key, posterior, loop.scaled(x, largest), y)

    # Without noise, two draws show that they are equal.
    draws = config.draws if source.random else 2
    return noise.variance(
        of_bytes, key, posterior, *inputs, batch_size=examples, pairs=config.pairs, draws=draws
    )


def biases(
    config: Config, dataset: Dataset, points: dict[str, Any], say: Say
) -> list[dict[str, Any]]:
    """The distance of every procedure's expected gradient from flipout's, on one batch.

    A row holds, for either group of parameters, estimates of the squared distance and of the
    squared norm of the reference, and "relative": the root of their ratio; 0 where the estimate of
    the first is negative, which says that it is below the noise.
    """
    key = jax.random.fold_in(jax.random.key(config.seeds[0]), _BIAS)
    sources = _gradients(config, dataset)
    compared = {procedure: sources[procedure] for procedure in config.procedures}
    reference, draws = sources[REFERENCE].gradient, config.bias_draws
    measure = jax.jit(
        functools.partial(noise.distances, compared, reference, draws=draws, groups=8)
    )
    rows = []
    for point, posterior in points.items():
        found = jax.device_get(measure(key, posterior, *_batch(config, dataset)))
        for procedure, groups in found.items():
            row: dict[str, Any] = {"procedure": procedure, "point": point}
            for group, each in groups.items():
                row[group] = {name: _estimate(of) for name, of in each._asdict().items()}
                difference, own = (row[group][name]["value"] for name in each._fields)
                row[group]["relative"] = math.sqrt(max(difference, 0) / max(own, 1e-30))
            rows.append(row)
        say(f"bias at the {point} posterior")
    return rows


def costs(config: Config, dataset: Dataset, posterior: Any) -> list[dict[str, Any]]:
    """The time of a gradient: all procedures in turn, in several rounds."""
    x, y = _batch(config, dataset)
    sources = _gradients(config, dataset)
    programs = {name: jax.jit(sources[name].gradient) for name in config.procedures}
    seconds: dict[str, list[float]] = {procedure: [] for procedure in programs}
    for number in range(config.rounds + 1):
        for procedure, program in programs.items():
            key = jax.random.key(number)
            start = time.perf_counter()
            jax.block_until_ready(program(key, posterior, x, y))
            if number:  # the first round compiles
                seconds[procedure].append(time.perf_counter() - start)
    return [
        {
            "procedure": procedure,
            "batch size": len(x),
            "milliseconds": 1e3 * float(np.median(taken)),
            "fastest milliseconds": 1e3 * min(taken),
        }
        for procedure, taken in seconds.items()
    ]
