"""The settings of `train.characters`. Nothing here imports JAX."""

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple, get_args

from train.engine.falling import LinearRecipe
from train.engine.settings import RATES, Computation
from train.report.settings import SOME, at_least

Latent = Literal["straight_through", "vimco"]


class Reading(NamedTuple):
    """How a network is trained."""

    name: Literal["collapsed", "pcff", "straight_through", "vimco"]
    rate: float = 0.0  # PCFF's

    @property
    def latent(self) -> bool:
        """Whether the states are latent variables with a guide."""
        return self.name in get_args(Latent)


class Run(NamedTuple):
    """One training."""

    reading: Reading
    seed: int

    @property
    def labels(self) -> dict[str, Any]:
        """What it has in common with runs of other seeds, by the two names that results have."""
        return {"reading": self.reading.name, "rate": self.reading.rate}

    @property
    def name(self) -> str:
        rate = f" {self.reading.rate:g}" if self.reading.rate else ""
        return f"{self.reading.name}{rate} {self.seed}"


@dataclasses.dataclass(frozen=True)
class Config(Computation):
    """Characters of a text by a recurrent network, as a latent-variable model ([C]).

    example:
        python -m train.characters                                      # a text that Python ships
        python -m train.characters --data tinyshakespeare --data-dir FOLDER
        python -m train.characters --data kjv --data-dir FOLDER --length 4
    """

    data: Literal["python", "tinyshakespeare", "kjv"] = "python"
    """The text; python's is what `help()` says of keywords and concepts."""
    characters: Annotated[int | None, at_least(1000)] = None
    """Use the first so many characters only; without it all, and 150,000 of python."""
    pcff: Annotated[tuple[float, ...], RATES] = (0.1, 0.3, 0.5)
    """Rates of PCFF, besides the collapsed network."""
    latent: Annotated[tuple[Latent, ...], SOME] = get_args(Latent)
    """How the network with latent states is trained: the ELBO with straight-through derivatives, or
    the importance-weighted bound by VIMCO."""
    vimco_samples: Annotated[int, at_least(2)] = 4
    """Samples of the importance-weighted bound in training."""
    states: Annotated[int | None, at_least(1)] = None
    """Nodes of the recurrent layer; without it 128, and 64 of python."""
    piece: Annotated[int, at_least(2)] = 64
    """Characters of a piece of the text, in training and in testing."""
    samples: Annotated[int, at_least(2)] = 32
    """Of averages and bounds in testing."""
    recipe: LinearRecipe = LinearRecipe(learning_rate=5e-3, length=12)

    @property
    def most(self) -> int | None:
        """How many characters are used."""
        return self.characters or (150_000 if self.data == "python" else None)

    @property
    def nodes(self) -> int:
        """Those of the recurrent layer."""
        return self.states or (64 if self.data == "python" else 128)

    @property
    def readings(self) -> list[Reading]:
        """How networks are trained, in the order of the results."""
        partly = (Reading("pcff", rate) for rate in self.pcff)
        return [Reading("collapsed"), *partly, *map(Reading, self.latent)]

    @property
    def runs(self) -> list[Run]:
        """The trainings, in the order of the results."""
        return [Run(reading, seed) for reading in self.readings for seed in self.seeds]

    def facts(self, *but: str) -> dict[str, Any]:
        return super().facts(*but) | {"characters": self.most, "states": self.nodes}
