"""The settings of `train.gan`. Nothing here imports JAX."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from train.engine.falling import FallingProgress, LinearRecipe
from train.engine.recipes import FRACTION, Verdict
from train.engine.settings import Computation
from train.report.settings import SEEDS, SOME, at_least, more_than

if TYPE_CHECKING:
    from jaxtyping import Array, Int

    from train.engine.loop import Record

Divergence = Literal[
    "kl",
    "reverse_kl",
    "pearson",
    "hellinger",
    "jensen_shannon",
    "gan",
    "non_saturating",
    "hinge",
    "wasserstein",
]


class Run(NamedTuple):
    """One training."""

    divergence: Divergence
    seed: int

    @property
    def labels(self) -> dict[str, Any]:
        """What it has in common with runs of other seeds."""
        return {"divergence": self.divergence}

    @property
    def name(self) -> str:
        return f"{self.divergence} {self.seed}"


@dataclasses.dataclass(frozen=True)
class AdversarialRecipe(LinearRecipe):
    """Adam for both, at rates that fall linearly; the last weights are the result."""

    batch_size: Annotated[int, at_least(1)] = 128
    """Real examples of a batch, and as many generated ones."""
    learning_rate: Annotated[float, at_least(0)] = 1e-3
    """The generator's, of the first epoch."""
    length: Annotated[int, at_least(1)] = 50
    """The epochs of the whole training."""
    updates: Annotated[int, at_least(1)] = 250
    """Of an epoch."""
    critic_rate: Annotated[float, more_than(0)] = 1.5
    """The critic's learning rate, as a multiple of the generator's."""

    best_by: ClassVar[str | None] = None

    def steps(self, images: int) -> int:
        """As many as are asked for, if there are the batches."""
        return min(self.updates, super().steps(images))

    def advance(
        self, progress: FallingProgress, figures: Record, epoch: Int[Array, ""]
    ) -> tuple[FallingProgress, Verdict]:
        """Each epoch's weights are better than those before."""
        import jax.numpy as jnp

        after, _ = super().advance(progress, figures, epoch)
        return after, Verdict(jnp.bool_(True))


@dataclasses.dataclass(frozen=True)
class Config(Computation):
    """Generators that learn from a critic, by divergence: a ring of Gaussians, and digits ([C]).

    example:
        python -m train.gan                                     # the ring
        python -m train.gan --data digits
        python -m train.gan --data mnist --data-dir FOLDER --seeds 0 1 2
    """

    data: Literal["ring", "digits", "mnist"] = "ring"
    """What is real; the ring and digits need no files."""
    divergences: Annotated[tuple[Divergence, ...], SOME] = get_args(Divergence)
    """What is learnt from."""
    seeds: Annotated[tuple[int, ...], SEEDS] = (0, 1, 2, 3, 4)
    """Of first weights, order and noise."""
    hidden: Annotated[int, at_least(1)] = 128
    """Units of each of the two hidden layers of generator and critic."""
    latent: Annotated[int | None, at_least(1)] = None
    """Gaussian nodes of the generator; without it 2, and 16 for images."""
    penalty: Annotated[float, at_least(0)] = 0.3
    """The weight of half of the critic's squared slope at real examples."""
    noise: Annotated[float, at_least(0)] = 1.0
    """The standard deviation of what is added to real and generated examples at first; it falls as
    the square of the time that is left until four fifths of the training."""
    average: Annotated[float, FRACTION] = 0.995
    """The part of the running average of the generator's weights that an update keeps."""
    samples: Annotated[int, at_least(100)] = 2500
    """That are generated for the figures of a run."""
    kept: Annotated[int, at_least(1)] = 500
    """How many of them the result holds of the first seed; of images a fiftieth."""
    recipe: AdversarialRecipe = AdversarialRecipe()

    @property
    def nodes(self) -> int:
        """The generator's Gaussian ones."""
        return self.latent or (2 if self.data == "ring" else 16)

    @property
    def runs(self) -> list[Run]:
        """The trainings, in the order of the results."""
        return [Run(divergence, seed) for divergence in self.divergences for seed in self.seeds]

    def facts(self, *but: str) -> dict[str, Any]:
        return super().facts(*but) | {"latent": self.nodes}
