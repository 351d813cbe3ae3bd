"""The settings of `train.gradient_variance`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from train.engine.settings import Mode, on_cpu
from train.report.settings import SEEDS, SOME, Common, at_least, each, more_than, require

Network = Literal["dense", "small_vgg", "vgg16"]
Name = Literal["moments", "local", "flipout", "weights", "plain"]
# What is measured of a training, and has no influence on it.
MEASUREMENTS = "batch_sizes", "pairs", "draws", "bias_draws", "trained_by", "samples", "rounds"


class Scale(NamedTuple):
    """What depends on the data where it was not given."""

    network: Network
    hidden: int | None  # none but for dense networks
    batch_size: int
    epochs: int


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Variance of gradients of procedures for weights ([B] Figure 1).

    example:
        python -m train.gradient_variance
        python -m train.gradient_variance --data mnist --data-dir FOLDER
        python -m train.gradient_variance --data cifar10 --data-dir FOLDER --network vgg16
    """

    continues: ClassVar[str | None] = "from its last checkpoint"
    not_facts: ClassVar[tuple[str, ...]] = ("data_dir", "out", "save_seconds")

    data: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = "digits"
    network: Network | None = None
    """Without it dense, and for cifar10 small_vgg."""
    hidden: Annotated[int | None, at_least(1)] = None
    """Nodes of each of the two hidden layers of a dense network; without it 64 for digits, 400."""
    images: Annotated[int | None, at_least(1)] = None
    """How many training images are used; without it all."""
    evaluation_images: Annotated[int | None, at_least(1)] = None
    """How many validation and how many test images are used; without it all."""
    procedures: Annotated[tuple[Name, ...], SOME] = get_args(Name)
    """Which compute gradients, and train."""
    seeds: Annotated[tuple[int, ...], SEEDS] = (0,)
    """Of the trainings; variances are measured for the first."""
    initial_variance: Annotated[float, more_than(0)] = 0.1
    """The initial variance of a kernel, relative to the prior's."""
    prior_scale: Annotated[float, more_than(0)] = 1.0
    """The prior's standard deviation, relative to sqrt(2 / inputs)."""
    temperature: Annotated[float, at_least(0)] = 1.0
    """The weight of the divergence in the objective; 1 is the ELBO."""
    batch_size: Annotated[int | None, at_least(1)] = None
    """Images of a batch of training, and of the measurements of bias and cost; without it 32 for
    digits, 128."""
    learning_rate: Annotated[float, more_than(0)] = 1e-3
    """Adam's."""
    epochs: Annotated[int | None, at_least(1)] = None
    """Of training; without it 20 for digits, 10."""
    batch_sizes: Annotated[tuple[int, ...], SOME, each(at_least(1))] = (8, 32, 128, 512)
    """Images of a batch where variances are measured."""
    pairs: Annotated[int, at_least(2)] = 24
    """Pairs of batches of each measurement of a variance."""
    draws: Annotated[int, at_least(2)] = 4
    """Draws of the noise of weights for each batch there."""
    bias_draws: Annotated[int, at_least(2)] = 64
    """Draws of each of eight estimates of a bias."""
    trained_by: Name = "moments"
    """Whose posterior is the trained one."""
    samples: Annotated[int, at_least(1)] = 32
    """Weight samples of a prediction of test images."""
    rounds: Annotated[int, at_least(1)] = 9
    """Rounds of the measurement of cost."""
    save_seconds: Annotated[float, at_least(0)] = 30.0
    """The least time between two checkpoints, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known, posterior = self.trained_by in self.procedures, self.trained_by != "plain"
        fits = self.network in (None, "dense") or self.data == "cifar10"
        require(
            self,
            network=(fits, "dense: the VGG networks are for cifar10"),
            trained_by=(known and posterior, "one of the procedures, and one with a posterior"),
        )

    @property
    def how(self) -> Mode:
        """Seeds side by side where the device has room for them."""
        return "sequential" if on_cpu() and self.data != "digits" else "vmap"

    @property
    def scale(self) -> Scale:
        """The network, its width, and how long it is trained on what batches."""
        digits = self.data == "digits"
        network = self.network or ("small_vgg" if self.data == "cifar10" else "dense")
        return Scale(
            network=network,
            hidden=(self.hidden or (64 if digits else 400)) if network == "dense" else None,
            batch_size=self.batch_size or (32 if digits else 128),
            epochs=self.epochs or (20 if digits else 10),
        )

    def facts(self, *but: str) -> dict[str, Any]:
        return super().facts(*but) | self.scale._asdict()
