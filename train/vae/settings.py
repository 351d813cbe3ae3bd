"""The settings of `train.vae`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from train.engine.falling import CosineRecipe
from train.engine.settings import Computation
from train.report.settings import SEED, SOME, at_least, each, more_than, require

Latent = Literal["gaussian", "bernoulli"]
Gradient = Literal["pathwise", "doubly_reparameterised", "straight_through", "vimco"]

GRADIENTS: dict[Latent, tuple[Gradient, ...]] = {
    "gaussian": ("pathwise", "doubly_reparameterised"),
    "bernoulli": ("straight_through", "vimco"),
}
# The gradients that are of importance-weighted bounds alone: of at least two samples.
OF_SEVERAL: tuple[Gradient, ...] = ("doubly_reparameterised", "vimco")


class Cell(NamedTuple):
    """One row of the table: latent nodes, and the bound that they are learnt by."""

    latent: Latent
    gradient: Gradient
    samples: int
    first_epochs: int = 0  # by the cheapest bound

    @property
    def cheapest(self) -> "Cell":
        """The bound of the fewest samples, of latent nodes of a kind and as far as gradients are of
        the same kind: of Gaussian ones the ELBO.

        Example:
            >>> tuple(Cell("bernoulli", "vimco", 50, first_epochs=9).cheapest)
            ('bernoulli', 'vimco', 2, 0)
        """
        if self.latent == "gaussian":
            return Cell("gaussian", "pathwise", 1)
        return Cell(self.latent, self.gradient, 2 if self.gradient in OF_SEVERAL else 1)


class Training(NamedTuple):
    """One training of a network."""

    cell: Cell
    seed: int

    @property
    def labels(self) -> dict[str, Any]:
        """What it has in common with runs of other seeds, by the two names that results have."""
        after = f" after {self.cell.first_epochs}" if self.cell.first_epochs else ""
        bound = f"{self.cell.samples} {self.cell.gradient}{after}"
        return {"latent": self.cell.latent, "bound": bound}

    @property
    def name(self) -> str:
        return " ".join([*self.labels.values(), str(self.seed)])


class Scale(NamedTuple):
    """What depends on the data where it was not given."""

    hidden: int
    latent_size: int
    batch_size: int
    learning_rate: float
    length: int
    test_images: int | None


@dataclasses.dataclass(frozen=True)
class Config(Computation):
    """Variational autoencoders of binary images, by bounds of more and fewer samples.

    example:
        python -m train.vae
        python -m train.vae --data mnist --data-dir FOLDER --latents gaussian --samples 1
        python -m train.vae --data mnist --data-dir FOLDER --binarisation fixed --samples 1 5
    """

    default_out: ClassVar[str] = "runs/vae/{data}"

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    binarisation: Literal["dynamic", "fixed"] = "dynamic"
    """Whether training images become black and white anew in each step, or once; those of
    validation and test once."""
    binarisation_seed: Annotated[int, SEED] = 0
    """Of the images that become black and white once."""
    images: Annotated[int | None, at_least(1)] = None
    """Train on the first so many images only; without it on all."""
    latents: Annotated[tuple[Latent, ...], SOME] = get_args(Latent)
    """The latent nodes."""
    gradients: Annotated[tuple[Gradient, ...], SOME] = get_args(Gradient)
    """Of the bound: the first two of Gaussian nodes, the others of Bernoulli ones."""
    samples: Annotated[tuple[int, ...], SOME, each(at_least(1))] = (1, 5, 50)
    """Of the guide, for each image of a batch: K. Doubly reparameterised gradients and VIMCO are of
    two or more."""
    first_epochs: Annotated[int, at_least(0)] = 0
    """So many epochs are trained by the bound of the fewest samples: of Gaussian nodes the ELBO, of
    Bernoulli ones one sample, or two by VIMCO; the others by K. Rate and validation know nothing of
    it. Bounds of so few samples are trained as without it."""
    hidden: Annotated[int | None, at_least(1)] = None
    """Nodes of each layer of tanh; without it 64 for digits, 200."""
    latent_size: Annotated[int | None, at_least(2)] = None
    """Latent nodes; without it 8 for digits, 50."""
    batch_size: Annotated[int | None, at_least(1)] = None
    """Images of a batch; without it 32 for digits, 100."""
    learning_rate: Annotated[float | None, more_than(0)] = None
    """Adam's, in the first epoch; without it 5e-3 for digits, 2e-3."""
    last_rate: Annotated[float, more_than(0)] = 1e-5
    """Adam's, in the last epoch of the schedule."""
    length: Annotated[int | None, at_least(1)] = None
    """The epochs of the whole schedule; without it 50 for digits, 100."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole schedule. It may be another when a run is
    continued."""
    test_samples: Annotated[int, at_least(2)] = 5000
    """Samples of the estimate of a test image's log-likelihood."""
    test_images: Annotated[int | None, at_least(2)] = None
    """On how many test images it is estimated; without it 1,000, of digits all."""
    kept: Annotated[int, at_least(1)] = 10
    """How many images of each kind the result holds, for the figure."""

    def __post_init__(self) -> None:
        super().__post_init__()
        told = "a gradient of these latent nodes, and of so many samples"
        require(self, gradients=(bool(self.cells), told))
        some = any(cell.first_epochs for cell in self.cells) or not self.first_epochs
        fewer = some and self.first_epochs < self.scale.length
        told = "fewer than the length, and 0 where no bound has more samples than those have"
        require(self, first_epochs=(fewer, told))

    @property
    def scale(self) -> Scale:
        """The network, how long it is trained, and on how much it is tested."""
        digits = self.data == "digits"
        return Scale(
            hidden=self.hidden or (64 if digits else 200),
            latent_size=self.latent_size or (8 if digits else 50),
            batch_size=self.batch_size or (32 if digits else 100),
            learning_rate=self.learning_rate or (5e-3 if digits else 2e-3),
            length=self.length or (50 if digits else 100),
            test_images=self.test_images or (None if digits else 1000),
        )

    @property
    def cells(self) -> list[Cell]:
        """What is trained with each seed, in this order."""
        cells = [
            Cell(latent, gradient, samples)
            for latent in self.latents
            for gradient in GRADIENTS[latent]
            if gradient in self.gradients
            for samples in self.samples
            if samples > 1 or gradient not in OF_SEVERAL
        ]
        more = (cell.samples > cell.cheapest.samples for cell in cells)
        return [
            cell._replace(first_epochs=first * self.first_epochs)
            for cell, first in zip(cells, more, strict=True)
        ]

    @property
    def runs(self) -> list[Training]:
        return [Training(cell, seed) for cell in self.cells for seed in self.seeds]

    @property
    def recipe(self) -> CosineRecipe:
        """How each network is trained."""
        scale = self.scale
        rates = scale.learning_rate, self.last_rate
        return CosineRecipe(scale.batch_size, *rates, scale.length, self.epochs)

    def facts(self, *but: str) -> dict[str, Any]:
        return super().facts(*but) | self.scale._asdict()
