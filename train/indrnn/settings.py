"""The settings of independently recurrent networks; the defaults are those of [A] 5.1."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from train.engine.recipes import PatientRecipe
from train.engine.settings import RATES, Settings
from train.report.settings import SEED, require

Order = Literal["sequential", "permuted"]
Stack = Literal["plain", "residual", "dense"]
# Of the recurrence; see `cgjax.layers.IndependentRecurrent`.
Implementation = Literal["scan", "parallel", "mosaic_gpu"]


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Independently recurrent networks on sequences of pixels ([A] 5.1).

    example:
        python -m train.indrnn --order permuted --data-dir FOLDER
        python -m train.indrnn --data digits --features 16 --epochs 5
    """

    default_out: ClassVar[str] = "runs/indrnn/{data}_{order}"

    dropout: Annotated[tuple[float, ...], RATES] = (0.1,)
    pcff: Annotated[tuple[float, ...], RATES] = (0.1,)
    data: Literal["mnist", "fashion_mnist", "digits"] = "mnist"
    """The images, whose pixels are the sequences: 784, or 64 of scikit-learn's digits."""
    order: Order = "sequential"
    """Of the pixels: row by row, or one random order for all images."""
    order_seed: Annotated[int, SEED] = 0
    """Of the permutation, and of the split into training and validation images."""
    stack: Stack = "plain"
    """How layers are connected: one on the other, in residual blocks, or densely."""
    depth: int = 6
    """Recurrent layers of a plain stack."""
    features: int = 128
    """Nodes of a layer; of a dense stack eight times the features that a layer adds."""
    implementation: Implementation | None = None
    """Of the recurrence: a loop, the parallel form, or the kernel for GPUs; without it the library
    chooses. They differ by roundings."""
    recipe: PatientRecipe = PatientRecipe()

    def __post_init__(self) -> None:
        super().__post_init__()

        def twice(rates: Sequence[float]) -> tuple[bool, str]:
            fits = self.stack != "dense" or all(2 * rate <= 1 for rate in rates)
            told = "some of whose layers drop twice as often"
            return fits, f"drop rates of at most 0.5 for a dense stack, {told}"

        deep = self.depth >= 1 and (self.stack == "plain" or self.depth == Config.depth)
        wide = self.features >= 1 and (self.stack != "dense" or self.features % 8 == 0)
        require(
            self,
            depth=(deep, "at least 1, and given for a plain stack only"),
            dropout=twice(self.dropout),
            both=twice([drop for drop, _ in self.both]),
            features=(wide, "at least 1, and a multiple of 8 for a dense stack"),
        )
