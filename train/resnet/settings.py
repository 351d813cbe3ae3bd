"""The settings of residual networks; the defaults are those of [A] 5.1."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from train.engine.recipes import SteppedRecipe
from train.engine.settings import RATES, Settings
from train.report.settings import at_least

Shortcut = Literal["convolution", "pad"]
Form = Literal["convolution", "products"]
Dtype = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Residual networks on CIFAR-10: none, dropout, PCFF ([A] 5.1, Figure 4 right).

    example:
        python -m train.resnet --data-dir FOLDER
        python -m train.resnet --length 25 --images 9000 --seeds 0 --dropout .1 --pcff .3
    """

    default_out: ClassVar[str] = "runs/resnet"

    dropout: Annotated[tuple[float, ...], RATES] = (0.1, 0.3, 0.5)
    pcff: Annotated[tuple[float, ...], RATES] = (0.1, 0.3, 0.5, 1.0)
    data: Literal["cifar10"] = "cifar10"
    """The images; without a folder they are fetched."""
    shortcut: Shortcut = "convolution"
    """Of the blocks that begin a stage: 3 x 3 convolutions, as the authors'; or, as is usual, no
    parameters and zeros for new channels."""
    blocks: Annotated[int, at_least(1)] = 3
    """Residual blocks of each of the three stages."""
    channels: Annotated[int, at_least(1)] = 16
    """Of the first stage; each further one has twice as many."""
    form: Form = "convolution"
    """How 3 x 3 convolutions are computed, which of all runs at once are one grouped convolution;
    or as products of patches and kernels, one batched product. With a width of 1, run by run."""
    dtype: Dtype = "float32"
    """Of convolutions and nodes in training, on weights, statistics and updates of float32. The
    validation and the test are those of the float32 network."""
    recipe: SteppedRecipe = SteppedRecipe()
