"""The settings that trainings of many runs share, and the runs themselves. Nothing here needs JAX
to be read."""

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import tyro

from train.report.settings import SEEDS, Check, Common, at_least, require

Mode = Literal["vmap", "sequential"]
Regulariser = Literal["none", "dropout", "pcff", "both"]


class Rates(NamedTuple):
    """What regularises a run; numbers, or arrays over runs."""

    drop: Any
    pcff: Any


class Run(NamedTuple):
    """One training of a network."""

    regulariser: Regulariser
    rates: Rates  # 0 for what is off
    seed: int
    nodes: str = ""  # the family of its nodes, where an experiment compares several

    @property
    def labels(self) -> dict[str, Any]:
        """What it has in common with runs of other seeds, by the two names that results have."""
        if self.nodes:
            return {"nodes": self.nodes, "regulariser": self.regulariser}
        return {"regulariser": self.regulariser, "rate": self.told_rate}

    @property
    def name(self) -> str:
        words = (f"{v:g}" if isinstance(v, float) else v for v in self.labels.values())
        return " ".join([*words, str(self.seed)])

    @property
    def told_rate(self) -> float | str:
        """The rate as the result has it: of both together "DROP RATE + RATE OF PCFF"."""
        if self.regulariser == "both":
            return f"{self.rates.drop:g} + {self.rates.pcff:g}"
        return max(self.rates)


@dataclasses.dataclass(frozen=True)
class Computation(Common, abc.ABC):
    """Which data and seeds, how runs are computed, and where they are kept."""

    continues: ClassVar[str | None] = "from its last checkpoint"
    not_facts: ClassVar[tuple[str, ...]] = (
        *("data_dir", "out", "earlier", "save_seconds", "budget_seconds", "mode", "width"),
        *("devices", "batch_devices", "coordinator", "processes", "process"),
    )

    data: str = "digits"
    """The data set."""
    data_dir: Path | None = None
    """A folder with its files, in a form that `train/data/` tells; without it, where TensorFlow
    Datasets has them."""
    seeds: Annotated[tuple[int, ...], SEEDS] = (0, 1, 2)
    """Of each run; they are of initial weights, order, noise and augmentation."""
    mode: Literal["auto", Mode] = "auto"
    """All runs at once, or one after the other. "auto": the latter on a CPU."""
    devices: Annotated[int, at_least(1)] = 1
    """Over how many devices the runs are split; only with "vmap"."""
    batch_devices: Annotated[int, at_least(1)] = 1
    """Over how many devices each batch is split besides; only with "vmap"."""
    coordinator: str | None = None
    """Where several processes compute together: HOST:PORT, on which the first of them listens, or
    "auto" on a cluster that JAX knows (Slurm, Open MPI, TPU). All are started with the same command
    but for `--process`, share the folder `--out`, and the devices above are those of all."""
    processes: int = 1
    """How many such processes there are."""
    process: int = 0
    """The number of this one, from 0; the first one writes the files."""
    width: Annotated[int | None, at_least(1)] = None
    """How many runs a device maps at a time; without it all."""
    earlier: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """An earlier `--out` whose checkpoint is continued in this one; it is only read."""
    budget_seconds: Annotated[float | None, at_least(0)] = None
    """Begin no epoch after so many seconds: save, test the best weights so far, and say how to
    continue. Each call has an epoch at least."""
    save_seconds: Annotated[float, at_least(0)] = 30.0
    """The least time between two checkpoints, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = self.coordinator in (None, "auto")
        require(
            self,
            processes=(
                self.processes == 1 if alone else self.processes >= 1,
                "at least 1, and more only with a coordinator's address",
            ),
            process=(0 <= self.process < self.processes, "from 0 to one less than the processes"),
        )

    @property
    @abc.abstractmethod
    def runs(self) -> Sequence[Any]:
        """The runs, in the order of the results: records like `Run`, with seed, labels and name."""

    @property
    def how(self) -> Mode:
        """How the runs are computed."""
        return self.mode if self.mode != "auto" else "sequential" if on_cpu() else "vmap"

    @property
    def mapped(self) -> int | None:
        """How many runs a device maps at a time; none: all."""
        return self.width


def on_cpu() -> bool:
    """Whether JAX, which is imported for this, computes on a CPU."""
    import jax

    return jax.default_backend() == "cpu"


def _rates(values: Sequence[float]) -> bool:
    return len(set(values)) == len(values) and all(0 < value <= 1 for value in values)


RATES = Check(_rates, "probabilities in (0, 1], none twice")
PAIRS = RATES._replace(
    fits=lambda pairs: len(set(pairs)) == len(pairs) and all(_rates([r]) for p in pairs for r in p)
)


@dataclasses.dataclass(frozen=True)
class Settings(Computation):
    """The settings of experiments that compare rates of dropout and PCFF on one network."""

    none: bool = True
    """Whether the network without regulariser is among the runs."""
    dropout: Annotated[tuple[float, ...], RATES] = ()
    """Drop rates, each of which is a run."""
    pcff: Annotated[tuple[float, ...], RATES] = ()
    """Rates of PCFF, each of which is a run."""
    both: Annotated[tuple[tuple[float, float], ...], PAIRS] = ()
    """Drop rates and rates of PCFF in turn, each pair of which is a run with both."""
    images: Annotated[int | None, at_least(1)] = None
    """Train on the first so many images only; without it on all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        some = self.none or self.dropout or self.pcff or self.both
        require(self, none=(bool(some), "True where there are no rates"))

    @property
    def runs(self) -> list[Run]:
        cases = [
            *(Run("none", Rates(0.0, 0.0), 0) for _ in range(self.none)),
            *(Run("dropout", Rates(rate, 0.0), 0) for rate in self.dropout),
            *(Run("pcff", Rates(0.0, rate), 0) for rate in self.pcff),
            *(Run("both", Rates(*pair), 0) for pair in self.both),
        ]
        return [case._replace(seed=seed) for case in cases for seed in self.seeds]
