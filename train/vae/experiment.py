"""The experiment from the images to `result.json`; see `train.vae`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.data import Dataset
from train.engine import loop, sweep, testing
from train.engine.falling import CosineRecipe
from train.engine.groups import Group
from train.engine.runs import Finished
from train.models.autoencoder import Shape
from train.vae import table
from train.vae.figure import draw
from train.vae.settings import Cell, Config, Training
from train.vae.testing import figures, pictures
from train.vae.training import images_of, learner, shape_of

TITLE = "variational autoencoders of binary images"


class Experiment(NamedTuple):
    """What is trained and tested; see `train.engine.sweep.Trainable`."""

    title: str
    source: str
    settings: Config
    recipe: CosineRecipe
    dataset: Dataset

    def shape(self, cell: Cell) -> Shape:
        """The network of a cell."""
        return shape_of(self.settings, cell, self.dataset)

    def groups(self) -> list[Group]:
        """The programs of all runs: one for each cell, or one for each run, which seeds share."""

        def group(runs: list[Training]) -> Group:
            cell = runs[0].cell
            name = runs[0].name if len(runs) == 1 else " ".join(runs[0].labels.values())
            keys = np.stack([jax.random.key_data(jax.random.key(run.seed)) for run in runs])
            made = learner(self.shape(cell), cell, self.settings.binarisation == "dynamic")
            return Group(name, made, tuple(run.name for run in runs), keys, np.zeros(len(runs)))

        runs, cells = self.settings.runs, self.settings.cells
        if self.settings.how == "sequential":
            return [group([run]) for run in runs]
        return [group([run for run in runs if run.cell == cell]) for cell in cells]

    def test(self, run: Training, finished: Finished) -> dict[str, Any]:
        """The figures of a run, and of the first seed pictures; `None` if its loss never was a
        number."""
        config, dataset = self.settings, self.dataset
        history = testing.told(finished)["history"]
        told: dict[str, Any] = {
            **run.cell._asdict(),
            # Nothing is classified.
            "history": {name: column for name, column in history.items() if "error" not in name},
            "test": None,
            "pictures": None,
        }
        if finished.best_epoch == 0:
            return told
        params = jax.tree.map(jnp.asarray, finished.best.params)
        x = loop.scaled(jnp.asarray(dataset.test_x), jnp.float32(dataset.largest))
        key, shape = jax.random.fold_in(jax.random.key(run.seed), loop.TEST), self.shape(run.cell)
        images = min(config.scale.test_images or len(x), len(x))
        found = figures(shape, params, key, x, images, config.test_samples)
        told["test"] = {name.replace("_", " "): v for name, v in found._asdict().items()}
        told["test"]["images"] = images
        if run.seed == config.seeds[0]:
            told["pictures"] = pictures(shape, params, key, x, dataset.test_y, config.kept)
        return told

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal: the figures, and what differences say."""
        from rich.text import Text

        return [table.short_figures(result).rich(), Text(table.meaning([result]))]


def experiment(config: Config, dataset: Dataset) -> Experiment:
    """What is trained, on the images of a data set."""
    made = images_of(config, dataset)
    return Experiment(TITLE, "[C]; Burda et al. 2016, Table 1", config, config.recipe, made)


main = functools.partial(sweep.run, experiment, draw=draw)
