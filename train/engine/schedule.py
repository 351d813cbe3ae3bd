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


class PlateauProgress(NamedTuple):
    """What `train.engine.recipes.PlateauRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    best: Float[Array, ""]  # the loss that the plateau rule wants beaten
    bad_epochs: Int[Array, ""]  # since it was beaten or the rate was lowered
    lowest: Float[Array, ""]  # the lowest loss
    strikes: Int[Array, ""]  # epochs since then


def plateau_init(learning_rate: float) -> PlateauProgress:
    """The progress before the first epoch."""
    inf, zero = jnp.float32(jnp.inf), jnp.int32(0)
    return PlateauProgress(jnp.float32(learning_rate), inf, zero, inf, zero)


def plateau_step(
    progress: PlateauProgress,
    loss: Float[Array, ""],
    *,
    factor: float,
    patience: int,
    threshold: float,
    stop_patience: int,
) -> tuple[PlateauProgress, Verdict]:
    """The learning rate as PyTorch's `ReduceLROnPlateau(mode="min")` has it, and early stopping.

    An epoch is good if loss < best (1 - threshold). On bad epoch number `patience + 1` in a row the
    rate is multiplied by `factor` and the count starts again. Where it cannot fall any more, the
    run has settled. It stops after `stop_patience + 1` epochs in a row without the lowest loss so
    far.

    Args:
        progress: what the rules remember; its rate is that of the epoch that just ended.
        loss: its validation loss; not a number counts as bad.
        factor: in (0, 1]; a rate that is constant on purpose (1) does not settle.
        patience: how many bad epochs in a row are borne.
        threshold: the relative gain that makes an epoch good.
        stop_patience: how many epochs in a row without the lowest loss are borne.

    Returns:
        `(progress, verdict)`.

    Example:
        >>> progress = plateau_init(1.0)
        >>> for loss in (2.0, 2.0, 2.0, 2.0):
        ...     progress, verdict = plateau_step(progress, jnp.float32(loss), factor=0.5,
        ...         patience=2, threshold=1e-4, stop_patience=2)
        ...     print(float(progress.learning_rate), verdict.improved, verdict.stops)
        1.0 True False
        1.0 False False
        1.0 False False
        0.5 False True
    """
    rate, best, bad_epochs, lowest, strikes = progress
    good = loss < best * (1 - threshold)
    bad_epochs = jnp.where(good, 0, bad_epochs + 1)
    due = bad_epochs > patience
    lower = rate * factor
    changes = due & (rate - lower > SMALLEST_CHANGE)
    improved = loss < lowest
    strikes = jnp.where(improved, 0, strikes + 1)
    after = PlateauProgress(
        learning_rate=jnp.where(changes, lower, rate),
        best=jnp.where(good, loss, best),
        bad_epochs=jnp.where(due, 0, bad_epochs),
        lowest=jnp.where(improved, loss, lowest),
        strikes=strikes,
    )
    settled = due & ~changes & (factor < 1)
    return after, Verdict(improved, strikes > stop_patience, settled=settled)


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
