"""The experiment from what is real to `result.json`; see `train.gan`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train import data
from train.data import Dataset
from train.engine import sweep
from train.engine.groups import Group
from train.engine.loop import TEST
from train.engine.runs import Finished
from train.gan import figure
from train.gan.scores import Judge, of_ring, rounded
from train.gan.settings import AdversarialRecipe, Config, Run
from train.gan.training import dataset_of, energy_distance, generated, groups, real, sizes_of
from train.report.pixels import coded

TITLE = "generators that learn from a critic"
SOURCE = "[C]"
_JUDGE = 0  # its seed


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is trained and tested; see `train.engine.sweep.Trainable`."""

    settings: Config
    dataset: Dataset
    title: str = TITLE
    source: str = SOURCE

    @property
    def recipe(self) -> AdversarialRecipe:
        """How a run is trained."""
        return self.settings.recipe

    def groups(self) -> list[Group]:
        """The programs of all runs."""
        return groups(self.settings, self.dataset)

    @functools.cached_property
    def judge(self) -> Judge:
        """What tells digits."""
        return Judge.of(self.dataset, _JUDGE)

    def test(self, run: Run, finished: Finished) -> dict[str, Any]:
        """The figures of a run, `None` if its loss was not a number; of the first seed some of what
        is generated, and of images the figures of real ones."""
        config, dataset = self.settings, self.dataset
        told: dict[str, Any] = {"test": None}
        if finished.best_epoch == 0:
            return told
        ring, sizes = config.data == "ring", sizes_of(config, dataset)
        key = jax.random.fold_in(jax.random.key(run.seed), TEST)
        of_real, of_generated = jax.random.split(key)
        average = jax.tree.map(jnp.asarray, finished.best.state.average)
        made = generated(sizes, config.samples, average, of_generated)
        rows = jnp.asarray(dataset.test_x, jnp.float32) / dataset.largest
        distance = float(energy_distance(made, real(sizes, of_real, rows)))
        scores = of_ring if ring else self.judge.scores
        told["test"] = rounded(scores(np.asarray(made)) | {"distance": distance})
        if run.seed == config.seeds[0]:
            kept = config.kept if ring else -(-config.kept // 50)
            some = np.asarray(made[:kept], np.float64)
            told["samples"] = some.round(3).tolist() if ring else coded(some)
            told |= {} if ring else {"real": rounded(self.judge.of_test(dataset))}
        return told

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal."""
        return [figure.table(result).rich()]


def images_of(config: Config) -> Dataset | None:
    """The images that settings name; none for the ring."""
    return None if config.data == "ring" else data.load(config.data, config.data_dir)


def experiment(config: Config, images: Dataset | None) -> Experiment:
    """What is trained, on images or on the ring."""
    return Experiment(config, dataset_of(config, images))


main = functools.partial(sweep.run, experiment, draw=figure.draw, load=images_of, rows="examples")
