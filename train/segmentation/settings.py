"""The settings of `train.segmentation`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Literal

from train.report.settings import PROBABILITY, SEEDS, SOME, Common, at_least, more_than, require

Model = Literal["unary", "mean_field", "belief_propagation", "exact"]


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Noisy pictures of digits cleaned by networks whose pixels touch ([A] section 3).

    example:
        python -m train.segmentation
        python -m train.segmentation --data mnist --data-dir FOLDER --models unary mean_field
            belief_propagation
        python -m train.segmentation --data mnist --data-dir FOLDER --rows 8
    """

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    images: Annotated[int, at_least(1)] = 5000
    """For training at most, and as many for testing."""
    rows: Annotated[int | None, at_least(2)] = None
    """Use so many rows of pixels, in the middle of each image; without it all."""
    flipped: Annotated[float, PROBABILITY] = 0.2
    """Share of the pixels that are flipped."""
    models: Annotated[tuple[Model, ...], SOME] = (
        "unary",
        "mean_field",
        "belief_propagation",
        "exact",
    )
    """How marginals are found; "exact" takes images of at most 10 rows, and the parameters that
    belief propagation has learnt."""
    iterations: Annotated[int, at_least(1)] = 5
    """Of mean field and of belief propagation."""
    epochs: Annotated[int, at_least(1)] = 20
    """Of every training."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Images of a batch."""
    learning_rate: Annotated[float, more_than(0)] = 0.02
    """Adam's."""
    seeds: Annotated[tuple[int, ...], SEEDS] = (0, 1, 2, 3, 4)
    """Of the noise, of initial weights and of the order of images; all train side by side."""
    kept: Annotated[int, at_least(1)] = 5
    """How many test images the result holds, for the figure."""

    def __post_init__(self) -> None:
        super().__post_init__()
        learnt = "exact" not in self.models or "belief_propagation" in self.models
        require(
            self, models=(learnt, "belief_propagation beside exact, which takes its parameters")
        )
        require(self, flipped=(self.flipped < 0.5, "below 0.5: half of the pixels tell nothing"))
