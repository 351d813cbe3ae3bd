"""Adam at a rate that falls along a cosine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from train.engine.recipes import Recipe, Verdict
from train.report.settings import at_least, more_than

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int

    from train.engine.loop import Record


class CosineProgress(NamedTuple):
    """What `CosineRecipe` remembers of a run."""

    learning_rate: Float[Array, ""]
    best: Float[Array, ""]  # the lowest validation loss


@dataclasses.dataclass(frozen=True)
class CosineRecipe(Recipe):
    """Adam, with a rate for each epoch that falls from the first to the last one as a half period
    of the cosine. The weights of the lowest validation loss are the result."""

    batch_size: Annotated[int, at_least(1)]
    learning_rate: Annotated[float, more_than(0)]
    last_rate: Annotated[float, more_than(0)]
    """Of the last epoch of the schedule."""
    length: Annotated[int, at_least(1)]
    """The epochs of the whole schedule."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole schedule."""

    best_by: ClassVar[str] = "validation_loss"

    @property
    def last_epoch(self) -> int:
        """The end of the schedule, or what comes before."""
        return self.length if self.epochs is None else min(self.epochs, self.length)

    def optimiser(self) -> optax.GradientTransformation:
        """Adam, at learning rate 1."""
        import optax

        return optax.adam(1.0)

    def begin(self) -> CosineProgress:
        import jax.numpy as jnp

        return CosineProgress(self._rate(jnp.int32(0)), jnp.float32(jnp.inf))

    def _rate(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        """Of an epoch, numbered from 0."""
        import jax.numpy as jnp

        passed = jnp.minimum(epoch / max(self.length - 1, 1), 1.0)
        share = (1 + jnp.cos(jnp.pi * passed)) / 2
        return jnp.float32(self.last_rate + (self.learning_rate - self.last_rate) * share)

    def advance(
        self, progress: CosineProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[CosineProgress, Verdict]:
        """By the number of the epoch."""
        import jax.numpy as jnp

        improved = figures.validation_loss < progress.best
        best = jnp.where(improved, figures.validation_loss, progress.best)
        return CosineProgress(self._rate(epoch), best), Verdict(improved)
