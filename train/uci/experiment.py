"""Regression on nine UCI tables, eight methods, two kinds of noise ([B] 4.2, Table 2).

One hidden layer of 50 ReLU units (100 for protein); the 20 standard splits of Hernández-Lobato and
Adams (5 for protein) trained at once, as one program mapped over them.

**Protocol.** Everything is trained in units in which the training rows have mean 0 and deviation 1;
figures are in the original units: RMSE of the predictive mean; the average logarithm of the
predictive density, a Gaussian for moments and an even mixture of Gaussians otherwise; and the share
of rows in its central 95 % interval. Every method has five candidates (`train.uci.settings`). They
are compared for each split by log-likelihood on a fifth of its training rows, after a whole
training on the others. The choice is trained again on all rows, and tested once. No figure and no
choice of a split depends on its test rows. All else (epochs, batch sizes) is a fixed table.

**Claims** of the paper: BP (moments, by the ELBO) is level with or better than a deep ensemble and
local reparameterisation on most sets. It prints yacht with an RMSE of 64; a network of this kind is
expected near 1. Peers do better than [B] on energy, naval and yacht (`train.uci.published`).

**Cost**: compiling a cell (a table, a method, a noise; there are 144) takes ten seconds of one
core. Training sees 70 million examples for all tables by one method with one kind of noise, 0.5 to
3 microseconds of a core each, and the search five times as many.

**Left behind** in `--out`: one JSON for each cell, written when it is finished. The same command
skips what is there, so it continues after any interruption. `table.md` beside them.
"""

import functools
import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.uci import FILES, Scaled, Table, load_table, scaled
from train.engine.checkpoint import CheckpointError
from train.report import machine, results
from train.report.files import held, write_atomic
from train.report.settings import require
from train.uci import table as uci_table
from train.uci.methods import CONSTANTS
from train.uci.settings import CANDIDATES, VALIDATION, Cell, Config, Hyper, cells, recipe
from train.uci.training import Scores, Shape, at_once, scored, trained


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
    say, todo = results.said_on(console), cells(config)
    names = dict.fromkeys(cell.data for cell in todo)
    tables = {name: load_table(name, config.data_dir) for name in names}
    for name, table in tables.items():
        fits = config.splits is None or config.splits <= len(table.train)
        require(config, splits=(fits, f"at most {len(table.train)}, the splits of {name}"))
    made: list[dict[str, Any]] = []
    with held(config.out):
        if config.trial:
            from train.uci import trials

            return trials.main(config, tables, command, console)
        started, cells_made = time.monotonic(), 0
        for i, cell in enumerate(todo):
            path, expected = config.out / cell.file, settings(config, cell, tables[cell.data])
            if path.exists():
                made.append(uci_table.read(path))
                same_settings(path, made[-1]["settings"], expected)
                left = "was there"
            else:
                with console.status(f"{i + 1}/{len(todo)} {cell.data} {cell.method} {cell.noise}"):
                    made.append(run(config, cell, tables[cell.data], command))
                results.write(path, made[-1])
                cells_made += 1
                minutes = (time.monotonic() - started) / cells_made * (len(todo) - i - 1) / 60
                left = f"about {minutes:.0f} min left"
            say(f"{i + 1}/{len(todo)} {uci_table.line(made[-1])}; {left}")
        write_atomic(config.out / "table.md", uci_table.markdown(made).encode())
    console.print(*uci_table.tables(made))
    say(f"results in {config.out}, tables in {config.out / 'table.md'}")
    return made


def settings(config: Config, cell: Cell, table: Table) -> dict[str, Any]:
    """What a cell's result depends on, in the form that JSON gives back."""
    digest = hashlib.sha256()
    for array in (table.x, table.y, table.train, table.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        **cell._asdict(),
        **recipe(config, cell.data)._asdict(),
        "splits": config.splits or len(table.train),
        "seed": config.seed,
        "samples": config.samples,
        "candidates": [hyper._asdict() for hyper in CANDIDATES[cell.method]],
        "constants": list(CONSTANTS),
        "table SHA-256": digest.hexdigest(),
    }


def same_settings(where: Any, made: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises CheckpointError if a result was not made with the settings of now."""
    for name, value in expected.items():
        if made.get(name) != value:
            raise CheckpointError(
                f"{where} was made with {name} {made.get(name)!r}, now it is {value!r}. Choose "
                "another --out, or delete the file."
            )


def origin(title: str, config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """What a result of a cell begins with."""
    return results.origin(
        title,
        "[B] 4.2, Table 2",
        command=command,
        identity=machine.identity("vmap"),
        data=table.source if cell.data == "diabetes" else FILES[cell.data],
        settings=settings(config, cell, table),
    )


def run(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """Chooses hyperparameters, trains and tests all splits of a cell.

    Args:
        config: the settings.
        cell: which entry.
        table: its data.
        command: what was typed.

    Returns:
        What its JSON says.
    """
    splits = [scaled(table, split) for split in range(config.splits or len(table.train))]
    fit = fitted(config, cell, splits)
    return {
        **origin("regression on UCI tables", config, cell, table, command),
        "seconds": fit.seconds,
        "splits": [
            {
                **figures(split, Scores(*(values[i] for values in fit.scores)), split.test_y),
                "hyperparameters": {k: float(v[i]) for k, v in fit.hyper._asdict().items()},
                "validation nll": [_figure(nlls[i].mean()) for nlls in fit.nlls],
            }
            for i, split in enumerate(splits)
        ],
    }


def figures(split: Scaled, scores: Scores, y: np.ndarray) -> dict[str, float | None]:
    """What is told of rows of a split with targets y (scaled), in the units of its table."""
    within = (scores.level > 0.025) & (scores.level < 0.975)
    return {
        "rmse": _figure(np.sqrt(np.mean((scores.mean - y) ** 2)) * split.scale),
        # A density by another unit is divided by that unit.
        "log likelihood": _figure(-scores.nll.mean() - math.log(split.scale)),
        "coverage": _figure(within.mean() if np.isfinite(scores.level).all() else math.nan),
    }


class Problem(NamedTuple):
    """All splits of a cell in scaled units, as one program takes them."""

    shape: Shape
    keys: Any
    x: np.ndarray  # float32[splits, rows, features]
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def number(self, examples: int) -> np.ndarray:
        """The same number of examples for each split."""
        return np.full(len(self.x), examples, np.int32)

    def same(self, hyper: Hyper) -> Hyper:
        """The same hyperparameters for each split."""
        return Hyper(*(np.full(len(self.x), value, np.float32) for value in hyper))


def problem(config: Config, cell: Cell, splits: Sequence[Scaled]) -> Problem:
    """What is trained for a cell."""
    fixed = recipe(config, cell.data)
    x, y, test_x, test_y = map(np.stack, list(zip(*splits, strict=True))[:4])
    # The rows' order is not trusted to be random.
    order = np.random.RandomState(config.seed).permutation(x.shape[1])
    shape = Shape(cell.method, cell.noise, fixed.hidden, fixed.batch, config.samples)
    # The key of a split does not depend on how many there are.
    name = hashlib.sha256(f"{cell.data} {cell.method} {cell.noise}".encode()).digest()
    key = jax.random.key(config.seed)
    key = jax.random.fold_in(key, np.uint32(int.from_bytes(name[:4], "little")))
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(np.arange(len(splits)))
    return Problem(shape, keys, x[:, order], y[:, order], test_x, test_y)


class Fit(NamedTuple):
    """A cell, trained and tested; all but the seconds with an axis of splits."""

    hyper: Hyper  # the chosen ones
    nlls: list[np.ndarray]  # float32[splits, validation rows] of each candidate
    params: Any
    scores: Scores  # of the test rows
    seconds: dict[str, float]


def fitted(config: Config, cell: Cell, splits: Sequence[Scaled]) -> Fit:
    """Chooses hyperparameters, trains and tests, in scaled units; test rows are used at the end."""
    fixed = recipe(config, cell.data)
    given = problem(config, cell, splits)
    shape, keys, x, y, test_x, test_y = given
    rows = x.shape[1]
    held_out = max(rows // VALIDATION, 1)
    candidates = CANDIDATES[cell.method]
    seconds: dict[str, float] = {}

    def timed(name: str, function: Any, *args: Any) -> Any:
        start = time.perf_counter()
        out = jax.block_until_ready(function(*args))
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        return out

    def compiled(function: Any, *example: Any) -> Any:
        return timed("compilation", lambda: at_once(function, shape).lower(*example).compile())

    # One program for validation and test rows: the fewer are followed by copies of the first.
    padded = np.arange(max(held_out, test_x.shape[1]))
    scoring = None

    def score(name: str, params: Any, hyper: Hyper, x: np.ndarray, y: np.ndarray) -> Scores:
        nonlocal scoring
        rows = padded * (padded < x.shape[1])
        args = params, keys, hyper, x[:, rows], y[:, rows]
        scoring = scoring or compiled(scored, *args)
        scores = timed(name, scoring, *args)
        return Scores(*(np.asarray(values)[:, : x.shape[1]] for values in scores))

    first = given.same(candidates[0])
    train = compiled(trained, fixed.epochs, keys, first, given.number(rows), x, y)
    nlls: list[np.ndarray] = []
    fit, held_x, held_y = given.number(rows - held_out), x[:, -held_out:], y[:, -held_out:]
    for hyper in map(given.same, candidates):
        params = timed("search", train, fixed.epochs, keys, hyper, fit, x, y)
        nlls.append(score("search", params, hyper, held_x, held_y).nll)
    hyper = Hyper(*np.array(candidates, np.float32)[preferred(np.stack(nlls))].T)
    params = timed("training", train, fixed.epochs, keys, hyper, given.number(rows), x, y)
    return Fit(hyper, nlls, params, score("test", params, hyper, test_x, test_y), seconds)


def preferred(nlls: np.ndarray) -> np.ndarray:
    """The number of the candidate to choose for each split.

    Candidates come with the most trusted first; a later one is chosen if it is better than the
    choice so far by more than the standard error of the difference over the validation rows. On a
    few dozen rows the lowest average is often luck, and costs dearly where it is overconfident.

    Args:
        nlls: of the validation rows, float[candidates, splits, rows].

    Example:
        >>> rows = np.array([0.0, 1.0, 0.0, 1.0])
        >>> preferred(np.stack([rows, rows - 0.1, rows[::-1] - 0.2])[:, None])
        array([1])
    """
    split, best = np.arange(nlls.shape[1]), np.zeros(nlls.shape[1], int)
    finite: np.ndarray = np.all(np.isfinite(nlls), axis=-1)
    for candidate in range(1, len(nlls)):
        # An overconfident candidate's numbers may overflow, or not be numbers.
        with np.errstate(invalid="ignore", over="ignore"):
            gains = nlls[best, split].astype(float) - nlls[candidate]
            better = gains.mean(-1) > gains.std(-1) / math.sqrt(nlls.shape[-1])
        best = np.where(finite[candidate] & (better | ~finite[best, split]), candidate, best)
    return best


def _figure(value: Any) -> float | None:
    """A number, or None for what is not finite: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None
