"""How images are learnt: a rate that falls as a cosine to 0, whose last weights are the result."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar

from train.engine.falling import Falling, FallingProgress
from train.engine.recipes import FRACTION, Verdict
from train.report.settings import at_least, more_than

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, Float, Int

    from train.engine.loop import Record


@dataclasses.dataclass(frozen=True)
class ImageRecipe(Falling):
    """SGD with Nesterov's momentum and weight decay, or Adam, at rates r (1 + cos(pi e / E)) / 2 of
    epoch e of E. No epoch is chosen: that of the lowest validation loss is often an early one,
    whose errors are higher."""

    best_by: ClassVar[str | None] = None

    batch_size: Annotated[int, at_least(1)]
    learning_rate: Annotated[float, more_than(0)]
    length: Annotated[int, at_least(1)]
    epochs: Annotated[int | None, at_least(1)] = None
    weight_decay: Annotated[float, at_least(0)] = 0.0
    momentum: Annotated[float | None, FRACTION] = 0.9
    """Of SGD; none: Adam, whose decay is not scaled by gradients."""

    def optimiser(self) -> optax.GradientTransformation:
        """At learning rate 1; the decay is of all parameters."""
        import optax

        decay = optax.add_decayed_weights(self.weight_decay)
        if self.momentum is None:
            # Its sign: what follows the update is subtracted.
            return optax.chain(optax.scale_by_adam(), decay, optax.scale(-1.0))
        return optax.chain(decay, optax.sgd(1.0, momentum=self.momentum, nesterov=True))

    def rate(self, epoch: Int[Array, ""]) -> Float[Array, ""]:
        import jax.numpy as jnp

        share = (1 + jnp.cos(jnp.pi * jnp.minimum(epoch / self.length, 1.0))) / 2
        return (jnp.float32(self.learning_rate) * share).astype(jnp.float32)

    def advance(
        self, progress: FallingProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[FallingProgress, Verdict]:
        """By the number of the epoch; each is better than the one before."""
        import jax.numpy as jnp

        after, _ = super().advance(progress, figures, epoch)
        return after, Verdict(jnp.bool_(True))
