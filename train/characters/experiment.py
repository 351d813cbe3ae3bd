"""The experiment from the text to `result.json`; see `train.characters`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from train.characters import figure
from train.characters.settings import Config, Run
from train.characters.training import groups, pieces_of, scores
from train.data import texts
from train.engine import testing, whole
from train.engine.runs import Finished
from train.engine.whole import Ends, Training
from train.report.results import Result

TITLE = "characters of a text"
SOURCE = "[C]"


def main(config: Config, command: str, console: Any) -> Result:
    """Trains, tests, and leaves the result behind; for errors see
    `train.engine.whole.carried_out`."""
    symbols: list[int] = []

    def training() -> Training:
        text = texts.load(config.data, config.data_dir, config.most)
        symbols.append(len(text.alphabet))
        pieces = pieces_of(text, config.piece)
        return Training(
            TITLE, SOURCE, config, config.recipe, pieces, groups(config, len(text.alphabet))
        )

    def test(training: Training, finished: Sequence[Finished]) -> Result:
        known = training.begun(finished, command) | {"symbols": symbols[-1]}
        known["runs"] = [
            _tested(config, run, each, training, symbols[-1])
            for run, each in zip(config.runs, finished, strict=True)
        ]
        whole.leave(config.folder, known, finished, "pieces")
        return known

    ends = Ends(test, figure.draw, lambda result: [figure.table(result).rich()])
    return whole.carried_out(training, config, console, ends, "pieces")


def _tested(
    config: Config, run: Run, finished: Finished, training: Training, symbols: int
) -> dict[str, Any]:
    """What `result.json` says of a run; no figures if its loss never was a number."""
    told = {"reading": run.reading.name, "rate": run.reading.rate, "seed": run.seed}
    told |= testing.told(finished) | {"test": None}
    if finished.best_epoch:
        weights = jax.tree.map(jnp.asarray, finished.best.params)
        told["test"] = scores(
            run.reading, weights, training.dataset, symbols, config.samples, run.seed
        )
    return told
