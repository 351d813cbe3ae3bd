"""Trainings of a length that is known before: the rate falls linearly to 0."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from train.engine.recipes import Recipe, Verdict
from train.report.settings import at_least

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int

    from train.engine.loop import Record


class FallingProgress(NamedTuple):
    """What `FallingRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    best: Float[Array, ""]  # the lowest validation loss


@dataclasses.dataclass(frozen=True)
class FallingRecipe(Recipe):
    """Adam with a rate that falls linearly, from epoch to epoch, by as much each; behind the last
    one it would be 0. The weights of the lowest validation loss are the result."""

    batch_size: Annotated[int, at_least(1)] = 32
    """Rows of a batch."""
    learning_rate: Annotated[float, at_least(0)] = 1e-3
    """Of the first epoch."""
    length: Annotated[int, at_least(1)] = 10
    """The epochs of the whole training."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole training. It may be another when a run is
    continued."""

    best_by: ClassVar[str | None] = "validation_loss"

    @property
    def last_epoch(self) -> int:
        """The end of the training, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def optimiser(self) -> optax.GradientTransformation:
        """Adam at learning rate 1; gradients of a batch are cut off at a norm of 1."""
        import optax

        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0))

    def begin(self) -> FallingProgress:
        import jax.numpy as jnp

        return FallingProgress(jnp.float32(self.learning_rate), jnp.float32(jnp.inf))

    def advance(
        self, progress: FallingProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[FallingProgress, Verdict]:
        """By the number of the epoch."""
        import jax.numpy as jnp

        loss = figures.validation_loss
        rate = jnp.float32(self.learning_rate) * jnp.maximum(1 - epoch / self.length, 0)
        after = FallingProgress(rate.astype(jnp.float32), jnp.minimum(progress.best, loss))
        return after, Verdict(loss < progress.best)
