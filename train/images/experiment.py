"""The experiment from the images to `result.json`; see `train.images`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.data import Dataset, images
from train.engine import loop, sweep
from train.engine.groups import Group
from train.engine.loop import Learner
from train.engine.runs import Finished
from train.images import table
from train.images.figure import draw
from train.images.recipe import ImageRecipe
from train.images.settings import Config, Run
from train.images.training import (
    Problem,
    first_images,
    learner,
    network_of,
    of_channels,
    scorers,
)

TITLE = "image classification"
SOURCE = "[B] 4.1, Table 1"
BALANCED = 32  # training images, on which layers are balanced


class Experiment(NamedTuple):
    """What is trained and tested; see `train.engine.sweep.Trainable`."""

    title: str
    source: str
    settings: Config
    recipe: ImageRecipe
    dataset: Dataset
    learner: Learner
    scorers: Mapping[str, Callable[..., dict[str, float]]]  # by how predictions are made

    def groups(self) -> list[Group]:
        """The programs of all runs: one, or one for each run, which seeds share."""
        runs = self.settings.runs
        apart = self.settings.how == "sequential"
        together = [[run] for run in runs] if apart else [runs]
        return [
            Group(
                some[0].name if apart else "runs",
                self.learner,
                tuple(run.name for run in some),
                np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in some]),
                np.zeros(len(some), np.float32),
            )
            for some in together
        ]

    def test(self, run: Run, finished: Finished) -> dict[str, Any]:
        """The figures of a run's predictions; `None` if its loss never was a number."""
        if finished.best_epoch == 0:
            return dict.fromkeys(self.scorers)
        variables = jax.tree.map(jnp.asarray, finished.best)
        key = jax.random.fold_in(jax.random.key(run.seed), loop.TEST)
        return {way: scores(variables, self.dataset, key) for way, scores in self.scorers.items()}

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal."""
        return [table.of_one(result).rich()]


def experiment(config: Config, dataset: Dataset) -> Experiment:
    """What is trained, on the images of a data set."""
    dataset = sweep.first(dataset, config.images)
    if config.held_images is not None:
        few = {
            name: getattr(dataset, name)[: config.held_images]
            for name in ("validation_x", "validation_y", "test_x", "test_y")
        }
        source = f"{dataset.source}; of the others the first {config.held_images} each"
        dataset = dataset._replace(**few, source=source)
    known, recipe, examples = images.known(config.data), config.recipe, len(dataset.train_x)
    steps = recipe.steps(examples) * recipe.length
    channels = of_channels(dataset, known.shape)
    problem = Problem(known.shape, known.classes, examples, steps, *channels)
    network = network_of(config, problem)
    made = learner(config, problem, network, first_images(dataset, BALANCED))
    scores = scorers(config, problem, network)
    return Experiment(TITLE, SOURCE, config, recipe, dataset, made, scores)


main = functools.partial(sweep.run, experiment, draw=draw)
