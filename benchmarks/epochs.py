"""What the benchmarks of whole trainings share: epochs of the training loop, on made-up images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Steps
from train.engine.loop import Data, Learner, RunState, init_run, programs
from train.engine.recipes import Recipe, SteppedRecipe

CLASSES = 10


def made_up(images: int, features: int) -> Data:
    """Random images and labels; as few of them for validation as there can be."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (images + 1, features)).astype(np.uint8)
    y = generator.integers(0, CLASSES, images + 1).astype(np.int32)
    return Data(*jax.device_put((x[1:], y[1:], x[:1], y[:1], np.float32(255))))


def slow(batch: int) -> SteppedRecipe:
    """As slow as it takes for many epochs on few images to stay with ordinary numbers."""
    return SteppedRecipe(batch_size=batch, learning_rate=1e-4, length=10**6)


def epochs(
    learner: Learner, recipe: Recipe, rates: Any, data: Data, start: RunState | None = None
) -> Steps:
    """Epochs of a learner at rates that it knows, from a copy of the given state or a new one."""
    _, epoch = programs(learner, recipe, "sequential")
    state = initial(learner, recipe, 1) if start is None else jax.tree.map(jnp.copy, start)
    hyper = jax.tree.map(lambda rate: np.array([rate], np.float32), rates)

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, record = epoch(state, hyper, data)
            jax.device_get(record)

    return run


def initial(learner: Learner, recipe: Recipe, runs: int) -> RunState:
    """So many runs before their first epoch."""
    # One run after the other and without optimisations: to compile the program takes as long as
    # that of an epoch, and it is executed once.
    fast = {"xla_backend_optimization_level": 0}
    init = jax.jit(functools.partial(init_run, learner, recipe), compiler_options=fast)
    states = [init(jax.random.key_data(jax.random.key(run))) for run in range(runs)]
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def distance(gradient: Any, exact: list[np.ndarray]) -> float:
    """Of the first runs' gradient from the reference, relative to it."""
    error = size = 0.0
    for g, e in zip(jax.tree.leaves(gradient), exact, strict=True):
        error += np.sum((np.asarray(g[: len(e)], np.float64) - e) ** 2)
        size += np.sum(e**2)
    return float(np.sqrt(error / size))
