"""A classifier small enough to train hundreds of epochs in a test."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import metrics
from train.data import Dataset
from train.engine.groups import Group, Layout
from train.engine.loop import Learner, Variables
from train.engine.progress import Display, Progress
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Finished, Keeping, train

FEATURES, CLASSES = 6, 3
RECIPE = PlateauRecipe(
    batch_size=8, learning_rate=0.03, stop_patience=8, plateau_patience=3, epochs=40
)


def init(key):
    return {"w": 0.1 * jax.random.normal(key, (FEATURES, CLASSES)), "b": jnp.zeros(CLASSES)}


def log_probs(params, x):
    return jax.nn.log_softmax(x @ params["w"] + params["b"][None])


def loss(params, key, hyper, x, y):
    """A linear classifier with noise of scale `hyper` on its inputs."""
    predicted = log_probs(params, x + hyper * jax.random.normal(key, x.shape))
    return metrics.nll(predicted, y), (predicted.argmax(-1) != y).sum(dtype=jnp.int32)


def stateless(init, loss, log_probs) -> Learner:
    """A learner whose network has no state."""

    def with_state(variables, *rest):
        value, wrong = loss(variables.params, *rest)
        return value, (wrong, ())

    return Learner(
        lambda key: Variables(init(key), ()),
        with_state,
        lambda variables, x: log_probs(variables.params, x),
    )


LEARNER = stateless(init, loss, log_probs)


def dataset() -> Dataset:
    generator = np.random.default_rng(0)
    y = generator.integers(0, CLASSES, 100).astype(np.int32)
    x = generator.integers(0, 200, (100, FEATURES)).astype(np.uint8)
    x[np.arange(100), y] += 55  # something to learn
    return Dataset(x[:48], y[:48], x[48:80], y[48:80], x[80:], y[80:], 255, "made up")


def group(hyper, name="linear") -> Group:
    """One run for each noise level."""
    keys = np.stack([jax.random.key_data(jax.random.key(seed)) for seed in range(len(hyper))])
    names = tuple(f"{name} {i}" for i in range(len(hyper)))
    return Group(name, LEARNER, names, keys, np.asarray(hyper, np.float32))


def flat(finished: list[Finished]) -> list:
    """Everything that came of runs, exactly, in a form that JSON holds."""
    return [
        [
            run.name,
            run.status,
            run.epochs,
            run.best_epoch,
            run.history.tobytes().hex(),
            {
                name: np.asarray(leaf).tobytes().hex()
                for name, leaf in sorted(run.best.params.items())
            },
        ]
        for run in finished
    ]


class Lines(Display):
    """A display that prints a line for each epoch, for another process to read."""

    def message(self, text: str) -> None:
        print(text, flush=True)

    def update(self, progress: Progress) -> None:
        print(f"epoch {progress.epoch}", flush=True)


def main(folder: str, result: str, *more: str) -> None:
    """Trains with a checkpoint after every epoch in a folder, prints a line for each epoch, and
    writes all figures and weights to a file; then the next two."""
    finished = train(
        [group([0.0, 0.1, np.nan, 0.4])],
        dataset(),
        RECIPE,
        Layout("vmap"),
        Keeping(Path(folder), save_seconds=0),
        Lines(),
    )
    Path(result).write_text(json.dumps(flat(finished)))
    if more:
        main(*more)
