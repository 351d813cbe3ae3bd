"""The settings of `train.images`, and the recipes of its networks. Nothing here imports JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from train.engine.settings import Computation
from train.images.recipe import ImageRecipe
from train.report.settings import Check, at_least, more_than, require

Data = Literal["digits", "cifar10", "cifar100", "tiny_imagenet"]
Name = Literal[
    "tiny",
    "densenet-bc-100-12",
    "densenet-bc-40-12",
    "preact-resnet-18",
    "resnet-18",
    "preact-resnet-110",
    "preact-resnet-164",
    "wrn-28-10",
    "wrn-16-4",
    "efficientnet-b0",
    "efficientnet-b0-cifar",
    "mixer-s-2",
    "mixer-s-4",
    "mixer-s-8",
    "mixer-nano",
]
Method = Literal["plain", "weight_sample", "weight_sample_ensemble", "moments", "moments_natural"]
Norm = Literal["batch", "layer", "stochastic", "none"]
Augmentation = Literal["flip", "crop", "cutout", "randaugment", "mixup", "cutmix"]
Dtype = Literal["float32", "bfloat16"]

MOMENTS = ("moments", "moments_natural")
NATURAL = ("moments_natural", "weight_sample_ensemble")
_DISTINCT = Check(lambda values: len(set(values)) == len(values), "none twice")


class Usual(NamedTuple):
    """How a network is trained plainly."""

    batch_size: int = 128
    learning_rate: float = 0.1
    length: int = 200
    weight_decay: float = 5e-4
    momentum: float | None = 0.9  # none: Adam


# As published (DenseNet-BC: Huang et al., whose 300 epochs end in steps; wide and pre-activation
# ResNets: Zagoruyko and Komodakis, and the usual code for CIFAR-10), with a cosine in place of
# steps. Nobody has published how EfficientNet-B0 is trained from nothing on such images: it is as
# ResNets are. Of Mixers, Adam and 300 epochs are published.
_DENSENET = Usual(64, 0.1, 300, 1e-4)
_DEEP = Usual(weight_decay=1e-4)
_MIXER = Usual(128, 1e-3, 300, 5e-5, None)
RECIPES: dict[Name, Usual] = {
    "tiny": Usual(32, 0.05, 12, 5e-4),
    "densenet-bc-100-12": _DENSENET,
    "densenet-bc-40-12": _DENSENET,
    "preact-resnet-18": Usual(),
    "resnet-18": Usual(),
    "preact-resnet-110": _DEEP,
    "preact-resnet-164": _DEEP,
    "wrn-28-10": Usual(),
    "wrn-16-4": Usual(),
    "efficientnet-b0": Usual(),
    "efficientnet-b0-cifar": Usual(),
    "mixer-s-2": _MIXER,
    "mixer-s-4": _MIXER,
    "mixer-s-8": _MIXER,
    "mixer-nano": _MIXER,
}
# Of posteriors: Adam's, and that of natural gradient.
ADAM_RATE, NATURAL_RATE = 3e-3, 0.5


class Run(NamedTuple):
    """One training."""

    method: Method
    norm: Norm
    seed: int

    @property
    def labels(self) -> dict[str, Any]:
        """What it has in common with runs of other seeds, by the two names that results have."""
        return {"method": self.method, "norm": self.norm}

    @property
    def name(self) -> str:
        return f"{self.method} {self.norm} {self.seed}"


@dataclasses.dataclass(frozen=True)
class Config(Computation):
    """Image classification by networks with certain and uncertain weights ([B] 4.1, Table 1).

    example:
        python -m train.images                                       # digits, a tiny network
        python -m train.images --method plain
        python -m train.images --data cifar10 --data-dir FOLDER --network wrn-16-4
            --method moments_natural --images 5000 --length 10
    """

    data: Data = "digits"
    network: Name = "tiny"
    """The network; "tiny" is a ResNet of two blocks."""
    method: Method = "moments"
    """Plainly; by networks drawn from a posterior, one or several a batch, the latter by natural
    gradient; or by means and variances, with Adam or by natural gradient."""
    norm: Norm | None = None
    """The normalisation; without it that of Table 1: the network's own, of batches or layers, for
    plain and weight_sample, and none for the others."""
    standardised: bool = False
    """Whether kernels are standardised, where nothing else is."""
    augmentation: Annotated[tuple[Augmentation, ...] | None, _DISTINCT] = None
    """Of training images, in this order; without it flip and crop, and none of digits."""
    images: Annotated[int | None, at_least(1)] = None
    """Train on the first so many images only; without it on all."""
    held_images: Annotated[int | None, at_least(1)] = None
    """Validate on the first so many images only, and test on so many; without it on all."""
    batch_size: Annotated[int | None, at_least(1)] = None
    """Images of a batch; without it as published for the network."""
    learning_rate: Annotated[float | None, more_than(0)] = None
    """Of the first epoch; without it as published, and of posteriors one for all networks."""
    length: Annotated[int | None, at_least(1)] = None
    """The epochs of the whole schedule; without it as published."""
    epochs: Annotated[int | None, at_least(1)] = None
    """The most epochs of a run; without it the whole schedule. It may be another when a run is
    continued."""
    weight_decay: Annotated[float | None, at_least(0)] = None
    """Of all parameters, in plain training; without it as published."""
    balance: bool = True
    """Whether gains at the start are those of `weights.balance`, where nothing is normalised."""
    prior_scale: Annotated[float, more_than(0)] = 1.0
    """The prior's deviation, in units of sqrt(2/n) for a kernel of n inputs of an output."""
    initial_variance: Annotated[float, more_than(0)] = 1e-2
    """Of a weight, in units of the prior's variance."""
    temperature: Annotated[float, at_least(0)] = 1.0
    """The divergence from the prior is multiplied by this: 1 is the ELBO."""
    warm_up: Annotated[float, at_least(0)] = 0.9
    """In this part of the training the divergence rises to its full size."""
    members: Annotated[int, at_least(1)] = 4
    """Networks of a batch, of weight_sample_ensemble; each has its share of the images."""
    samples: Annotated[int, at_least(1)] = 20
    """Networks whose predictions are averaged in the test, of methods that sample weights."""
    positions: bool = True
    """Whether moments follow what positions of an image have in common."""
    dtype: Dtype = "float32"
    """Of convolutions and products in training, on weights, statistics and updates of float32. The
    validation and the test are those of the float32 network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain = self.method not in MOMENTS or self.normalisation in ("none", "stochastic")
        told = "none or stochastic: means and variances of a batch's statistics depend on all of it"
        require(self, norm=(plain, told))
        fits = self.normalisation == "none" or not self.standardised
        require(self, standardised=(fits, "False beside a normalisation"))
        mixing = {"mixup", "cutmix"} <= {*self.augmentations}
        require(self, augmentation=(not mixing, "one of mixup and cutmix at most"))
        told = "a multiple of the members of an ensemble"
        require(self, batch_size=(self.recipe.batch_size % self.parts == 0, told))

    @property
    def normalisation(self) -> Norm:
        """The one that is meant."""
        if self.norm is not None:
            return self.norm
        if self.method not in ("plain", "weight_sample"):
            return "none"
        return "layer" if self.network.startswith("mixer") else "batch"

    @property
    def parts(self) -> int:
        """Into how many parts a batch is split, each with weights of its own."""
        return self.members if self.method == "weight_sample_ensemble" else 1

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """Those that are meant."""
        usual = () if self.data == "digits" else ("flip", "crop")
        return usual if self.augmentation is None else self.augmentation

    @property
    def recipe(self) -> ImageRecipe:
        """How the network is trained."""
        usual = RECIPES[self.network]
        rate, decay, momentum = usual.learning_rate, usual.weight_decay, usual.momentum
        if self.method != "plain":
            rate = NATURAL_RATE if self.method in NATURAL else ADAM_RATE
            decay, momentum = 0.0, None
        return ImageRecipe(
            batch_size=self.batch_size or usual.batch_size,
            learning_rate=self.learning_rate or rate,
            length=self.length or usual.length,
            epochs=self.epochs,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            momentum=momentum,
        )

    @property
    def runs(self) -> list[Run]:
        """The trainings, in the order of the results."""
        return [Run(self.method, self.normalisation, seed) for seed in self.seeds]

    @property
    def folder(self) -> Path:
        """The folder for results."""
        cell = f"{self.network}-{self.method}-{self.normalisation}"
        return self.out or Path("runs/images") / self.data / cell

    def facts(self, *but: str) -> dict[str, Any]:
        usual = {"norm": self.normalisation, "augmentation": list(self.augmentations)}
        return super().facts(*but) | usual | dataclasses.asdict(self.recipe)
