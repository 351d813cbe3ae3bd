"""How runs are trained: batches, optimiser, and what each epoch's figures change.

A recipe is a frozen record of settings. What it remembers of a run is a small tree of arrays, its
*progress*, so that many runs are one program. Settings are read before JAX is imported: what needs
it imports it.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from train.report.settings import Check, Checked, at_least, more_than

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int

    from train.engine.loop import Record
    from train.engine.schedule import PatientProgress, PlateauProgress, SteppedProgress, Verdict

FRACTION = Check(lambda value: 0 <= value < 1, "in [0, 1)")
# Of a schedule.
PARTS = Check(
    lambda values: sorted({0.0, *values, 1.0}) == [0.0, *values, 1.0],
    "rising, each between 0 and 1",
)


class Recipe(Checked, abc.ABC):
    """What the training loop asks of a recipe."""

    # The figure of `train.engine.loop.Record` whose lowest value makes an epoch the best.
    best_by: ClassVar[str]
    # Whether a run may go back to its best epoch, so that the optimiser's state then is kept.
    goes_back: ClassVar[bool] = False

    batch_size: int
    learning_rate: float
    epochs: int | None

    @property
    def last_epoch(self) -> int | None:
        """The number of epochs after which a run ends, if there is one."""
        return self.epochs

    def steps(self, images: int) -> int:
        """Updates in an epoch: whole batches; what is left over differs from epoch to epoch."""
        return images // self.batch_size

    @abc.abstractmethod
    def optimiser(self) -> optax.GradientTransformation:
        """At learning rate 1."""

    @abc.abstractmethod
    def begin(self) -> Any:
        """The progress before the first epoch: a record with a `learning_rate`."""

    def extra_arguments(self, progress: Any) -> dict[str, Any]:
        """What the optimiser's update takes besides."""
        return {}

    @abc.abstractmethod
    def advance(self, progress: Any, figures: Record, epoch: Int[Array, ""]) -> tuple[Any, Verdict]:
        """The progress after an epoch (numbered from 1), and what follows from it."""

    def fewest_epochs_left(self, progress: Any) -> int:
        """After how many epochs the last of the runs, stacked, ends at the earliest; 0 for recipes
        whose last epoch is known, where it is not asked for."""
        return 0


@dataclasses.dataclass(frozen=True)
class PlateauRecipe(Recipe):
    """SGD with momentum whose rate falls on plateaus of the validation loss, which also ends a run;
    the defaults are those of [A] 5.1's dense networks."""

    batch_size: Annotated[int, at_least(1)] = 32
    """Images of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 1e-2
    """Of the first epoch."""
    momentum: Annotated[float, FRACTION] = 0.9
    """The part of the last update that the next one keeps."""
    plateau_factor: Annotated[float, Check(lambda v: 0 < v <= 1, "in (0, 1]")] = 0.1
    """The learning rate is multiplied by this on a plateau of the validation loss."""
    plateau_patience: Annotated[int, at_least(0)] = 10
    """Epochs in a row without a gain that are borne; the next one lowers the rate."""
    plateau_threshold: Annotated[float, FRACTION] = 1e-4
    """The relative gain below which an epoch counts as a plateau's."""
    stop_patience: Annotated[int, at_least(0)] = 20
    """A run stops once the validation loss has not fallen for more than this many epochs. It ends
    on a plateau too, once its learning rate is so small that it cannot fall any more."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it, early stopping alone ends one. It may be another when a
    run is continued."""

    best_by: ClassVar[str] = "validation_loss"

    def optimiser(self) -> optax.GradientTransformation:
        """SGD with momentum, at learning rate 1."""
        import optax

        return optax.sgd(1.0, momentum=self.momentum)

    def begin(self) -> PlateauProgress:
        """The progress before the first epoch."""
        from train.engine import schedule

        return schedule.plateau_init(self.learning_rate)

    def advance(
        self, progress: PlateauProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[PlateauProgress, Verdict]:
        """By the validation loss; see `train/engine/schedule.py`."""
        from train.engine import schedule

        return schedule.plateau_step(
            progress,
            figures.validation_loss,
            factor=self.plateau_factor,
            patience=self.plateau_patience,
            threshold=self.plateau_threshold,
            stop_patience=self.stop_patience,
        )

    def fewest_epochs_left(self, progress: PlateauProgress) -> int:
        """If no run improves any more, and no rate reaches its floor before."""
        return self.stop_patience + 1 - int(min(progress.strikes))


@dataclasses.dataclass(frozen=True)
class SteppedRecipe(Recipe):
    """SGD with momentum and weight decay at rates that fall at fixed epochs; the defaults are those
    of [A] 5.1's residual networks. The weights of the lowest validation error are the result.

    Other than in the authors' code, an epoch has whole batches only: of 45,000 images 351, where
    theirs has a last one of 72 images. So many are left out, others in every epoch. The whole
    schedule has 87,750 updates for their 88,000.
    """

    batch_size: Annotated[int, at_least(1)] = 128
    """Images of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 0.1
    """Of the first epoch."""
    momentum: Annotated[float, FRACTION] = 0.9
    """The part of the last update that the next one keeps."""
    weight_decay: Annotated[float, at_least(0)] = 1e-4
    """Added to the gradient, times the parameters."""
    length: Annotated[int, at_least(1)] = 250
    """The epochs of the whole schedule."""
    drops: Annotated[tuple[float, ...], PARTS] = (0.4, 0.6, 0.8)
    """Parts of the schedule after which the learning rate is divided by ten."""
    decay_drops: Annotated[tuple[float, ...], PARTS] = (0.6, 0.8)
    """Parts of the schedule after which the weight decay is divided by ten, an epoch later: one
    epoch, however long the schedule is, as it comes from an oddity of the authors' code."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole schedule. It may be another when a run is
    continued."""

    best_by: ClassVar[str] = "validation_error"

    @property
    def last_epoch(self) -> int:
        """The end of the schedule, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def optimiser(self) -> optax.GradientTransformation:
        """The decay, then momentum, at learning rate 1."""
        import optax

        from train.engine import decay

        return optax.chain(decay.by_argument(), optax.sgd(1.0, momentum=self.momentum))

    def begin(self) -> SteppedProgress:
        """The progress before the first epoch."""
        import jax.numpy as jnp

        return self._at(jnp.int32(0), jnp.float32(jnp.inf))

    def _at(self, epoch: Int[Array, ""], best: Float[Array, ""]) -> SteppedProgress:
        """The rates of an epoch, numbered from 0: in proportion to the schedule's length, but for
        the one epoch by which the decay falls later."""
        from train.engine import schedule

        def rate(start: float, parts: tuple[float, ...], later: int) -> Float[Array, ""]:
            return schedule.stepped(
                epoch, start, [round(part * self.length) + later for part in parts]
            )

        return schedule.SteppedProgress(
            rate(self.learning_rate, self.drops, 0),
            rate(self.weight_decay, self.decay_drops, 1),
            best,
        )

    def extra_arguments(self, progress: SteppedProgress) -> dict[str, Any]:
        """The weight decay."""
        return {"weight_decay": progress.weight_decay}

    def advance(
        self, progress: SteppedProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[SteppedProgress, Verdict]:
        """By the number of the epoch."""
        import jax.numpy as jnp

        from train.engine import schedule

        error = figures.validation_error
        improved = error < progress.best
        after = self._at(epoch, jnp.where(improved, error, progress.best))
        return after, schedule.Verdict(improved)


@dataclasses.dataclass(frozen=True)
class PatientRecipe(Recipe):
    """Adam whose rate falls, back at the best weights, after many epochs without a better
    validation error; the defaults are those of the authors of IndRNN."""

    batch_size: Annotated[int, at_least(1)] = 32
    """Sequences of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 2e-4
    """Of the first epoch."""
    weight_decay: Annotated[float, at_least(0)] = 1e-4
    """Added to the clipped gradient, times the parameters that decay."""
    largest_gradient: Annotated[float, more_than(0)] = 10.0
    """Elements of gradients are cut off here."""
    patience: Annotated[int, at_least(0)] = 100
    """Epochs without a better one that are borne; halved with every drop of the rate."""
    factor: Annotated[float, Check(lambda value: 0 < value < 1, "in (0, 1)")] = 0.1
    """The learning rate is multiplied by this when patience is over."""
    smallest_rate: Annotated[float, more_than(0)] = 1e-6
    """A run ends when its rate is below this."""
    steps_multiple: Annotated[int, at_least(1)] = 100
    """The updates of an epoch are rounded down to a multiple of this."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run. It may be another when a run is continued."""

    best_by: ClassVar[str] = "validation_error"
    goes_back: ClassVar[bool] = True

    def steps(self, images: int) -> int:
        """Whole batches, rounded down to the multiple where there are as many."""
        batches = images // self.batch_size
        return batches - batches % self.steps_multiple or batches

    def optimiser(self) -> optax.GradientTransformation:
        """Clipping, the decay of all parameters, and Adam at learning rate 1."""
        return self.optimiser_of(None)

    def optimiser_of(self, decays: Any) -> optax.GradientTransformation:
        """The same where some parameters do not decay.

        Args:
            decays: a tree like the parameters, of whether each does; none: all do.
        """
        import optax

        decay = optax.add_decayed_weights(self.weight_decay, decays)
        return optax.chain(optax.clip(self.largest_gradient), decay, optax.adam(1.0))

    def begin(self) -> PatientProgress:
        """The progress before the first epoch."""
        import jax.numpy as jnp

        from train.engine import schedule

        rate, patience = jnp.float32(self.learning_rate), jnp.int32(self.patience)
        return schedule.PatientProgress(rate, patience, jnp.float32(jnp.inf), jnp.int32(0))

    def advance(
        self, progress: PatientProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[PatientProgress, Verdict]:
        """By the validation error; see `train/engine/schedule.py`."""
        from train.engine import schedule

        return schedule.patient_step(
            progress, figures.validation_error, factor=self.factor, smallest=self.smallest_rate
        )

    def fewest_epochs_left(self, progress: PatientProgress) -> int:
        """If no run improves any more."""
        most = 0
        columns = progress.learning_rate, progress.patience, progress.strikes
        for rate, patience, strikes in zip(*(column.ravel() for column in columns), strict=True):
            left, rate, patience = int(patience) + 1 - int(strikes), float(rate), int(patience)
            while (rate := rate * self.factor) >= self.smallest_rate:
                patience //= 2
                left += patience + 1
            most = max(most, left)
        return most
