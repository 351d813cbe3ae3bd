"""Regression on nine UCI tables, eight methods, two kinds of noise ([B] 4.2, Table 2).

One hidden layer of 50 ReLU units (100 for protein); the 20 standard splits of Hernández-Lobato and
Adams (5 for protein) trained at once, as one program mapped over them.

**Protocol.** Everything is trained in units in which the training rows have mean 0 and deviation 1;
figures are in the original units: RMSE of the predictive mean; the average logarithm of the
predictive density, a Gaussian for moments and an even mixture of Gaussians otherwise; and the share
of rows in its central 95 % interval. Every method has five candidates (`train.uci.settings`). Each
split compares them by log-likelihood on a fifth of its training rows, after a whole training on the
others, trains its choice on all rows, and tests it once. No figure and no choice of a split depends
on its test rows. All else (epochs, batch sizes) is a fixed table.

**Claims** of the paper: BP (moments, by the ELBO) is level with or better than a deep ensemble and
local reparameterisation on most sets. Its RMSE of 64 on yacht is no network's of this kind: those
have about 1. Peers do better than [B] on energy, naval and yacht (`train.uci.published`).

**Cost**: compiling a cell (a table, a method, a noise; there are 144) takes ten seconds of one
core. A training on all tables sees 95 million examples, 0.5 to 3 microseconds of a core each, and
there are six, five of them for the search.

**Left behind** in `--out`: one JSON for each cell, written when it is finished, and `table.md`. The
same command skips what is there, so it continues after any interruption.
"""

import contextlib
import functools
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.uci import FILES, Scaled, Table, load_table, scaled
from train.report import machine, results
from train.report.files import held, write_atomic
from train.report.settings import require
from train.uci import table as uci_table
from train.uci.methods import CONSTANTS
from train.uci.settings import CANDIDATES, VALIDATION, Cell, Config, Hyper, cells, recipe
from train.uci.training import Scores, Shape, at_once, bound, scored, trained


def main(config: Config, command: str, console: Any) -> list[dict[str, Any]]:
    """Trains and tests what is not there yet, and writes the tables; returns the results of all
    cells, as in their JSON. A `CheckpointError` if one in `--out` was made with other settings."""
    names = dict.fromkeys(cell.data for cell in cells(config))
    tables = {name: load_table(name, config.data_dir) for name in names}
    for name, table in tables.items():
        fits = config.splits is None or config.splits <= len(table.train)
        require(config, splits=(fits, f"at most {len(table.train)}, the splits of {name}"))
    with held(config.out):
        if config.trial:
            from train.uci import trials

            return trials.main(config, tables, command, console)
        todo = {cell: settings(config, cell, tables[cell.data]) for cell in cells(config)}
        made: uci_table.Found = results.cells(
            config.out,
            todo,
            console,
            make=lambda cell: run(config, cell, tables[cell.data], command),
            read=uci_table.read,
            line=uci_table.line,
        )
        write_atomic(config.out / "table.md", uci_table.markdown(made).encode())
    console.print(*(grid.rich() for grid in uci_table.grids(made)))
    results.said_on(console)(f"results in {config.out}, tables in {config.out / 'table.md'}")
    return list(made.values())


def settings(config: Config, cell: Cell, table: Table) -> dict[str, Any]:
    """What a cell's result depends on, in the form that JSON gives back."""
    arrays = (np.ascontiguousarray(array).tobytes() for array in table[:4])
    return {
        **cell._asdict(),
        **recipe(config, cell.data)._asdict(),
        "splits": config.splits or len(table.train),
        "seed": config.seed,
        "samples": config.samples,
        "candidates": [hyper._asdict() for hyper in CANDIDATES[cell.method]],
        "constants": list(CONSTANTS),
        "table SHA-256": hashlib.sha256(b"".join(arrays)).hexdigest(),
    }


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
    """Chooses hyperparameters, trains and tests all splits of a cell: what its JSON says."""
    given = problem(config, cell, table)
    fit = fitted(given, CANDIDATES[cell.method], recipe(config, cell.data).epochs)
    return {
        **origin("regression on UCI tables", config, cell, table, command),
        "seconds": fit.seconds,
        "splits": [
            {
                **told,
                "hyperparameters": {k: float(v[i]) for k, v in fit.hyper._asdict().items()},
                "validation nll": [_finite(nll) for nll in fit.nlls[:, i].mean(-1)],
            }
            for i, told in enumerate(given.figures(fit.scores, given.test[1]))
        ],
    }


Rows = tuple[np.ndarray, np.ndarray]  # float32[splits, rows, features], float32[splits, rows]


class Problem(NamedTuple):
    """All splits of a cell, as one program takes them."""

    shape: Shape
    keys: Any
    splits: list[Scaled]
    train: Rows  # in an order of their own
    test: Rows

    @property
    def fit(self) -> int:
        """The number of training rows for comparing candidates."""
        rows = self.train[0].shape[1]
        return rows - max(rows // VALIDATION, 1)

    @property
    def held(self) -> Rows:
        """The other training rows, on which candidates are compared."""
        x, y = self.train
        return x[:, self.fit :], y[:, self.fit :]

    def trained(self, epochs: int, hyper: Hyper, examples: int | None = None) -> Any:
        """The parameters of each split, trained on all or the first training rows, with numbers or
        arrays over splits as hyperparameters."""
        x, y = self.train
        number = np.full(len(x), examples or x.shape[1], np.int32)
        args = epochs, self.keys, self._each(hyper), number, x, y
        return jax.block_until_ready(at_once(trained, self.shape)(*args))

    def scored(self, params: Any, hyper: Hyper, rows: Rows) -> Scores:
        """What the trained networks predict of other rows: float32[splits, rows] each."""
        # One program for validation and test rows: the fewer are followed by copies.
        size = rows[1].shape[1]
        padded = np.arange(max(self.held[1].shape[1], self.test[1].shape[1])) % size
        x, y = (array[:, padded] for array in rows)
        scores = at_once(scored, self.shape)(params, self.keys, self._each(hyper), x, y)
        return Scores(*(np.asarray(values)[:, :size] for values in scores))

    def bound(self, params: Any, hyper: Hyper) -> np.ndarray:
        """The bound of each split over the rows for comparing candidates."""
        x, y = (array[:, : self.fit] for array in self.train)
        return np.asarray(at_once(bound, self.shape)(params, self.keys, self._each(hyper), x, y))

    def figures(self, scores: Scores, y: np.ndarray) -> list[dict[str, Any]]:
        """What is told of rows with targets y (scaled), for each split in the units of its table;
        None for what is not finite, since JSON has no infinity."""
        scale = np.array([split.scale for split in self.splits])
        within = (scores.level > 0.025) & (scores.level < 0.975)
        told = {
            "rmse": np.sqrt(np.mean((scores.mean - y) ** 2, 1)) * scale,
            # A density by another unit is divided by that unit.
            "log likelihood": -scores.nll.mean(1) - np.log(scale),
            "coverage": np.where(np.isfinite(scores.level).all(1), within.mean(1), np.nan),
        }
        return [
            {name: _finite(values[i]) for name, values in told.items()} for i in range(len(scale))
        ]

    def _each(self, hyper: Hyper) -> Hyper:
        number = len(self.splits)
        return Hyper(*(np.broadcast_to(np.float32(value), number) for value in hyper))


def problem(config: Config, cell: Cell, table: Table) -> Problem:
    """What is trained for a cell."""
    fixed = recipe(config, cell.data)
    splits = [scaled(table, split) for split in range(config.splits or len(table.train))]
    x, y, test_x, test_y = map(np.stack, list(zip(*splits, strict=True))[:4])
    # The rows' order is not trusted to be random.
    order = np.random.RandomState(config.seed).permutation(x.shape[1])
    shape = Shape(cell.method, cell.noise, fixed.hidden, fixed.batch, config.samples)
    # The key of a split does not depend on how many there are.
    name = hashlib.sha256(" ".join(cell).encode()).digest()
    key = jax.random.key(config.seed)
    key = jax.random.fold_in(key, np.uint32(int.from_bytes(name[:4], "little")))
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(np.arange(len(splits)))
    return Problem(shape, keys, splits, (x[:, order], y[:, order]), (test_x, test_y))


class Fit(NamedTuple):
    """A cell, trained and tested, in scaled units; all but the seconds with an axis of splits."""

    hyper: Hyper  # the chosen ones
    nlls: np.ndarray  # float32[candidates, splits, validation rows]
    params: Any
    scores: Scores  # of the test rows
    seconds: dict[str, float]


def fitted(given: Problem, candidates: Sequence[Hyper], epochs: int) -> Fit:
    """Chooses hyperparameters, trains and tests; test rows are used at the end."""
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    with timed("compilation"):  # and no epoch
        given.scored(given.trained(0, candidates[0]), candidates[0], given.held)
    nlls = []
    with timed("search"):
        for hyper in candidates:
            params = given.trained(epochs, hyper, given.fit)
            nlls.append(given.scored(params, hyper, given.held).nll)
    hyper = Hyper(*np.array(candidates, np.float32)[preferred(np.stack(nlls))].T)
    with timed("training"):
        params = given.trained(epochs, hyper)
    with timed("test"):
        scores = given.scored(params, hyper, given.test)
    return Fit(hyper, np.stack(nlls), params, scores, seconds)


def preferred(nlls: np.ndarray) -> np.ndarray:
    """The number of the candidate to choose for each split, from float[candidates, splits, rows].

    Candidates come with the most trusted first; a later one is chosen if it is better than the
    choice so far by more than the standard error of the difference over the validation rows. On a
    few dozen rows the lowest average is often luck, and costs dearly where it is overconfident.

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


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
