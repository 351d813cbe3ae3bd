"""How runs are trained: batches, optimiser, and what each epoch's figures change.

A recipe is a frozen record of settings. What it remembers of a run is a small tree of arrays, its
*progress*, so that many runs are one program. Settings are read before JAX is imported: what needs
it imports it.

`optax.contrib.reduce_on_plateau` is not used. It counts the epoch of the drop differently (it drops
*at* `patience` epochs without gain, PyTorch's `ReduceLROnPlateau` one later), it has no smallest
change of the rate, and it lives inside the gradient transformation, which sees one value for every
step, while the rule here sees one validation loss for every epoch.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from train.report.settings import Check, Checked, at_least, more_than

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Bool, Float, Int

    from train.engine.loop import Record

FRACTION = Check(lambda value: 0 <= value < 1, "in [0, 1)")
# Of a schedule.
PARTS = Check(
    lambda values: sorted({0.0, *values, 1.0}) == [0.0, *values, 1.0],
    "rising, each between 0 and 1",
)
# PyTorch leaves the learning rate alone when it would change by no more than this.
SMALLEST_CHANGE = 1e-8


class Verdict(NamedTuple):
    """What follows from the figures of an epoch."""

    improved: Bool[Array, ""]  # whether it is the best so far
    stops: Bool[Array, ""] | bool = False  # whether the run ends
    back: Bool[Array, ""] | bool = False  # whether it goes back to the best so far
    settled: Bool[Array, ""] | bool = False  # whether it ends as its rate is too small to matter


class Recipe(Checked, abc.ABC):
    """What the training loop asks of a recipe."""

    # The figure of `train.engine.loop.Record` whose lowest value makes an epoch the best; none: the
    # last one is.
    best_by: ClassVar[str | None]
    # Whether a run may go back to its best epoch, so that the optimiser's state then is kept.
    goes_back: ClassVar[bool] = False

    batch_size: int
    """Images of a batch."""
    learning_rate: float
    """Of the first epoch."""
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


class PlateauProgress(NamedTuple):
    """What `PlateauRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    best: Float[Array, ""]  # the loss that the plateau rule wants beaten
    bad_epochs: Int[Array, ""]  # since it was beaten or the rate was lowered
    lowest: Float[Array, ""]  # the lowest loss
    strikes: Int[Array, ""]  # epochs since then


@dataclasses.dataclass(frozen=True)
class PlateauRecipe(Recipe):
    """SGD with momentum whose rate falls on plateaus of the validation loss, which also ends a run;
    the defaults are those of [A] 5.1's dense networks."""

    batch_size: Annotated[int, at_least(1)] = 32
    learning_rate: Annotated[float, at_least(0)] = 1e-2
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

    best_by: ClassVar[str | None] = "validation_loss"

    def optimiser(self) -> optax.GradientTransformation:
        """SGD with momentum, at learning rate 1."""
        import optax

        return optax.sgd(1.0, momentum=self.momentum)

    def begin(self) -> PlateauProgress:
        import jax.numpy as jnp

        inf, zero = jnp.float32(jnp.inf), jnp.int32(0)
        return PlateauProgress(jnp.float32(self.learning_rate), inf, zero, inf, zero)

    def advance(
        self, progress: PlateauProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[PlateauProgress, Verdict]:
        """The learning rate as by PyTorch's `ReduceLROnPlateau(mode="min")`, and early stopping.

        An epoch is good if its validation loss < best (1 - threshold); not a number is bad. On bad
        epoch number `patience + 1` in a row the rate falls and the count starts again. Where it
        cannot fall any more, the run has settled, unless its rate is constant on purpose (factor
        1). It stops after `stop_patience + 1` epochs in a row without the lowest loss so far.
        """
        import jax.numpy as jnp

        rate, best, bad_epochs, lowest, strikes = progress
        loss, factor = figures.validation_loss, self.plateau_factor
        good = loss < best * (1 - self.plateau_threshold)
        bad_epochs = jnp.where(good, 0, bad_epochs + 1)
        due = bad_epochs > self.plateau_patience
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
        return after, Verdict(improved, strikes > self.stop_patience, settled=settled)

    def fewest_epochs_left(self, progress: PlateauProgress) -> int:
        """If no run improves any more, and no rate reaches its floor before."""
        return self.stop_patience + 1 - int(min(progress.strikes))


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

    batch_size: Annotated[int, at_least(1)] = 128
    learning_rate: Annotated[float, at_least(0)] = 0.1
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

    best_by: ClassVar[str | None] = "validation_error"

    @property
    def last_epoch(self) -> int:
        """The end of the schedule, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def optimiser(self) -> optax.GradientTransformation:
        """The decay, which is an argument of the update, then momentum, at learning rate 1."""
        import optax

        def decay(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            return optax.add_decayed_weights(extra["weight_decay"]).update(updates, state, params)

        decayed = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), decay)
        return optax.chain(decayed, optax.sgd(1.0, momentum=self.momentum))

    def begin(self) -> SteppedProgress:
        import jax.numpy as jnp

        return self._at(jnp.int32(0), jnp.float32(jnp.inf))

    def _at(self, epoch: Int[Array, ""], best: Float[Array, ""]) -> SteppedProgress:
        """The rates of an epoch, numbered from 0: in proportion to the schedule's length, but for
        the one epoch by which the decay falls later."""
        import jax.numpy as jnp
        import numpy as np

        def rate(start: float, parts: Sequence[float], later: int) -> Float[Array, ""]:
            drops = np.array([round(part * self.length) + later for part in parts], np.int32)
            rates = jnp.asarray([start * 10.0**-k for k in range(len(parts) + 1)], jnp.float32)
            return rates[(epoch >= drops).sum()]

        return SteppedProgress(
            rate(self.learning_rate, self.drops, 0),
            rate(self.weight_decay, self.decay_drops, 1),
            best,
        )

    def extra_arguments(self, progress: SteppedProgress) -> dict[str, Any]:
        return {"weight_decay": progress.weight_decay}

    def advance(
        self, progress: SteppedProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[SteppedProgress, Verdict]:
        """By the number of the epoch."""
        import jax.numpy as jnp

        improved = figures.validation_error < progress.best
        best = jnp.where(improved, figures.validation_error, progress.best)
        return self._at(epoch, best), Verdict(improved)


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

    batch_size: Annotated[int, at_least(1)] = 32
    """Sequences of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 2e-4
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

    best_by: ClassVar[str | None] = "validation_error"
    goes_back: ClassVar[bool] = True

    def steps(self, images: int) -> int:
        """Whole batches, rounded down to the multiple where there are as many."""
        batches = images // self.batch_size
        return batches - batches % self.steps_multiple or batches

    def optimiser(self) -> optax.GradientTransformation:
        """Clipping, the decay of all parameters, and Adam at learning rate 1."""
        return self.optimiser_of(None)

    def optimiser_of(self, decays: Any) -> optax.GradientTransformation:
        """The same where some parameters do not decay, by a tree like them of whether each does, or
        a function that makes it of them; none: all do."""
        import optax

        decay = optax.add_decayed_weights(self.weight_decay, decays)
        return optax.chain(optax.clip(self.largest_gradient), decay, optax.adam(1.0))

    def begin(self) -> PatientProgress:
        import jax.numpy as jnp

        rate, patience = jnp.float32(self.learning_rate), jnp.int32(self.patience)
        return PatientProgress(rate, patience, jnp.float32(jnp.inf), jnp.int32(0))

    def advance(
        self, progress: PatientProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[PatientProgress, Verdict]:
        """When patience is over, the run goes back to its best epoch, of which only one of a
        strictly lower validation error is better, with a lower rate and half of the patience."""
        import jax.numpy as jnp

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
        columns = progress.learning_rate, progress.patience, progress.strikes
        for rate, patience, strikes in zip(*(column.ravel() for column in columns), strict=True):
            left, rate, patience = int(patience) + 1 - int(strikes), float(rate), int(patience)
            while (rate := rate * self.factor) >= self.smallest_rate:
                patience //= 2
                left += patience + 1
            most = max(most, left)
        return most


def decayed(params: Any, *, but: Sequence[str] = ()) -> Any:
    """The mask of the parameters that are decayed, for `optax.add_decayed_weights`: of a tree such
    as `cgjax.functional` returns all `but` those of names like these glob patterns. [A] section 3:
    decay keeps the weights small, which feed-forward inference assumes.

    The recipe of the residual networks decays everything, scales and biases of normalisations too.
    That of the independently recurrent networks decays all but biases and the recurrent weights, so
    scales as well: `functools.partial(decayed, but=("*bias", "*recurrent"))`. ValueError if a
    pattern matches nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> decayed({"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, but=("*bias",))
        {'bias': False, 'kernel': True}
    """
    import jax

    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    texts = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    names = [text.removesuffix("/value") for text in texts]  # the array inside a Flax variable
    for pattern in but:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"{pattern!r} matches no parameter; there are {', '.join(names)}.")
    keep = [any(fnmatchcase(name, pattern) for pattern in but) for name in names]
    return jax.tree.unflatten(structure, [not kept for kept in keep])
