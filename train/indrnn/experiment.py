"""Independently recurrent networks on images as sequences of pixels ([A] 5.1).

Six layers of 128 ReLU nodes, each of an affine map, the recurrence, batch normalisation over batch
and time, and dropout with one mask for all steps; the last state is classified. Adam 2e-4, batches
of 32, "epochs" of 1,700 updates, gradients cut off at 10, weight decay of 1e-4 of all but biases
and recurrent weights, recurrent weights clipped to 5^(1/784) after each update. After 100 epochs
(then 50, 25) without a better validation error a run goes back to the best and its rate falls by
ten; below 1e-6 it ends. The statistics of batch normalisation are estimated anew on the validation
images, without noise, before the test.

Other than in the code of the IndRNN's authors, the split into 57,000 training and 3,000 validation
images and the permutation have seeds; weights are clipped after each update, not before the next;
each epoch draws an order of its own, and leaves out what is beyond its 1,700 batches; errors are of
3,000 and 10,000 images, none of which counts twice; the running variance is of the batch's own,
without the factor n/(n-1). For `--stack dense --order permuted` they waited for 200 epochs, not
100: `--patience 200`.

**Claims** of the paper (test accuracy, mean of three runs): sequential: none .9841, dropout 0.1
.9830, PCFF 0.1 .9842; permuted: none .9045, dropout .9203, PCFF .9145.

**Cost**: some 700,000 updates a run. On a CPU core an update takes a third of a second: use a GPU,
perhaps with `--implementation mosaic_gpu`, or fewer epochs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import cgjax as cg
from train.data import Dataset
from train.engine import loop, sweep
from train.engine.loop import Learner, Variables
from train.engine.recipes import PatientRecipe, decayed
from train.engine.settings import Rates
from train.indrnn.settings import Config, Implementation, Stack
from train.models.indrnn import MOMENTUM, DenselyConnected, Options, Plain, Residual

# The most that running statistics keep of what they were before they are estimated anew.
LARGEST_REST = 1e-4


def experiment(config: Config, dataset: Dataset) -> sweep.Experiment:
    """What is compared, on the images of a data set as sequences."""
    ordered = in_order(config, dataset)
    steps = dataset.train_x.shape[1]
    shape = Shape(config.stack, config.depth, config.features, steps, config.implementation)
    net = network(shape)
    return sweep.Experiment(
        title=f"independently recurrent networks, {config.order} pixels",
        source="[A] 5.1",
        settings=config,
        recipe=config.recipe,
        dataset=ordered,
        networks={"": net},
        learner_of=lambda net, known: learner(net, config.recipe, known),
        prepare=sequences,
        statistics=functools.partial(reestimated, net, config.recipe.batch_size, ordered),
    )


main = functools.partial(sweep.run, experiment)


def in_order(config: Config, known: Dataset) -> Dataset:
    """Data in the order of the experiment, split by its seed: a twentieth for validation."""
    x = np.concatenate([known.train_x, known.validation_x])
    y = np.concatenate([known.train_y, known.validation_y])
    generator = np.random.default_rng(config.order_seed)
    rows, pixels = generator.permutation(len(x)), generator.permutation(x.shape[1])
    if config.order == "sequential":
        pixels = np.arange(x.shape[1])
    boundary = len(x) - len(x) // 20
    train, validation = rows[:boundary], rows[boundary:]
    split = known._replace(
        train_x=x[train][:, pixels],
        train_y=y[train],
        validation_x=x[validation][:, pixels],
        validation_y=y[validation],
        test_x=known.test_x[:, pixels],
        source=f"{known.source}, {config.order} pixels, split by seed {config.order_seed}",
    )
    return sweep.first(split, config.images)


class Shape(NamedTuple):
    """What a network is built from."""

    stack: Stack
    depth: int
    features: int
    steps: int  # of a sequence
    implementation: Implementation | None = None


@functools.lru_cache
def network(shape: Shape) -> sweep.Network:
    """The network as functions."""
    stack, depth, features, steps, implementation = shape
    build: dict[Stack, Callable[..., Any]] = {
        "plain": functools.partial(Plain, depth, features=features),
        "residual": functools.partial(Residual, features=features),
        "dense": functools.partial(DenselyConnected, growth=features // 8),
    }
    options = Options(steps, implementation=implementation)
    return sweep.network(lambda rngs: build[stack](options=options, rngs=rngs))


@functools.lru_cache
def learner(net: sweep.Network, recipe: PatientRecipe, known: Rates | None) -> Learner:
    """What is trained, of any recurrent network for sequences; neither biases nor recurrent weights
    decay."""
    return sweep.learner(
        net,
        sequences,
        known,
        augment=lambda key, x: x,  # the noise has the half of the key that it always had
        optimiser=recipe.optimiser_of(functools.partial(decayed, but=("*bias", "*recurrent"))),
        project=cg.layers.clip_recurrent_weights,
    )


def sequences(x: Float[Array, "n pixels"]) -> Float[Array, "n pixels 1"]:
    """Bytes, given as numbers in [0, 1], as numbers in [-1, 1): byte / 128 - 1."""
    return (x * (255 / 128) - 1)[..., None]


def reestimated(
    net: sweep.Network, batch: int, dataset: Dataset, variables: Variables
) -> Variables:
    """New statistics of batch normalisation: running averages over batches of validation images.

    The images come in turn, as often as it takes for no more than 1e-4 of the old statistics to be
    left; with the recipe's 32 of MNIST's 3,000 images, once.
    """
    largest = np.float32(dataset.largest)
    return _reestimated(net, batch, variables, dataset.validation_x, largest)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reestimated(
    net: sweep.Network, batch: int, variables: Variables, x: Array, largest: Array
) -> Variables:
    size = min(batch, len(x))
    forgotten = math.ceil(math.log(LARGEST_REST) / math.log(MOMENTUM))
    count = max(forgotten, -(-len(x) // size))

    def step(state: Any, number: Array) -> tuple[Any, None]:
        rows = (number * size + jnp.arange(size)) % len(x)
        prepared = sequences(loop.scaled(x[rows], largest))
        return net.training(variables.params, state, prepared, None)[1], None

    state, _ = jax.lax.scan(step, variables.state, jnp.arange(count))
    return variables._replace(state=state)
