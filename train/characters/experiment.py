"""The experiment from the text to `result.json`; see `train.characters`."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from train.characters import figure
from train.characters.settings import Config, Run
from train.characters.training import groups, pieces_of, scores
from train.data import Dataset, texts
from train.data.texts import Text
from train.engine import sweep
from train.engine.falling import LinearRecipe
from train.engine.groups import Group
from train.engine.runs import Finished

TITLE = "characters of a text"
SOURCE = "[C]"


class Experiment(NamedTuple):
    """What is trained and tested; see `train.engine.sweep.Trainable`."""

    title: str
    source: str
    settings: Config
    recipe: LinearRecipe
    dataset: Dataset
    symbols: int  # of the text

    def groups(self) -> list[Group]:
        """The programs of all runs."""
        return groups(self.settings, self.symbols)

    def test(self, run: Run, finished: Finished) -> dict[str, Any]:
        """The bits a character of a run; `None` if its loss never was a number."""
        if finished.best_epoch == 0:
            return {"test": None}
        weights = jax.tree.map(jnp.asarray, finished.best.params)
        sizes = self.symbols, self.settings.samples
        return {"test": scores(run.reading, weights, self.dataset, *sizes, run.seed)}

    def tables(self, result: dict[str, Any]) -> list[Any]:
        """The result for a terminal."""
        return [figure.table(result).rich()]


def text_of(config: Config) -> Text:
    """The text that settings name."""
    return texts.load(config.data, config.data_dir, config.most)


def experiment(config: Config, text: Text) -> Experiment:
    """What is trained, on a text."""
    pieces = pieces_of(text, config.piece)
    return Experiment(TITLE, SOURCE, config, config.recipe, pieces, len(text.alphabet))


main = functools.partial(sweep.run, experiment, draw=figure.draw, load=text_of, rows="pieces")
