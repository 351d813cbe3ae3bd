"""The settings of the dense experiment; the defaults are those of [A] 5.1."""

import dataclasses
from typing import Annotated, Any, Literal

from train.engine.recipes import PlateauRecipe
from train.engine.settings import Computation, Mode, Rates, Regulariser, Run, on_cpu
from train.report.settings import PROBABILITY, SOME, at_least

Nodes = Literal["tanh", "relu"]


@dataclasses.dataclass(frozen=True)
class Config(Computation):
    """Dense networks on images: none, dropout, PCFF, both ([A] 5.1, Figure 4 left).

    example:
        python -m train.dense
        python -m train.dense --data mnist --data-dir FOLDER --seeds 0 --epochs 100
    """

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    """The images; digits are scikit-learn's, of 8 x 8 pixels."""
    nodes: Annotated[tuple[Nodes, ...], SOME] = ("tanh", "relu")
    """Families of the hidden nodes."""
    regularisers: Annotated[tuple[Regulariser, ...], SOME] = ("none", "dropout", "pcff")
    """What is compared; "both" is dropout and PCFF together."""
    drop_rate: Annotated[float, PROBABILITY] = 0.5
    """The probability that a hidden node is dropped."""
    tanh_rate: Annotated[float, PROBABILITY] = 0.4
    """PCFF's rate for tanh nodes."""
    relu_rate: Annotated[float, PROBABILITY] = 1.0
    """PCFF's rate for ReLU nodes."""
    hidden: Annotated[int | None, at_least(1)] = None
    """Nodes of each hidden layer; without it 1024, and 128 for digits."""
    recipe: PlateauRecipe = PlateauRecipe()
    samples: Annotated[int, at_least(2)] = 32
    """Samples of each test-time Monte Carlo prediction."""
    mode: Literal["auto", Mode] = "auto"
    """All runs of a family at once, or one after the other. "auto": the latter for wide networks on
    a CPU, where it is faster."""
    width: Annotated[int | None, at_least(1)] = None
    """How many runs a device maps at a time; without it as many as there are seeds on a CPU, all of
    a family on other devices. For one width, the number of devices changes no bit."""

    @property
    def hidden_nodes(self) -> int:
        """Those of each hidden layer."""
        return self.hidden or (128 if self.data == "digits" else 1024)

    @property
    def how(self) -> Mode:
        if self.mode != "auto":
            return self.mode
        return "sequential" if self.hidden_nodes >= 512 and on_cpu() else "vmap"

    @property
    def mapped(self) -> int | None:
        if self.how == "sequential":
            return None
        return self.width or (len(self.seeds) if on_cpu() else None)

    @property
    def runs(self) -> list[Run]:
        def rates(regulariser: Regulariser, nodes: Nodes) -> Rates:
            pcff = {"tanh": self.tanh_rate, "relu": self.relu_rate}[nodes]
            drops, samples = (regulariser in (one, "both") for one in ("dropout", "pcff"))
            return Rates(self.drop_rate if drops else 0.0, pcff if samples else 0.0)

        return [
            Run(regulariser, rates(regulariser, nodes), seed, nodes)
            for nodes in self.nodes
            for regulariser in self.regularisers
            for seed in self.seeds
        ]

    def facts(self, *but: str) -> dict[str, Any]:
        return super().facts(*but) | {"hidden": self.hidden_nodes}
