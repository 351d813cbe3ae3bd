"""Trainings of a length that is known before: the rate falls from epoch to epoch."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from train.engine.recipes import Recipe, Verdict
from train.report.settings import at_least, more_than

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int

    from train.engine.loop import Record


class FallingProgress(NamedTuple):
    """What a recipe of known length remembers of a run."""

    learning_rate: Float[Array, ""]
    best: Float[Array, ""]  # the lowest validation loss


class Falling(Recipe):
    """Adam with a rate that depends on the epoch alone. The weights of the lowest validation loss
    are the result.

    Attributes:
        length: the epochs of the whole training.
        epochs: the most epochs of a run; None: the whole training.
    """

    best_by: ClassVar[str | None] = "validation_loss"
    length: int
    epochs: int | None

    @abc.abstractmethod
    def rate(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        """Of an epoch, numbered from 0."""

    @property
    def last_epoch(self) -> int:
        """The end of the training, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def begin(self) -> FallingProgress:
        import jax.numpy as jnp

        return FallingProgress(self.rate(jnp.int32(0)), jnp.float32(jnp.inf))

    def advance(
        self, progress: FallingProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[FallingProgress, Verdict]:
        """By the number of the epoch."""
        import jax.numpy as jnp

        loss = figures.validation_loss
        after = FallingProgress(self.rate(epoch), jnp.minimum(progress.best, loss))
        return after, Verdict(loss < progress.best)


@dataclasses.dataclass(frozen=True)
class LinearRecipe(Falling):
    """The rate falls linearly, from epoch to epoch by as much each; behind the last one it would
    be 0."""

    batch_size: Annotated[int, at_least(1)] = 32
    """Rows of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 1e-3
    """Of the first epoch."""
    length: Annotated[int, at_least(1)] = 10
    """The epochs of the whole training."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole training. It may be another when a run is
    continued."""

    def optimiser(self) -> optax.GradientTransformation:
        """Adam at learning rate 1; gradients of a batch are cut off at a norm of 1."""
        import optax

        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0))

    def rate(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        import jax.numpy as jnp

        share = jnp.maximum(1 - epoch / self.length, 0)
        return (jnp.float32(self.learning_rate) * share).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class CosineRecipe(Falling):
    """The rate falls from the first to the last epoch as a half period of the cosine."""

    batch_size: Annotated[int, at_least(1)]
    learning_rate: Annotated[float, more_than(0)]
    last_rate: Annotated[float, more_than(0)]
    """Of the last epoch of the schedule."""
    length: Annotated[int, at_least(1)]
    """The epochs of the whole schedule."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole schedule."""

    def optimiser(self) -> optax.GradientTransformation:
        """Adam, at learning rate 1."""
        import optax

        return optax.adam(1.0)

    def rate(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        import jax.numpy as jnp

        passed = jnp.minimum(epoch / max(self.length - 1, 1), 1.0)
        share = (1 + jnp.cos(jnp.pi * passed)) / 2
        return jnp.float32(self.last_rate + (self.learning_rate - self.last_rate) * share)
