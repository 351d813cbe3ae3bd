"""How runs are trained: batches, optimiser, and what each epoch's figures change.

A recipe is a frozen record of settings. What it remembers of a run is a small tree of arrays, its
*progress*, so that many runs are one program.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from train.engine.schedule import (
    Plateau,
    Stopper,
    plateau_init,
    plateau_step,
    stopper_init,
    stopper_step,
)
from train.report.settings import require


class Figures(Protocol):
    """What a recipe looks at of an epoch; see `train.engine.loop.Record`."""

    @property
    def validation_loss(self) -> Float[Array, ""]: ...

    @property
    def validation_error(self) -> Float[Array, ""]: ...


class Verdict(NamedTuple):
    """What follows from the figures of an epoch."""

    improved: Bool[Array, ""]  # whether it is the best so far
    stops: Bool[Array, ""]  # whether the run ends
    back: Bool[Array, ""]  # whether it goes back to the best so far


class Recipe(abc.ABC):
    """What the training loop asks of a recipe."""

    # The figure of `train.engine.loop.Record` whose lowest value makes an epoch the best.
    best_by: ClassVar[str]
    # Whether a run may go back to its best epoch, so that the optimiser's state then is kept.
    goes_back: ClassVar[bool]

    batch_size: int
    learning_rate: float
    # The most epochs of a run. It may be another for a continued run.
    epochs: int | None

    def __post_init__(self) -> None:
        require(
            self,
            batch_size=(self.batch_size >= 1, "at least 1"),
            learning_rate=(self.learning_rate >= 0, "0 or more"),
            epochs=(self.epochs is None or self.epochs >= 1, "at least 1"),
        )

    @property
    def last_epoch(self) -> int | None:
        """The number of epochs after which a run ends, if there is one."""
        return self.epochs

    @abc.abstractmethod
    def steps(self, images: int) -> int:
        """Updates in an epoch."""

    @abc.abstractmethod
    def optimiser(self) -> optax.GradientTransformation:
        """At learning rate 1."""

    @abc.abstractmethod
    def begin(self) -> Any:
        """The progress before the first epoch: a record with a `learning_rate`."""

    @abc.abstractmethod
    def extra_arguments(self, progress: Any) -> dict[str, Any]:
        """What the optimiser's update takes besides."""

    @abc.abstractmethod
    def advance(
        self, progress: Any, figures: Figures, epoch: Int[Array, ""]
    ) -> tuple[Any, Verdict]:
        """The progress after an epoch (numbered from 1), and what follows from it."""

    @abc.abstractmethod
    def fewest_epochs_left(self, progress: Any) -> int:
        """After how many epochs the last of the runs, stacked, ends at the earliest."""


class PlateauProgress(NamedTuple):
    """What `PlateauRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    plateau: Plateau
    stopper: Stopper


@dataclasses.dataclass(frozen=True)
class PlateauRecipe(Recipe):
    """SGD with momentum whose rate falls on plateaus of the validation loss, which also ends a run;
    the defaults are those of [A] 5.1's dense networks."""

    batch_size: int = 32
    learning_rate: float = 1e-2
    momentum: float = 0.9
    plateau_factor: float = 0.1
    """The learning rate is multiplied by this on a plateau of the validation loss."""
    plateau_patience: int = 10
    plateau_threshold: float = 1e-4
    """The relative gain below which an epoch counts as a plateau's."""
    stop_patience: int = 20
    """A run stops once the validation loss has not fallen for more than this many epochs."""
    epochs: int | None = None
    """The most epochs of a run; without it, early stopping alone ends one. It may be another when a
    run is continued."""

    best_by: ClassVar[str] = "validation_loss"
    goes_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            momentum=(0 <= self.momentum < 1, "in [0, 1)"),
            plateau_factor=(0 < self.plateau_factor <= 1, "in (0, 1]"),
            plateau_patience=(self.plateau_patience >= 0, "0 or more"),
            plateau_threshold=(0 <= self.plateau_threshold < 1, "in [0, 1)"),
            stop_patience=(self.stop_patience >= 0, "0 or more"),
        )

    def steps(self, images: int) -> int:
        """Whole batches; what is left over differs from epoch to epoch."""
        return images // self.batch_size

    def optimiser(self) -> optax.GradientTransformation:
        """SGD with momentum, at learning rate 1."""
        return optax.sgd(1.0, momentum=self.momentum)

    def begin(self) -> "PlateauProgress":
        """The progress before the first epoch."""
        return PlateauProgress(jnp.float32(self.learning_rate), plateau_init(), stopper_init())

    def extra_arguments(self, progress: Any) -> dict[str, Any]:
        """Nothing."""
        return {}

    def advance(
        self, progress: "PlateauProgress", figures: Figures, epoch: Int[Array, ""]
    ) -> tuple["PlateauProgress", Verdict]:
        """By the validation loss; see `train/engine/schedule.py`."""
        loss = figures.validation_loss
        plateau, learning_rate = plateau_step(
            progress.plateau,
            progress.learning_rate,
            loss,
            factor=self.plateau_factor,
            patience=self.plateau_patience,
            threshold=self.plateau_threshold,
        )
        stopper, improved, stops = stopper_step(progress.stopper, loss, patience=self.stop_patience)
        verdict = Verdict(improved, stops, jnp.bool_(False))
        return PlateauProgress(learning_rate, plateau, stopper), verdict

    def fewest_epochs_left(self, progress: "PlateauProgress") -> int:
        """If no run improves any more."""
        return self.stop_patience + 1 - int(np.min(progress.stopper.strikes))


class SteppedProgress(NamedTuple):
    """What `SteppedRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    best: Float[Array, ""]  # the lowest validation error


@dataclasses.dataclass(frozen=True)
class SteppedRecipe(Recipe):
    """SGD with momentum and weight decay at rates that fall at fixed epochs; the defaults are those
    of [A] 5.1's residual networks. The weights of the lowest validation error are the result.

    Other than in the authors' code, an epoch has whole batches only: of 45,000 images 351, where
    theirs has a last one of 72 images. So many are left out, others in every epoch. The whole
    schedule has 87,750 updates for their 88,000.
    """

    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Added to the gradient, times the parameters."""
    length: int = 250
    """The epochs of the whole schedule."""
    drops: tuple[float, ...] = (0.4, 0.6, 0.8)
    """Parts of the schedule after which the learning rate is divided by ten."""
    decay_drops: tuple[float, ...] = (0.6, 0.8)
    """Parts of the schedule after which the weight decay is divided by ten, an epoch later: one
    epoch, however long the schedule is, as it comes from an oddity of the authors' code."""
    epochs: int | None = None
    """The most epochs of a run; without it the whole schedule. It may be another when a run is
    continued."""

    best_by: ClassVar[str] = "validation_error"
    goes_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()

        def parts(values: tuple[float, ...]) -> tuple[bool, str]:
            rising = all(a < b for a, b in zip(values, values[1:], strict=False))
            return rising and all(0 < v < 1 for v in values), "rising, each between 0 and 1"

        require(
            self,
            momentum=(0 <= self.momentum < 1, "in [0, 1)"),
            weight_decay=(self.weight_decay >= 0, "0 or more"),
            length=(self.length >= 1, "at least 1"),
            drops=parts(self.drops),
            decay_drops=parts(self.decay_drops),
        )

    @property
    def last_epoch(self) -> int:
        """The end of the schedule, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def steps(self, images: int) -> int:
        """Whole batches; what is left over differs from epoch to epoch."""
        return images // self.batch_size

    def optimiser(self) -> optax.GradientTransformation:
        """The decay, then momentum, at learning rate 1."""
        return optax.chain(decay_by_argument(), optax.sgd(1.0, momentum=self.momentum))

    def begin(self) -> SteppedProgress:
        """The progress before the first epoch."""
        return self._at(jnp.int32(0), jnp.float32(jnp.inf))

    def _at(self, epoch: Int[Array, ""], best: Float[Array, ""]) -> SteppedProgress:
        """The rates of an epoch, numbered from 0: in proportion to the schedule's length, but for
        the one epoch by which the decay falls later."""

        def rate(start: float, parts: tuple[float, ...], later: int) -> Float[Array, ""]:
            rates = jnp.asarray([start * 10.0**-k for k in range(len(parts) + 1)], jnp.float32)
            starts = np.array([round(part * self.length) + later for part in parts], np.int32)
            return rates[(epoch >= starts).sum()]

        return SteppedProgress(
            rate(self.learning_rate, self.drops, 0),
            rate(self.weight_decay, self.decay_drops, 1),
            best,
        )

    def extra_arguments(self, progress: SteppedProgress) -> dict[str, Any]:
        """The weight decay."""
        return {"weight_decay": progress.weight_decay}

    def advance(
        self, progress: SteppedProgress, figures: Figures, epoch: Int[Array, ""]
    ) -> tuple[SteppedProgress, Verdict]:
        """By the number of the epoch."""
        error = figures.validation_error
        improved = error < progress.best
        no = jnp.bool_(False)
        after = self._at(epoch, jnp.where(improved, error, progress.best))
        return after, Verdict(improved, no, no)

    def fewest_epochs_left(self, progress: SteppedProgress) -> int:
        """Not asked for: the last epoch is known."""
        return 0


class PatientProgress(NamedTuple):
    """What `PatientRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    patience: Int[Array, ""]
    best: Float[Array, ""]  # the lowest validation error
    strikes: Int[Array, ""]  # epochs since then, or since the rate fell


@dataclasses.dataclass(frozen=True)
class PatientRecipe(Recipe):
    """Adam whose rate falls, back at the best weights, after many epochs without a better
    validation error; the defaults are those of the authors of IndRNN."""

    batch_size: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 1e-4
    """Added to the clipped gradient, times the parameters that decay."""
    largest_gradient: float = 10.0
    """Elements of gradients are cut off here."""
    patience: int = 100
    """Epochs without a better one that are borne; halved with every drop of the rate."""
    factor: float = 0.1
    """The learning rate is multiplied by this when patience is over."""
    smallest_rate: float = 1e-6
    """A run ends when its rate is below this."""
    steps_multiple: int = 100
    """The updates of an epoch are rounded down to a multiple of this."""
    epochs: int | None = None
    """The most epochs of a run. It may be another when a run is continued."""

    best_by: ClassVar[str] = "validation_error"
    goes_back: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self,
            weight_decay=(self.weight_decay >= 0, "0 or more"),
            largest_gradient=(self.largest_gradient > 0, "more than 0"),
            patience=(self.patience >= 0, "0 or more"),
            factor=(0 < self.factor < 1, "in (0, 1)"),
            smallest_rate=(self.smallest_rate > 0, "more than 0"),
            steps_multiple=(self.steps_multiple >= 1, "at least 1"),
        )

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
        return optax.chain(
            optax.clip(self.largest_gradient), decay_by_argument(decays), optax.adam(1.0)
        )

    def begin(self) -> PatientProgress:
        """The progress before the first epoch."""
        return PatientProgress(
            jnp.float32(self.learning_rate),
            jnp.int32(self.patience),
            jnp.float32(jnp.inf),
            jnp.int32(0),
        )

    def extra_arguments(self, progress: PatientProgress) -> dict[str, Any]:
        """The weight decay."""
        return {"weight_decay": jnp.float32(self.weight_decay)}

    def advance(
        self, progress: PatientProgress, figures: Figures, epoch: Int[Array, ""]
    ) -> tuple[PatientProgress, Verdict]:
        """By the validation error."""
        error = figures.validation_error
        improved = error < progress.best
        strikes = jnp.where(improved, 0, progress.strikes + 1)
        over = strikes > progress.patience
        rate = jnp.where(over, progress.learning_rate * self.factor, progress.learning_rate)
        after = PatientProgress(
            rate,
            jnp.where(over, progress.patience // 2, progress.patience),
            jnp.where(improved, error, progress.best),
            jnp.where(over, 0, strikes),
        )
        return after, Verdict(improved, rate < self.smallest_rate, over)

    def fewest_epochs_left(self, progress: PatientProgress) -> int:
        """If no run improves any more."""
        most = 0
        for rate, patience, strikes in zip(
            *map(np.atleast_1d, (progress.learning_rate, progress.patience, progress.strikes)),
            strict=True,
        ):
            left, rate, patience = int(patience) + 1 - int(strikes), float(rate), int(patience)
            while (rate := rate * self.factor) >= self.smallest_rate:
                patience //= 2
                left += patience + 1
            most = max(most, left)
        return most


def decay_by_argument(decays: Any = None) -> optax.GradientTransformationExtraArgs:
    """Adds `weight_decay * params` to gradients, with the decay as an argument of the update.

    Args:
        decays: a tree like the parameters, of whether each decays; none: all do.
    """

    def update(updates: Any, state: Any, params: Any = None, **arguments: Any) -> tuple[Any, Any]:
        def added(gradient: Array, param: Array, does: bool = True) -> Array:
            return gradient + arguments["weight_decay"] * param if does else gradient

        trees = (updates, params) if decays is None else (updates, params, decays)
        return jax.tree.map(added, *trees), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
