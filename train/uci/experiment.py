"""Regression on nine UCI tables, eight methods, two kinds of noise ([B] 4.2, Table 2).

    python -m train.uci                                    # scikit-learn's diabetes, without files
    python -m train.uci --data-dir FOLDER                  # the nine sets, all methods
    python -m train.uci --data-dir FOLDER --data yacht boston --methods moments_adam --splits 5
    python -m train.uci.table results/uci                  # the tables again, from the results

One hidden layer of 50 ReLU units (100 for protein); the 20 standard splits of Hernández-Lobato and
Adams (5 for protein) trained at once, as one program mapped over them. Methods: means and variances
in closed form with natural gradient and with Adam (what [B] calls BP, by the ELBO), local
reparameterisation, Bayes by backprop, flipout, a deep ensemble of 5, MC dropout, PCFF. Noise: its
variance is computed by the network (heteroscedastic), or is one number (homoscedastic).

**Protocol.** Everything is trained in units in which the training rows have mean 0 and deviation 1;
figures are in the original units: RMSE of the predictive mean, and the average logarithm of the
predictive density, a Gaussian for moments and an even mixture of Gaussians otherwise. A method's
candidates (`train.uci.methods`) are compared for each split by log-likelihood on a fifth of its
training rows, after a training on the others (a shorter one for the large tables); a bolder one
must be better by a standard error. The choice is trained again on all rows, and tested once. No
figure and no choice of a split depends on its test rows. All else (epochs, batch sizes) is a fixed
table.

**Claims** of the paper: BP is level with or better than a deep ensemble and local
reparameterisation on most sets. It prints yacht with an RMSE of 64; a network of this kind is
expected near 1. Peers do better than [B] on energy, naval and yacht (`train.uci.published`).

**Cost**: compiling a cell (a table, a method, a kind of noise) takes about ten seconds of one core,
and there are 144 of them. Training sees about 70 million examples for all tables by one method with
one kind of noise, 0.5 to 3 microseconds of a core each, and the search twice as many again.

**Left behind** in `--out`: one JSON for each cell, written when it is finished. The same command
skips what is there, so it continues after any interruption. `table.md` beside them.
"""

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from train.data.uci import FILES, Scaled, Table, load_table, scaled
from train.engine.checkpoint import CheckpointError
from train.report import commandline, machine
from train.report.files import write_atomic
from train.report.settings import require
from train.uci import table as uci_table
from train.uci.methods import CANDIDATES, CONSTANTS, Hyper, MethodName, Noise
from train.uci.training import Shape, compiled_scorer, compiled_trainer

TableName = Literal[
    "diabetes",
    "boston",
    "concrete",
    "energy",
    "kin8nm",
    "naval",
    "power",
    "protein",
    "wine",
    "yacht",
]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long and how wide a table is trained, whatever the method."""

    epochs: int
    search_epochs: int  # for comparing candidates: fewer where there are many rows
    batch: int
    hidden: int = 50


RECIPES: dict[str, Recipe] = {
    "diabetes": Recipe(100, 100, 32),
    "boston": Recipe(300, 300, 32),
    "concrete": Recipe(400, 400, 32),
    "energy": Recipe(600, 600, 32),
    "kin8nm": Recipe(60, 20, 64),
    "naval": Recipe(60, 20, 64),
    "power": Recipe(40, 10, 64),
    "protein": Recipe(100, 20, 256, hidden=100),
    "wine": Recipe(60, 60, 32),
    "yacht": Recipe(800, 800, 32),
}
VALIDATION = 5  # one in so many training rows is for choosing hyperparameters


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the experiment."""

    data: tuple[TableName, ...] = ()
    """Which tables; without it all nine if there is a --data-dir, and diabetes if not."""
    data_dir: Path | None = None
    """The folder with the nine files, NAME.npz."""
    methods: tuple[MethodName, ...] = get_args(MethodName)
    noise: tuple[Noise, ...] = ("heteroscedastic", "homoscedastic")
    splits: int | None = None
    """How many of a table's splits, from the first; without it all."""
    seed: int = 0
    epochs: int | None = None
    """For all tables; without it those of each table's recipe."""
    hidden: int | None = None
    """Units of the hidden layer; without it 50, and 100 for protein."""
    samples: int = 100
    """Networks whose predictions are mixed, for methods that sample."""
    out: Path = Path("runs/uci")
    """The folder for results."""

    def __post_init__(self) -> None:
        def chosen(values: Sequence[Any], least: int = 1) -> tuple[bool, str]:
            fits = len(values) >= least and len(set(values)) == len(values)
            return fits, "at least one, and none twice"

        def count(value: int | None) -> tuple[bool, str]:
            return value is None or value >= 1, "at least 1"

        require(
            self,
            data=chosen(self.data, least=0),
            methods=chosen(self.methods),
            noise=chosen(self.noise),
            splits=count(self.splits),
            seed=(0 <= self.seed < 2**32, "in [0, 2^32)"),
            epochs=count(self.epochs),
            hidden=count(self.hidden),
            samples=count(self.samples),
        )


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the table: what is trained together, and finished or not."""

    data: TableName
    method: MethodName
    noise: Noise

    @property
    def file(self) -> Path:
        """Where its result lies, below the folder for results."""
        return Path(self.data) / f"{self.method}-{self.noise}.json"


def main(config: Config, command: str, console: Any) -> list[dict[str, Any]]:
    """Trains and tests what is not there yet, and writes the tables.

    Args:
        config: the settings.
        command: what was typed, for the results.
        console: the `rich.console.Console` to tell progress on.

    Returns:
        The results of all cells, as in their JSON.

    Raises:
        DataFileError: no data, or bad files.
        CheckpointError: a result in `--out` was made with other settings.
    """
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    todo = cells(config)
    names = dict.fromkeys(cell.data for cell in todo)
    tables = {name: load_table(name, config.data_dir) for name in names}
    for name, table in tables.items():
        require(
            config,
            splits=(
                config.splits is None or config.splits <= len(table.train),
                f"at most {len(table.train)}, the splits of {name}",
            ),
        )
    results: list[dict[str, Any]] = []
    started, work_done = time.monotonic(), 0.0
    work = [_work(config, cell, tables[cell.data]) for cell in todo]
    for i, cell in enumerate(todo):
        path = config.out / cell.file
        result = finished(path, settings(config, cell, tables[cell.data]))
        if result is None:
            with console.status(f"{i + 1}/{len(todo)} {cell.data} {cell.method} {cell.noise}"):
                result = run(config, cell, tables[cell.data])
            result = {**result, "command": command}
            write_atomic(path, json.dumps(result, indent=1, allow_nan=False).encode())
            work_done += work[i]
            left = (time.monotonic() - started) / work_done * sum(work[i + 1 :])
            say(f"{i + 1}/{len(todo)} {uci_table.line(result)}; about {left / 60:.0f} min left")
        else:
            say(f"{i + 1}/{len(todo)} {uci_table.line(result)}; was there")
        results.append(result)
    write_atomic(config.out / "table.md", uci_table.markdown(results).encode())
    console.print(*uci_table.tables(results))
    say(f"results in {config.out}, tables in {config.out / 'table.md'}")
    return results


def cells(config: Config) -> list[Cell]:
    """All entries of the table, one table after the other."""
    names = config.data or (tuple(FILES) if config.data_dir is not None else ("diabetes",))
    return [
        Cell(name, method, noise)  # pyright: ignore[reportArgumentType]
        for name in names
        for method in config.methods
        for noise in config.noise
    ]


def recipe(config: Config, data: TableName) -> Recipe:
    """How a table is trained."""
    fixed = RECIPES[data]
    return dataclasses.replace(
        fixed,
        epochs=config.epochs or fixed.epochs,
        search_epochs=config.epochs or fixed.search_epochs,
        hidden=config.hidden or fixed.hidden,
    )


def settings(config: Config, cell: Cell, table: Table) -> dict[str, Any]:
    """What a cell's result depends on, in the form that JSON gives back."""
    digest = hashlib.sha256()
    for array in (table.x, table.y, table.train, table.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        **dataclasses.asdict(cell),
        **dataclasses.asdict(recipe(config, cell.data)),
        "splits": _splits(config, table),
        "seed": config.seed,
        "samples": config.samples,
        "candidates": [list(map(float, hyper)) for hyper in CANDIDATES[cell.method]],
        "constants": list(CONSTANTS),
        "table SHA-256": digest.hexdigest(),
    }


def finished(path: Path, expected: dict[str, Any]) -> dict[str, Any] | None:
    """A cell's result, if it is there.

    Args:
        path: of its JSON.
        expected: its settings.

    Raises:
        DataFileError: the file is no such result.
        CheckpointError: it was made with other settings.
    """
    result = uci_table.read(path) if path.exists() else None
    if result is None:
        return None
    for name, value in expected.items():
        if result["settings"].get(name) != value:
            raise CheckpointError(
                f"{path} was made with {name} {result['settings'].get(name)!r}, now it is "
                f"{value!r}. Choose another --out, or delete the file."
            )
    return result


def run(config: Config, cell: Cell, table: Table) -> dict[str, Any]:
    """Chooses hyperparameters, trains and tests all splits of a cell.

    Args:
        config: the settings.
        cell: which entry.
        table: its data.

    Returns:
        What its JSON says, but for the command.
    """
    splits = [scaled(table, split) for split in range(_splits(config, table))]
    chosen, _, test, times = fitted(config, cell, splits)
    figures = [
        {
            "rmse": _figure(rmse * split.scale),
            # A density by another unit is divided by that unit.
            "log likelihood": _figure(-nll.mean() - math.log(split.scale)),
            "hyperparameters": [float(value[i]) for value in chosen[0]],
            "validation nll": [_figure(nlls[i].mean()) for nlls in chosen[1]],
        }
        for i, (split, rmse, nll) in enumerate(zip(splits, *test, strict=True))
    ]
    return {
        "experiment": "regression on UCI tables",
        "source": "[B] 4.2, Table 2",
        "commit": machine.commit(),
        "machine": machine.identity("vmap"),
        "data": table.source if cell.data == "diabetes" else FILES[cell.data],
        "settings": settings(config, cell, table),
        "seconds": times,
        "splits": figures,
    }


def fitted(config: Config, cell: Cell, splits: Sequence[Scaled]) -> tuple[Any, Any, Any, Any]:
    """Chooses hyperparameters, trains and tests, in scaled units.

    Args:
        config: the settings.
        cell: which entry.
        splits: the data; test rows are used once, at the end.

    Returns:
        `((hyper, validation NLLs of each candidate), params, (RMSE, NLLs), seconds)`, each an array
        with an axis of splits but for the seconds; NLLs have another, of rows.
    """
    fixed = recipe(config, cell.data)
    x, y, test_x, test_y = map(np.stack, list(zip(*splits, strict=True))[:4])
    rows = x.shape[1]
    held_out = max(rows // VALIDATION, 1)
    # The rows' order is not trusted to be random.
    order = np.random.RandomState(config.seed).permutation(rows)
    x, y = x[:, order], y[:, order]
    shape = Shape(cell.method, cell.noise, fixed.hidden, fixed.batch, config.samples)
    keys = _keys(config, cell, len(splits))
    candidates = [
        Hyper(*(np.full(len(splits), value, np.float32) for value in candidate))
        for candidate in CANDIDATES[cell.method]
    ]
    seconds: dict[str, float] = {}

    def timed(name: str, function: Any, *args: Any) -> Any:
        start = time.perf_counter()
        out = jax.block_until_ready(function(*args))
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        return out

    def number(examples: int) -> np.ndarray:
        return np.full(len(splits), examples, np.int32)

    first = candidates[0]
    train = timed(
        "compilation", compiled_trainer, shape, fixed.epochs, keys, first, number(rows), x, y
    )

    def scorer(params: Any, x: np.ndarray, y: np.ndarray) -> Any:
        return timed("compilation", compiled_scorer, shape, params, keys, first, x, y)

    nlls: list[np.ndarray] = []
    fit, held_x, held_y = number(rows - held_out), x[:, -held_out:], y[:, -held_out:]
    validate = None
    for hyper in candidates:
        params = timed("search", train, fixed.search_epochs, keys, hyper, fit, x, y)
        validate = validate or scorer(params, held_x, held_y)
        _, nll = timed("search", validate, params, keys, hyper, held_x, held_y)
        nlls.append(np.asarray(nll))
    best = preferred(np.stack(nlls))
    hyper = Hyper(
        *(
            np.stack(values)[best, np.arange(len(splits))]
            for values in zip(*candidates, strict=True)
        )
    )
    params = timed("training", train, fixed.epochs, keys, hyper, number(rows), x, y)
    test = timed("test", scorer(params, test_x, test_y), params, keys, hyper, test_x, test_y)
    return (hyper, nlls), params, [np.asarray(figure) for figure in test], seconds


def preferred(nlls: np.ndarray) -> np.ndarray:
    """The number of the candidate to choose for each split.

    Candidates come with the most cautious first; a later one is chosen if it is better than the
    choice so far by more than the standard error of the difference over the validation rows. On a
    few dozen rows the lowest average is often luck, and costs dearly where it is overconfident.

    Args:
        nlls: of the validation rows, float[candidates, splits, rows].

    Example:
        >>> rows = np.array([0.0, 1.0, 0.0, 1.0])
        >>> preferred(np.stack([rows, rows - 0.1, rows[::-1] - 0.2])[:, None])
        array([1])
    """
    candidates, splits, rows = nlls.shape
    best = np.zeros(splits, int)
    for candidate in range(1, candidates):
        for split in range(splits):
            # An overconfident candidate's numbers may overflow, or not be numbers.
            with np.errstate(invalid="ignore", over="ignore"):
                gain = nlls[best[split], split].astype(float) - nlls[candidate, split]
                error = gain.std() / math.sqrt(rows)
                bad = not np.isfinite(nlls[best[split], split]).all()
            finite = np.isfinite(nlls[candidate, split]).all()
            if finite and (bad or gain.mean() > error):
                best[split] = candidate
    return best


def _splits(config: Config, table: Table) -> int:
    return config.splits or len(table.train)


def _keys(config: Config, cell: Cell, splits: int) -> Any:
    """A key for each split; that of a split does not depend on how many there are."""
    name = f"{cell.data} {cell.method} {cell.noise}".encode()
    number = int.from_bytes(hashlib.sha256(name).digest()[:4], "little")
    key = jax.random.fold_in(jax.random.key(config.seed), np.uint32(number))
    return jax.vmap(functools.partial(jax.random.fold_in, key))(np.arange(splits))


def _figure(value: Any) -> float | None:
    """A number, or None for what is not finite: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


def _work(config: Config, cell: Cell, table: Table) -> float:
    """Roughly how long a cell takes, relative to others."""
    fixed = recipe(config, cell.data)
    epochs = fixed.epochs + fixed.search_epochs * len(CANDIDATES[cell.method])
    visits = _splits(config, table) * table.train.shape[1] * epochs
    return 4e6 + visits  # the first is for compilation


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.uci",
        Config,
        "train.uci.experiment",
        description="Regression on UCI tables ([B] 4.2, Table 2).",
        example="python -m train.uci --data-dir FOLDER --data yacht --methods moments_adam",
        continues="with the next cell",
        arguments=arguments,
    )
