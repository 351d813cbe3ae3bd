"""Learning curves: every procedure trained by the same recipe from the same initial means."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from train.data import Dataset
from train.engine import loop, testing
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Display, Finished, Group, train
from train.gradient_variance.networks import CLASSES, learner, learning
from train.gradient_variance.settings import MEASUREMENTS, Config, Name


def all_runs(config: Config) -> list[tuple[Name, int]]:
    """Procedure and seed of each training, in the order of the results."""
    return [(procedure, seed) for procedure in config.procedures for seed in config.seeds]


def recipe(config: Config) -> PlateauRecipe:
    """The same learning rate for all, until the last epoch."""
    _, _, batch_size, epochs = config.scale
    return PlateauRecipe(
        batch_size=batch_size,
        learning_rate=config.learning_rate,
        epochs=epochs,
        plateau_patience=epochs,
        stop_patience=epochs,
    )


def learn(
    config: Config, dataset: Dataset, folder: Path | None, display: Display | None = None
) -> list[Finished]:
    """Trains by every procedure.

    Args:
        config: the settings.
        dataset: the data.
        folder: where the checkpoint lies, if any.
        display: where progress is told.
    """
    return train(
        _groups(config, dataset),
        dataset,
        recipe(config),
        mode=config.how,
        folder=folder,
        settings=config.facts(*MEASUREMENTS) | {"data digest": dataset.digest},
        save_seconds=config.save_seconds,
        display=display,
    )


def _groups(config: Config, dataset: Dataset) -> list[Group]:
    """The programs of the trainings: one for each procedure, or for each of its seeds."""
    together = [config.seeds] if config.how == "vmap" else [(seed,) for seed in config.seeds]
    return [
        Group(
            name=f"{procedure} {seeds[0]}" if len(together) > 1 else procedure,
            learner=learner(config, procedure, dataset.train_x.shape[1], len(dataset.train_x)),
            runs=tuple(f"{procedure} {seed}" for seed in seeds),
            keys=np.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds]),
            hyper=np.zeros(len(seeds), np.float32),
        )
        for procedure in config.procedures
        for seeds in together
    ]


def initial(config: Config, dataset: Dataset) -> Any:
    """The posterior that training with the first seed begins with."""
    begin = learner(config, config.trained_by, dataset.train_x.shape[1], len(dataset.train_x))
    run = functools.partial(loop.init_run, begin, recipe(config))
    key = jax.random.key_data(jax.random.key(config.seeds[0]))
    return jax.jit(lambda key: run(key).variables.params)(key)


def tested(
    config: Config, dataset: Dataset, run: tuple[Name, int], finished: Finished
) -> dict[str, Any]:
    """What `result.json` says of a run.

    Args:
        config: the settings.
        dataset: the data.
        run: procedure and seed.
        finished: what came of it.
    """
    procedure, seed = run
    told = {"procedure": procedure, "seed": seed, **testing.told(finished)}
    told |= {"test": None, "weight samples": None}
    if finished.best_epoch == 0:
        return told
    plain, sampled = _scorers(config, procedure == "plain", dataset.test_x.shape[1])
    told["test"] = testing.scores(plain, finished.best.params, dataset)
    if procedure != "plain":
        key = jax.random.fold_in(jax.random.key(seed), loop.TEST)
        told["weight samples"] = testing.scores(sampled, finished.best.params, dataset, key)
    return told


@functools.lru_cache
def _scorers(config: Config, plain: bool, features: int) -> tuple[testing.Scorer, testing.Scorer]:
    """Figures of predictions by moments, the same program for all posteriors, and by the average
    of weight samples."""
    net = learning(config, features)

    def sampled(posterior: Any, x: Array, key: Any) -> Array:
        def one(total: Array, key: Any) -> tuple[Array, None]:
            output = net.output("weights", key, posterior, x)
            return total + jax.nn.softmax(output.mean), None

        # The same networks for all images.
        keys = jax.random.split(key, config.samples)
        total, _ = jax.lax.scan(one, jnp.zeros((len(x), CLASSES)), keys)
        return testing.logarithm(total / config.samples)

    by_moments = functools.partial(net.predict, "plain" if plain else "moments")
    return testing.scorer(by_moments), testing.scorer(sampled)
