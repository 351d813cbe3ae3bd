"""When a run lowers its learning rate and when it ends: pure functions of its validation figures.

`optax.contrib.reduce_on_plateau` is not used. It counts the epoch of the drop differently (it drops
*at* `patience` epochs without gain, PyTorch's `ReduceLROnPlateau` one later), it has no smallest
change of the rate, and it lives inside the gradient transformation, which sees one value for every
step, while the rule here sees one validation loss for every epoch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# PyTorch leaves the learning rate alone when it would change by no more than this.
SMALLEST_CHANGE = 1e-8


class Verdict(NamedTuple):
    """What follows from the figures of an epoch."""

    improved: Bool[Array, ""]  # whether it is the best so far
    stops: Bool[Array, ""] | bool = False  # whether the run ends
    back: Bool[Array, ""] | bool = False  # whether it goes back to the best so far
    settled: Bool[Array, ""] | bool = False  # whether it ends as its rate is too small to matter


# -- plateaus and early stopping


class Plateau(NamedTuple):
    """What the plateau rule remembers of a run."""

    best: Float[Array, ""]  # the loss to beat
    bad_epochs: Int[Array, ""]  # epochs since it was beaten or the rate was lowered


class Stopper(NamedTuple):
    """What early stopping remembers of a run."""

    best: Float[Array, ""]  # the lowest loss
    strikes: Int[Array, ""]  # epochs since then


class PlateauProgress(NamedTuple):
    """What `train.engine.recipes.PlateauRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    plateau: Plateau
    stopper: Stopper

    @classmethod
    def first(cls, learning_rate: float) -> "PlateauProgress":
        """Before the first epoch."""
        return cls(jnp.float32(learning_rate), plateau_init(), stopper_init())


def plateau_init() -> Plateau:
    """The state before the first epoch."""
    return Plateau(jnp.float32(jnp.inf), jnp.int32(0))


def stopper_init() -> Stopper:
    """The state before the first epoch."""
    return Stopper(jnp.float32(jnp.inf), jnp.int32(0))


def plateau_step(
    state: Plateau,
    learning_rate: Float[Array, ""],
    loss: Float[Array, ""],
    *,
    factor: float,
    patience: int,
    threshold: float,
) -> tuple[Plateau, Float[Array, ""], Bool[Array, ""]]:
    """The learning rate of the next epoch, as PyTorch's `ReduceLROnPlateau(mode="min")` has it.

    An epoch is good if loss < best (1 - threshold). On bad epoch number `patience + 1` in a row the
    rate is multiplied by `factor` and the count starts again.

    Args:
        state: what the rule remembers.
        learning_rate: that of the epoch that just ended.
        loss: its validation loss; not a number counts as bad.
        factor: in (0, 1).
        patience: how many bad epochs in a row are borne.
        threshold: the relative gain that makes an epoch good.

    Returns:
        `(state, learning_rate, floor)`; the last tells whether the rate was due to fall, and is so
        small that it cannot.

    Example:
        >>> state, rate = plateau_init(), jnp.float32(1.0)
        >>> for loss in (2.0, 2.0, 2.0, 2.0):
        ...     state, rate, floor = plateau_step(
        ...         state, rate, jnp.float32(loss), factor=0.5, patience=2, threshold=1e-4)
        ...     print(float(rate), int(state.bad_epochs))
        1.0 0
        1.0 1
        1.0 2
        0.5 0
    """
    good = loss < state.best * (1 - threshold)
    bad_epochs = jnp.where(good, 0, state.bad_epochs + 1)
    due = bad_epochs > patience
    lower = learning_rate * factor
    changes = due & (learning_rate - lower > SMALLEST_CHANGE)
    return (
        Plateau(jnp.where(good, loss, state.best), jnp.where(due, 0, bad_epochs)),
        jnp.where(changes, lower, learning_rate),
        due & ~changes,
    )


def stopper_step(
    state: Stopper, loss: Float[Array, ""], *, patience: int
) -> tuple[Stopper, Bool[Array, ""], Bool[Array, ""]]:
    """Whether an epoch was the best so far, and whether a run stops after it.

    Args:
        state: what the rule remembers.
        loss: the epoch's validation loss. Only a strictly lower one is better; not a number is not.
        patience: the run stops at strike number `patience + 1` in a row.

    Returns:
        `(state, improved, stops)`.

    Example:
        >>> state, improved, stops = stopper_step(stopper_init(), jnp.float32(2.0), patience=0)
        >>> bool(improved), bool(stops)
        (True, False)
        >>> state, improved, stops = stopper_step(state, jnp.float32(2.0), patience=0)
        >>> bool(improved), bool(stops)
        (False, True)
    """
    improved = loss < state.best
    strikes = jnp.where(improved, 0, state.strikes + 1)
    return Stopper(jnp.where(improved, loss, state.best), strikes), improved, strikes > patience


# -- fixed epochs, and patience


class SteppedProgress(NamedTuple):
    """What `train.engine.recipes.SteppedRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    best: Float[Array, ""]  # the lowest validation error


def stepped(epoch: Int[Array, ""], start: float, drops: Sequence[int]) -> Float[Array, ""]:
    """A rate that is divided by ten at each of some epochs, ascending, numbered from 0.

    Example:
        >>> [round(float(stepped(jnp.int32(epoch), 0.1, [2, 3])), 6) for epoch in range(4)]
        [0.1, 0.1, 0.01, 0.001]
    """
    rates = jnp.asarray([start * 10.0**-k for k in range(len(drops) + 1)], jnp.float32)
    return rates[(epoch >= np.array(drops, np.int32)).sum()]


class PatientProgress(NamedTuple):
    """What `train.engine.recipes.PatientRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    patience: Int[Array, ""]
    best: Float[Array, ""]  # the lowest validation error
    strikes: Int[Array, ""]  # epochs since then, or since the rate fell

    @classmethod
    def first(cls, learning_rate: float, patience: int) -> "PatientProgress":
        """Before the first epoch."""
        best = jnp.float32(jnp.inf)
        return cls(jnp.float32(learning_rate), jnp.int32(patience), best, jnp.int32(0))


def patient_step(
    progress: PatientProgress, error: Float[Array, ""], *, factor: float, smallest: float
) -> tuple[PatientProgress, Verdict]:
    """When patience is over, the run goes back to its best epoch with a lower rate and half of the
    patience.

    Args:
        progress: what the rule remembers.
        error: the epoch's validation error; only a strictly lower one is better.
        factor: of the rate, in (0, 1).
        smallest: the run ends when its rate is below this.

    Returns:
        `(progress, verdict)`.
    """
    improved = error < progress.best
    strikes = jnp.where(improved, 0, progress.strikes + 1)
    over = strikes > progress.patience
    rate = jnp.where(over, progress.learning_rate * factor, progress.learning_rate)
    after = PatientProgress(
        rate,
        jnp.where(over, progress.patience // 2, progress.patience),
        jnp.where(improved, error, progress.best),
        jnp.where(over, 0, strikes),
    )
    return after, Verdict(improved, rate < smallest, over)
