"""The experiment from what is real to `result.json`; see `train.gan`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data import Dataset
from train.engine import testing, whole
from train.engine.loop import TEST
from train.engine.runs import Finished
from train.engine.whole import Ends, Training
from train.gan import figure
from train.gan.scores import Judge, of_ring, rounded
from train.gan.settings import Config, Run
from train.gan.training import dataset_of, energy_distance, generated, groups, real, sizes_of
from train.report.results import Result

TITLE = "generators that learn from a critic"
SOURCE = "[C]"
_JUDGE = 0  # its seed


def main(config: Config, command: str, console: Any) -> Result:
    """Trains, tests, and leaves the result behind; for errors see
    `train.engine.whole.carried_out`."""

    def training() -> Training:
        dataset = dataset_of(config)
        return Training(TITLE, SOURCE, config, config.recipe, dataset, groups(config, dataset))

    def test(training: Training, finished: Sequence[Finished]) -> Result:
        dataset, known = training.dataset, training.begun(finished, command)
        scores: Callable[[np.ndarray], dict[str, float]] = of_ring
        if config.data != "ring":
            judge = Judge.of(dataset, _JUDGE)
            known["real"] = rounded(judge.of_test(dataset))
            scores = judge.scores
        known["runs"] = [
            _tested(config, run, each, dataset, scores)
            for run, each in zip(config.runs, finished, strict=True)
        ]
        whole.leave(config.folder, known, finished, "examples")
        return known

    ends = Ends(test, figure.draw, lambda result: [figure.table(result).rich()])
    return whole.carried_out(training, config, console, ends, "examples")


def _tested(
    config: Config,
    run: Run,
    finished: Finished,
    dataset: Dataset,
    scores: Callable[[np.ndarray], dict[str, float]],
) -> dict[str, Any]:
    """What `result.json` says of a run; no figures if its loss was not a number."""
    told = {"divergence": run.divergence, "seed": run.seed, **testing.told(finished), "test": None}
    average = finished.best.state.average
    if finished.best_epoch:
        sizes = sizes_of(config, dataset)
        of_real, of_generated = jax.random.split(jax.random.fold_in(jax.random.key(run.seed), TEST))
        made = generated(sizes, config.samples, jax.tree.map(jnp.asarray, average), of_generated)
        rows = jnp.asarray(dataset.test_x, jnp.float32) / dataset.largest
        distance = energy_distance(made, real(sizes, of_real, rows))
        told["test"] = rounded(scores(np.asarray(made)) | {"distance": float(distance)})
        if run.seed == config.seeds[0]:
            kept = config.kept if config.data == "ring" else -(-config.kept // 50)
            told["samples"] = np.asarray(made[:kept], np.float64).round(3).tolist()
    return told
