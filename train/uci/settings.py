"""What can be chosen about the regression tables, and the fixed recipes. Nothing imports JAX."""

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from train.report.settings import SEED, SOME, Check, Checked, at_least

Noise = Literal["heteroscedastic", "homoscedastic"]
Moments = Literal["moments_natural", "moments_adam"]
Sampled = Literal["local_reparameterization", "weight_sample", "flipout"]
MethodName = Literal[Moments, Sampled, "ensemble", "dropout", "pcff"]
Nine = Literal[
    "boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht"
]  # they need --data-dir
SETS = get_args(Nine)
TableName = Literal["diabetes", Nine]


class Recipe(NamedTuple):
    """How long and how wide a table is trained, whatever the method."""

    epochs: int  # of the last training, and of each candidate's
    batch: int
    hidden: int = 50


RECIPES: dict[str, Recipe] = {
    "diabetes": Recipe(100, 32),
    "boston": Recipe(300, 32),
    "concrete": Recipe(400, 32),
    "energy": Recipe(600, 32),
    "kin8nm": Recipe(120, 64),
    "naval": Recipe(120, 64),
    "power": Recipe(40, 64),
    "protein": Recipe(100, 256, hidden=100),
    "wine": Recipe(60, 32),
    "yacht": Recipe(800, 32),
}
VALIDATION = 5  # one in so many training rows is for choosing hyperparameters


class Hyper(NamedTuple):
    """What is chosen on validation data; numbers, or arrays over runs."""

    learning_rate: Any
    first_noise: Any = -1.0  # the logarithm of its variance; the target has variance 1
    output_prior: Any = 1.0  # the standard deviation of the prior of the output's weights
    prior: Any = 1.0  # the same of all other parameters
    warm_up: Any = 0.0  # the share of the steps in which the cost of weights rises to its full size
    rate: Any = 0.0  # of dropout or PCFF


def _around(centre: Hyper, other_rate: float = 0.02) -> tuple[Hyper, ...]:
    """The candidates of every method: its centre, and one thing changed at a time."""
    narrow, wide = 0.3, 1 / 0.3
    return (
        centre,
        centre._replace(first_noise=-3.0),
        centre._replace(output_prior=narrow * centre.output_prior),
        centre._replace(output_prior=wide * centre.output_prior, prior=wide * centre.prior),
        centre._replace(learning_rate=other_rate),
    )


_BY_ADAM = _around(Hyper(0.01, warm_up=0.9))
# What is tried on validation data, the most trusted first. The centres were found on validation
# rows of a few splits. A posterior's divergence rises slowly: at its full size from the first step
# it puts most hidden nodes to sleep before their weights have learnt anything (`--trial starts`).
# Each candidate is trained as long as the last training: a shorter one prefers the larger learning
# rate, which is not the better one in the end (`--trial search`).
CANDIDATES: dict[MethodName, tuple[Hyper, ...]] = {
    "moments_natural": _around(Hyper(0.3, warm_up=0.9), 1.0),
    "moments_adam": _BY_ADAM,
    **dict.fromkeys(get_args(Sampled), _BY_ADAM),
    "ensemble": _around(Hyper(0.01, prior=0.3, output_prior=0.3)),
    "dropout": _around(Hyper(0.01, rate=0.05)),
    "pcff": _around(Hyper(0.01, rate=0.1)),
}

_DISTINCT = Check(lambda values: len(set(values)) == len(values), "none twice")


@dataclasses.dataclass(frozen=True)
class Config(Checked):
    """Regression on UCI tables, eight methods, two noises ([B] 4.2, Table 2).

    example:
        python -m train.uci                                # scikit-learn's diabetes, no files
        python -m train.uci --data-dir FOLDER              # the nine sets, all methods
        python -m train.uci --data-dir FOLDER --data yacht boston --methods moments_adam
    """

    continues: ClassVar[str | None] = "with the next cell"

    data: Annotated[tuple[TableName, ...], _DISTINCT] = ()
    """Which tables; without it all nine if there is a --data-dir, and diabetes if not."""
    data_dir: Path | None = None
    """The folder with the nine files, NAME.npz."""
    methods: Annotated[tuple[MethodName, ...], SOME] = get_args(MethodName)
    """What is trained."""
    noise: Annotated[tuple[Noise, ...], SOME] = get_args(Noise)
    """Its variance is computed by the network, or is one number."""
    splits: Annotated[int | None, at_least(1)] = None
    """How many of a table's splits, from the first; without it all."""
    seed: Annotated[int, SEED] = 0
    """Of the first weights, the order of rows, and all noise."""
    epochs: Annotated[int | None, at_least(1)] = None
    """For all tables; without it those of each table's recipe."""
    hidden: Annotated[int | None, at_least(1)] = None
    """Units of the hidden layer; without it 50, and 100 for protein."""
    samples: Annotated[int, at_least(1)] = 100
    """Networks whose predictions are mixed, for methods that sample."""
    trial: Literal["starts", "search", "speed", "rows"] | None = None
    """In place of the tables, another look at their cells; see `train.uci.trials`."""
    out: Path = Path("runs/uci")
    """The folder for results."""


class Cell(NamedTuple):
    """One entry of the table: what is trained together, and finished or not."""

    data: TableName
    method: MethodName
    noise: Noise

    @property
    def file(self) -> Path:
        """Where its result lies, below the folder for results."""
        return Path(self.data) / f"{self.method}-{self.noise}.json"


def cells(config: Config) -> list[Cell]:
    """All entries of the table, one table after the other."""
    names = config.data or (SETS if config.data_dir is not None else ("diabetes",))
    return [Cell(*each) for each in itertools.product(names, config.methods, config.noise)]


def recipe(config: Config, data: TableName) -> Recipe:
    """How a table is trained."""
    made = RECIPES[data]
    return made._replace(epochs=config.epochs or made.epochs, hidden=config.hidden or made.hidden)
