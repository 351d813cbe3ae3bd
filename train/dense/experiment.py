"""Dense networks on images: no regularisation, dropout, PCFF, and both ([A] 5.1, Figure 4 left).

    python -m train.dense                                      # scikit-learn's digits
    python -m train.dense --data mnist --regularisers none dropout pcff both
    python -m train.dense --data fashion_mnist --data-dir FOLDER --regularisers none pcff

Network 784-1024-1024-10 (minimal: nine logits and a zero) with tanh or ReLU nodes; SGD 0.01 with
momentum 0.9, batches of 32, learning rate divided by ten on a plateau of the validation loss, early
stopping, the weights of the lowest validation loss tested once. Drop rate 0.5; PCFF at rate 0.4 for
tanh and 1.0 for ReLU.

**Claims** of the paper (its figure gives no numbers): dropout and PCFF are comparable and both
improve on none in most of the four cases; ReLU always gives lower test errors than tanh; the two
together sometimes help further.

**Cost**: digits about a minute on two CPU cores. MNIST and Fashion-MNIST three to four seconds for
an epoch of a run there, and from 30 to more than 100 epochs a run.

**Left behind** in `--out`: `result.json`, `figure.png`, and the checkpoint, from which the same
command continues after any interruption, to the same bits.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

import cgjax as cg
from cgjax import metrics
from train import data
from train.data import Dataset
from train.engine import devices, loop
from train.engine.loop import Learner
from train.engine.recipes import PlateauRecipe
from train.engine.runs import Display, Finished, Group, train
from train.models.dense import Dense
from train.report import commandline, machine
from train.report import tables as report
from train.report.files import write_atomic
from train.report.settings import require

FAMILIES = {"tanh": cg.nodes.Spin(), "relu": cg.nodes.ReLU()}
CLASSES = 10

Nodes = Literal["tanh", "relu"]
Regulariser = Literal["none", "dropout", "pcff", "both"]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the experiment; the defaults are those of [A] 5.1."""

    data: Literal["digits", "mnist", "fashion_mnist"] = "digits"
    data_dir: Path | None = None
    """A folder with the IDX files, or one prepared by TensorFlow Datasets as array_record."""
    nodes: tuple[Nodes, ...] = ("tanh", "relu")
    regularisers: tuple[Regulariser, ...] = ("none", "dropout", "pcff")
    seeds: tuple[int, ...] = (0, 1, 2)
    drop_rate: float = 0.5
    tanh_rate: float = 0.4
    """PCFF's rate for tanh nodes."""
    relu_rate: float = 1.0
    """PCFF's rate for ReLU nodes."""
    hidden: int | None = None
    """Nodes of each hidden layer; without it 1024, and 128 for digits."""
    recipe: PlateauRecipe = PlateauRecipe()
    samples: int = 32
    """Samples of each test-time Monte Carlo prediction."""
    mode: Literal["auto", "vmap", "sequential"] = "auto"
    """All runs of a family at once, or one after the other. "auto": the latter for wide networks on
    a CPU, where it is faster."""
    devices: int = 1
    """Over how many devices the runs of a family are split; only with "vmap"."""
    width: int | None = None
    """How many runs a device maps at a time; without it as many as there are seeds on a CPU, all of
    a family on other devices. For one width, the number of devices changes no bit."""
    out: Path | None = None
    """The folder for results; without it runs/dense/DATA."""
    save_seconds: float = 30.0
    """The least time between two checkpoints."""

    def __post_init__(self) -> None:
        def chosen(values: Sequence[Any]) -> tuple[bool, str]:
            fits = len(values) > 0 and len(set(values)) == len(values)
            return fits, "at least one, and none twice: a run counts once in a mean"

        def rate(value: float) -> tuple[bool, str]:
            return 0 <= value <= 1, "a probability in [0, 1]"

        def count(value: int | None, least: int = 1) -> tuple[bool, str]:
            return value is None or value >= least, f"at least {least}"

        require(
            self,
            nodes=chosen(self.nodes),
            regularisers=chosen(self.regularisers),
            seeds=chosen(self.seeds),
            drop_rate=rate(self.drop_rate),
            tanh_rate=rate(self.tanh_rate),
            relu_rate=rate(self.relu_rate),
            data_dir=(
                self.data_dir is None or self.data != "digits",
                "None for digits, which are part of scikit-learn: choose --data mnist or "
                "fashion_mnist with a folder",
            ),
            hidden=count(self.hidden),
            samples=count(self.samples, 2),
            devices=count(self.devices),
            width=count(self.width),
            save_seconds=(self.save_seconds >= 0, "0 or more"),
        )
        # Larger ones would be cut off to 32 bits: two of them could be one run.
        require(self, seeds=(all(0 <= s < 2**32 for s in self.seeds), "in [0, 2^32)"))


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, tests, and leaves the result behind.

    Args:
        config: the settings.
        command: what was typed, for the result.
        console: the `rich.console.Console` to tell progress on.

    Returns:
        The result, as in `result.json`.

    Raises:
        DataFileError: no data, or bad files.
        CheckpointError: see `train.engine.runs.train`.
    """
    from train.dense.figure import draw
    from train.engine.progress import ProgressBar

    dataset = data.load(config.data, config.data_dir)
    out = config.out or Path("runs/dense") / config.data
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"{dataset.source}; results go to {out}")
    runs = all_runs(config)
    with ProgressBar(config.recipe.epochs, len(runs), console) as bar:
        finished = experiment(config, dataset, out / "checkpoint", bar)
    results = [test(config, dataset, *pair) for pair in zip(runs, finished, strict=True)]
    result = {
        "experiment": "dense networks on images",
        "source": "[A] 5.1, Figure 4 left",
        "command": command,
        "commit": machine.commit(),
        "machine": machine.identity(mode(config), config.devices, width(config)),
        "data": dataset.source,
        "settings": settings(config),
        "runs": results,
    }
    write_atomic(out / "result.json", json.dumps(result, indent=1).encode())
    draw([out / "result.json"], out / "figure.png")
    console.print(*report.tables(result))
    say(f"{out}/result.json, {out}/figure.png")
    return result


def settings(config: Config) -> dict[str, Any]:
    """What the results depend on, in the form that JSON gives back."""
    chosen = dataclasses.asdict(config) | {"hidden": hidden(config)}
    for name in ("data_dir", "out", "save_seconds", "mode", "devices", "width"):
        del chosen[name]
    return json.loads(json.dumps(chosen))


def hidden(config: Config) -> int:
    """The width of the hidden layers."""
    if config.hidden is not None:
        return config.hidden
    return 128 if config.data == "digits" else 1024


def mode(config: Config) -> loop.Mode:
    """How the runs are computed."""
    if config.mode != "auto":
        return config.mode
    wide = hidden(config) >= 512 and jax.default_backend() == "cpu"
    return "sequential" if wide else "vmap"


def width(config: Config) -> int | None:
    """How many runs a device maps at a time; none: all."""
    if mode(config) == "sequential":
        return None
    if config.width is not None:
        return config.width
    return len(config.seeds) if jax.default_backend() == "cpu" else None


def experiment(
    config: Config, dataset: Dataset, folder: Path | None, display: Display | None = None
) -> list[Finished]:
    """Trains all runs of the experiment.

    Args:
        config: the settings.
        dataset: the data.
        folder: where the checkpoint lies, if any.
        display: where progress is told.

    Returns:
        What came of each run.
    """
    return train(
        groups(config, dataset.train_x.shape[1]),
        dataset,
        config.recipe,
        mode=mode(config),
        mesh=devices.mesh(config.devices),
        width=width(config),
        folder=folder,
        settings=settings(config) | {"data digest": dataset.digest},
        save_seconds=config.save_seconds,
        display=display,
    )


class Run(NamedTuple):
    """One training of one network."""

    nodes: Nodes
    regulariser: Regulariser
    seed: int

    @property
    def name(self) -> str:
        return f"{self.nodes} {self.regulariser} {self.seed}"


class Rates(NamedTuple):
    """What regularises a run; numbers, or arrays over runs."""

    drop: Any
    pcff: Any


def all_runs(config: Config) -> list[Run]:
    """The runs, in the order of the results."""
    return [
        Run(nodes, regulariser, seed)
        for nodes in config.nodes
        for regulariser in config.regularisers
        for seed in config.seeds
    ]


def rates(config: Config, run: Run) -> Rates:
    """The rates of a run; 0 for what is off."""
    pcff = {"tanh": config.tanh_rate, "relu": config.relu_rate}[run.nodes]
    return Rates(
        drop=config.drop_rate if run.regulariser in ("dropout", "both") else 0.0,
        pcff=pcff if run.regulariser in ("pcff", "both") else 0.0,
    )


def groups(config: Config, features: int) -> list[Group]:
    """The programs of the experiment.

    Mapped, all runs of a node family are one program with arrays of rates: a regulariser that is
    off has rate 0, and its random numbers are drawn and not used. One after the other, each
    (family, regulariser) is a program of its own that knows its rates, and what is off is not
    computed. Without dropout's noise nodes the others have other random numbers, so the mode
    belongs to a checkpoint's identity.

    Args:
        config: the settings.
        features: the number of pixels of an image.
    """
    if mode(config) == "sequential":
        return [
            _group(run.name, [run], config, learner(run.nodes, features, hidden(config), known))
            for run in all_runs(config)
            for known in [rates(config, run)]
        ]
    return [
        _group(
            nodes,
            [run for run in all_runs(config) if run.nodes == nodes],
            config,
            learner(nodes, features, hidden(config)),
        )
        for nodes in config.nodes
    ]


def _group(name: str, runs: Sequence[Run], config: Config, learner: Learner) -> Group:
    keys = [jax.random.key_data(jax.random.key(run.seed)) for run in runs]
    each = [rates(config, run) for run in runs]
    hyper = Rates(*(np.array(column, np.float32) for column in zip(*each, strict=True)))
    return Group(name, learner, tuple(run.name for run in runs), np.stack(keys), hyper)


@functools.lru_cache
def learner(nodes: Nodes, features: int, hidden: int, known: Rates | None = None) -> Learner:
    """The network and what it learns by: maximising log Q of the label, [A] 3.

    Args:
        nodes: the kind of its hidden nodes.
        features: the number of its inputs.
        hidden: the number of nodes of each hidden layer.
        known: its rates, if they are known when it is compiled; else the loss takes them as its
            `hyper`.
    """
    f, state = _network(nodes, features, hidden)

    def init(key: Any) -> Any:
        return cg.functional(_build(nodes, features, hidden, key))[1]

    def loss(params: Any, key: Any, hyper: Rates, x: Array, y: Array) -> tuple[Array, Array]:
        drop, rate = hyper if known is None else known
        logits, _ = cg.pcff(f, rate)(key, params, state, x, None if known and not drop else drop)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses.mean(), (logits.argmax(-1) != y).sum(dtype=jnp.int32)

    def log_probs(params: Any, x: Array) -> Array:
        return jax.nn.log_softmax(f(params, state, x)[0])

    return loop.stateless(init, loss, log_probs)


def _build(nodes: Nodes, features: int, hidden: int, key: Any) -> Dense:
    return Dense(FAMILIES[nodes], features, hidden, CLASSES, nnx.Rngs(key))


def _network(nodes: Nodes, features: int, hidden: int) -> tuple[Callable[..., Any], Any]:
    """The network as a function, and its (empty) state."""
    abstract = nnx.eval_shape(lambda: _build(nodes, features, hidden, jax.random.key(0)))
    f, _, state = cg.functional(abstract)
    return f, state


def test(config: Config, dataset: Dataset, run: Run, finished: Finished) -> dict[str, Any]:
    """The figures of a run on the test set, with the weights of its lowest validation loss.

    Args:
        config: the settings.
        dataset: the data.
        run: which run.
        finished: what came of it.

    Returns:
        What `result.json` says of it. The figures are `None` if its loss never was a number.
    """
    told = {
        **run._asdict(),
        "status": finished.status,
        "epochs": finished.epochs,
        "best epoch": finished.best_epoch,
    }
    if finished.best_epoch == 0:
        return told | {"validation loss": None, "test": None, "monte carlo": None}
    known = rates(config, run)
    told["validation loss"] = float(finished.history[finished.best_epoch - 1, 2])
    features = dataset.test_x.shape[1]
    plain, sampled = _testers(run.nodes, features, hidden(config), config.samples)
    inputs = finished.best.params, dataset.test_x, dataset.test_y, np.float32(dataset.largest)
    told["test"] = _floats(plain(*inputs))
    key = jax.random.fold_in(jax.random.key(run.seed), loop.TEST)
    # Without noise the average of samples is the feed-forward prediction.
    noisy = any(known)
    hyper = Rates(*map(np.float32, known))
    told["monte carlo"] = _floats(sampled(*inputs, hyper, key)) if noisy else None
    return told


def _floats(figures: dict[str, Array]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


@functools.lru_cache
def _testers(
    nodes: Nodes, features: int, hidden: int, samples: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Figures of feed-forward predictions, and of the average prediction of the procedure that the
    network was trained by."""
    f, state = _network(nodes, features, hidden)

    def probs(params: Any, x: Array, drop: Any) -> Array:
        return jax.nn.softmax(f(params, state, x, drop)[0])

    def plain(params: Any, x: Array, y: Array, largest: Array) -> dict[str, Array]:
        def some(x: Array) -> Array:
            return jax.nn.log_softmax(f(params, state, loop.scaled(x, largest))[0])

        return _figures(loop.in_batches(some, x), y)

    def sampled(
        params: Any, x: Array, y: Array, largest: Array, hyper: Rates, key: Any
    ) -> dict[str, Array]:
        # A batch at a time, so that memory is that of a few samples of a thousand images.
        average = cg.monte_carlo(cg.pcff(probs, hyper.pcff), samples, batch_size=4)

        def some(x: Array, number: Array) -> Array:
            images = loop.scaled(x, largest)
            return average(jax.random.fold_in(key, number), params, images, hyper.drop).mean

        # An average may underflow to 0, whose logarithm would make the figures infinite.
        smallest = jnp.finfo(jnp.float32).tiny
        probabilities = jnp.maximum(loop.in_batches(some, x, numbered=True), smallest)
        return _figures(jnp.log(probabilities), y)

    return jax.jit(plain), jax.jit(sampled)


def _figures(log_probs: Array, labels: Array) -> dict[str, Array]:
    probs = jnp.exp(log_probs)
    return {
        "error": metrics.error(log_probs, labels),
        "nll": metrics.nll(log_probs, labels),
        "ece": metrics.ece(probs, labels),
        "brier": metrics.brier(probs, labels),
    }


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        main,
        Config,
        "train.dense",
        "Dense networks on images ([A] 5.1, Figure 4 left).",
        arguments,
        continues="from its last checkpoint",
    )
