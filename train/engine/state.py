"""What a training computes with: what is learnt, on what, and what is remembered of a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Float, Int, UInt8, UInt32


class Variables(NamedTuple):
    """What a network is a function of besides its input."""

    params: Any  # what is trained
    state: Any  # what changes otherwise: running statistics


class Learner(NamedTuple):
    """What is trained, as pure functions of one run."""

    # init(key) -> variables
    init: Callable[[Any], Variables]
    # loss(variables, key, hyper, x, y) ->
    #     (mean loss of the batch, (number of wrong predictions, state after it))
    loss: Callable[[Variables, Any, Any, Array, Array], tuple[Array, tuple[Array, Any]]]
    # log_probs(variables, x): float[batch, classes], without noise
    log_probs: Callable[[Variables, Array], Array]
    # At learning rate 1; none: the recipe's.
    optimiser: optax.GradientTransformation | None = None
    # project(params) -> params: brings parameters back into their bounds after every update
    project: Callable[[Any], Any] | None = None


class Data(NamedTuple):
    """A data set on the device; see `train.data.Dataset`."""

    train_x: UInt8[Array, "train features"]
    train_y: Int[Array, " train"]
    validation_x: UInt8[Array, "validation features"]
    validation_y: Int[Array, " validation"]
    largest: Float[Array, ""]


class RunState(NamedTuple):
    """What the next epoch of a run needs, and the best it has seen. Arrays of all runs are stacked
    along a leading axis."""

    variables: Variables
    momentum: Any  # the optimiser's state
    best: Variables  # those of the best epoch, as the recipe counts
    kept: Any  # the optimiser's state then, where the recipe goes back to it
    key: UInt32[Array, "2"]
    progress: Any  # what the recipe remembers; its `learning_rate` is that of the next epoch
    epoch: Int[Array, ""]
    status: Int[Array, ""]


class Record(NamedTuple):
    """What is told of an epoch of a run. Training figures are means over the epoch's batches, with
    noise and changing weights; validation figures are those of its last weights."""

    train_loss: Float[Array, ""]
    train_error: Float[Array, ""]
    validation_loss: Float[Array, ""]
    validation_error: Float[Array, ""]
    learning_rate: Float[Array, ""]
