"""The settings of `train.observation_density`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Literal

from train.report.settings import SEED, SOME, Common, at_least, more_than

Model = Literal["moments", "ensemble", "network"]


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Examples that a trained network expects ([B] Figure 2).

    example:
        python -m train.observation_density
        python -m train.observation_density --data boston --data-dir FOLDER
    """

    data: Literal["diabetes", "boston"] = "diabetes"
    split: Annotated[int, at_least(0)] = 0
    """Which of the splits into training and test rows."""
    models: Annotated[tuple[Model, ...], SOME] = ("moments", "ensemble", "network")
    """Whose examples are simulated."""
    hidden: Annotated[int, at_least(1)] = 50
    """Nodes of the hidden layer."""
    members: Annotated[int, at_least(2)] = 5
    """Independently trained networks."""
    epochs: Annotated[int, at_least(1)] = 100
    """Of every training."""
    batch_size: Annotated[int, at_least(1)] = 32
    """Rows of a batch of training."""
    learning_rate: Annotated[float, more_than(0)] = 1e-2
    """Adam's."""
    initial_variance: Annotated[float, more_than(0)] = 0.01
    """Of a weight, relative to its prior's 2 / inputs."""
    # R-hat compares chains, and its estimates of their spread need some.
    chains: Annotated[int, at_least(4)] = 4
    """Independent chains of Hamiltonian Monte Carlo, of each model."""
    warmup: Annotated[int, at_least(20)] = 1000
    """Steps in which a chain finds its step size and mass matrix."""
    draws: Annotated[int, at_least(20)] = 1000
    """Draws of each chain after that."""
    perturbation: Annotated[float, more_than(0)] = 0.1
    """Standard deviation of what is added to the training examples at which chains start, in units
    of the columns' own."""
    kept: Annotated[int, at_least(1)] = 400
    """How many draws of a model the result holds, for the figure."""
    seed: Annotated[int, SEED] = 0
    """Of initial weights, the order of examples, and chains."""
