"""Trains groups of runs to their end, and continues after any interruption, to the same bits.

A group is what one program computes: all runs of a node family, or a single run. After every epoch
the runs that have stopped are set aside; now and then everything goes into one checkpoint.
"""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from train.data import Dataset
from train.engine import devices
from train.engine.checkpoint import CheckpointError, Checkpoints, Saved
from train.engine.interruption import saved_first
from train.engine.loop import (
    CAPPED,
    DIVERGED,
    RUNNING,
    SETTLED,
    STATUS,
    Data,
    Learner,
    Record,
    Variables,
    init_run,
    programs,
)
from train.engine.recipes import Recipe
from train.engine.settings import Mode
from train.report import machine
from train.report.settings import but_epochs, differences


class Group(NamedTuple):
    """Runs that one program computes."""

    name: str
    learner: Learner
    runs: tuple[str, ...]  # a name for each
    keys: np.ndarray  # uint32[runs, 2], the data of each run's key
    hyper: Any  # arrays [runs, ...]: what their losses depend on besides


class Log(NamedTuple):
    """How a training went, over all its starts; nothing that it leads to depends on this.

    What was done after a last save is lost with it, and not counted."""

    seconds: float = 0.0  # from each start to the end of its last epoch
    rates: tuple[float, ...] = ()  # training images per second of each epoch, over all runs
    commits: tuple[str, ...] = ()  # of the source trees that trained, one after the other


class Finished(NamedTuple):
    """What came of a run."""

    name: str
    status: str  # one of train.engine.loop.STATUS
    epochs: int
    best_epoch: int  # from 1; 0 if the figures never were numbers
    best: Variables  # those of that epoch
    history: np.ndarray  # float32[epochs, figures], in the order of train.engine.loop.Record
    log: Log  # of the training of all runs


class Display(Protocol):
    """Where progress is told."""

    def message(self, text: str) -> None:
        """Tells something that happened."""

    def update(
        self,
        *,
        epoch: int,
        finished: int,
        loss: float,
        error: float,
        rate: float,
        left: float,
        exact: bool,
    ) -> None:
        """Tells how far it is.

        Args:
            epoch: the number of the epoch.
            finished: how many runs have ended.
            loss: mean training loss of the runs that had this epoch.
            error: their mean validation error.
            rate: training images per second, over all runs.
            left: seconds to go.
            exact: whether `left` is the most it can take, else the least.
        """


class Silent:
    """Tells nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def update(self, **figures: float) -> None:
        """Nothing."""


class _Active:
    """A group in the making: the states on the device of the runs that have a slot in its program,
    and the latest known states of all its runs on the host."""

    def __init__(
        self,
        group: Group,
        recipe: Recipe,
        mode: Mode,
        mesh: Mesh | None,
        width: int | None,
        data: Data,
    ):
        self.group, self.mesh, self.data, self._last = group, mesh, data, recipe.last_epoch
        self._init, self._epoch = programs(group.learner, recipe, mode, mesh, width)
        # The number of slots is a multiple of this.
        self._unit = (width or 1) * devices.size(mesh, devices.RUNS)
        init = jax.vmap(functools.partial(init_run, group.learner, recipe))
        self._abstract = jax.eval_shape(init, group.keys)
        # A RunState of NumPy arrays.
        self.stored: Any = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), self._abstract)
        self.slots = self._padded(np.arange(len(group.runs)))
        self.state: Any = None
        self.hyper: Any = None

    def begin(self) -> None:
        """Initial states."""
        self.state = self._init(self._placed(self.group.keys[self.slots]))
        self.hyper = self._placed(jax.tree.map(lambda a: a[self.slots], self.group.hyper))

    def restore(self, arrays: dict[str, np.ndarray], slots: Sequence[int]) -> None:
        """States from a checkpoint."""
        paths, structure = jax.tree_util.tree_flatten_with_path(self._abstract)
        leaves = [arrays[self._path(path)] for path, _ in paths]
        for (path, expected), leaf in zip(paths, leaves, strict=True):
            if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
                raise ValueError(f"{self._path(path)} has shape {leaf.shape} and type {leaf.dtype}")
        self.stored = jax.tree.unflatten(structure, [np.array(leaf) for leaf in leaves])
        self.slots = np.asarray(slots, int)
        self._end_or_revive()
        self._load()

    def _end_or_revive(self) -> None:
        """The last epoch may be another than it was when the checkpoint was made."""
        status, last = self.stored.status, self._last
        over = self.stored.epoch >= (np.inf if last is None else last)
        now = np.where((status == RUNNING) & over, CAPPED, status)
        now = np.where((status == CAPPED) & ~over, RUNNING, now)
        if (now != status).any():
            self.stored = self.stored._replace(status=now.astype(status.dtype))
            self.slots = self._padded(self.running)

    def arrays(self) -> dict[str, np.ndarray]:
        """All states, by name, for a checkpoint."""
        self._store()
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.stored)
        return {self._path(path): leaf for path, leaf in leaves}

    def _path(self, path: Any) -> str:
        return f"{self.group.name}{jax.tree_util.keystr(path)}"

    @property
    def running(self) -> np.ndarray:
        """The numbers of the runs that are still running."""
        return np.flatnonzero(np.asarray(self.stored.status) == RUNNING)

    def epoch(self) -> tuple[np.ndarray, np.ndarray]:
        """One epoch; the runs it concerned, and their figures `[runs, figures]`."""
        before = self.running
        self.state, record = self._epoch(self.state, self.hyper, self.data)
        fetch = (record, self.state.status, self.state.progress)
        told, status, progress = devices.fetched(fetch, self.mesh)
        _write(self.stored.status, self.slots, status)
        jax.tree.map(lambda a, b: _write(a, self.slots, b), self.stored.progress, progress)
        figures = np.zeros((len(self.group.runs), len(told)), np.float32)
        _write(figures, self.slots, np.stack(told, axis=-1))
        return before, figures[before]

    def compact(self) -> None:
        """Leaves stopped runs out of the program, once at least half of its slots are idle: every
        number of slots is a program of its own, which takes longer to compile than to share."""
        slots = self._padded(self.running)
        if 2 * len(slots) <= len(self.slots):
            self._store()
            self.slots = slots
            self._load()

    def _store(self) -> None:
        if self.state is not None:
            fresh = devices.fetched(self.state, self.mesh)
            jax.tree.map(lambda kept, new: _write(kept, self.slots, new), self.stored, fresh)

    def _load(self) -> None:
        if len(self.slots) == 0:
            self.state = self.hyper = None
            return
        rows, hyper = (
            jax.tree.map(lambda a: a[self.slots], tree) for tree in (self.stored, self.group.hyper)
        )
        self.state, self.hyper = self._placed(rows), self._placed(hyper)

    def _padded(self, runs: np.ndarray) -> np.ndarray:
        """As many slots as devices and widths share evenly. A run with two is computed twice."""
        return np.resize(runs, -(-len(runs) // self._unit) * self._unit)

    def _placed(self, tree: Any) -> Any:
        return devices.placed(tree, self.mesh, devices.RUNS)


def _write(rows: np.ndarray, slots: np.ndarray, values: np.ndarray) -> None:
    rows[slots] = values


def train(
    groups: Sequence[Group],
    dataset: Dataset,
    recipe: Recipe,
    *,
    mode: Mode,
    mesh: Mesh | None = None,
    width: int | None = None,
    folder: Path | None = None,
    settings: dict[str, Any] | None = None,
    save_seconds: float = 30.0,
    display: Display | None = None,
    clock: Callable[[], float] = time.monotonic,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains every run until it stops early, diverges or reaches the last epoch.

    Args:
        groups: what to train. With `mode="sequential"` each has a single run.
        dataset: on what.
        recipe: how.
        mode: as in `train.engine.loop.programs`.
        mesh: devices along the axes "runs" and perhaps "batch" (`devices.mesh`), which may belong
            to several processes that all call this; none: the default device.
        width: how many runs a device maps at a time; see `train.engine.loop.programs`.
        folder: where the checkpoint lies; a run of the same command continues from it. Without it
            nothing is saved.
        settings: the settings of the experiment; a checkpoint of others is refused, except that
            the last epoch ("epochs") may be another: runs that were ended by it go on, or end.
        save_seconds: the least time between two saves. It has no influence on results.
        display: where progress is told.
        clock: the time in seconds.
        deadline: the time after which no further epoch is begun. All is saved then, and runs that
            have not ended come back as "running"; each has had an epoch at least.

    Returns:
        What came of each run, in the order of `groups`.

    Raises:
        CheckpointError: the checkpoint cannot be written or read, or was made by other settings,
            in another mode, or on another kind of machine.
        ValueError: there are fewer training images than a batch holds, or batches cannot be split
            evenly.
    """
    _require_batches(dataset, recipe, devices.size(mesh, devices.BATCH))
    display, began = display or Silent(), clock()
    largest = np.float32(dataset.largest)
    arrays = dataset.train_x, dataset.train_y, dataset.validation_x, dataset.validation_y, largest
    data = Data(*devices.placed(arrays, mesh))
    parts = devices.size(mesh, devices.RUNS), width, devices.size(mesh, devices.BATCH)
    facts = {"settings": settings or {}, "identity": machine.identity(mode, *parts)}
    active = [_Active(group, recipe, mode, mesh, width, data) for group in groups]
    training = _Training(active, recipe, facts, folder, display)
    training.begin()
    before = training.log.seconds
    training.save()  # so that a folder that cannot be written is known before an epoch is spent
    last_save = clock()
    with saved_first() as interruption:
        while training.running:
            rate, end = training.epoch(clock)
            interruption.unsaved = folder is not None
            log = training.log
            training.log = log._replace(seconds=before + end - began, rates=(*log.rates, rate))
            now = clock()
            over = not training.running or (deadline is not None and now >= deadline)
            due = over or interruption.end is not None or now - last_save >= save_seconds
            due, over = devices.agreed((due, over))
            if due:
                training.save()
                interruption.unsaved = False
                last_save = clock()
            if interruption.end is not None:
                if folder is not None:
                    display.message(f"saved after epoch {len(training.history)}")
                interruption.end()
            if over:
                break
    training.close()
    return _finished(active, recipe, training.history, training.log)


def _require_batches(dataset: Dataset, recipe: Recipe, parts: int) -> None:
    if len(dataset.train_x) < recipe.batch_size:
        raise ValueError(
            f"{len(dataset.train_x)} training images are less than one batch of "
            f"{recipe.batch_size}: use a smaller batch."
        )
    if recipe.batch_size % parts:
        raise ValueError(
            f"A batch of {recipe.batch_size} cannot be split evenly over {parts} devices: choose "
            "another size or number."
        )


class _Training:
    """Groups in the making, with their history, their log and their checkpoint."""

    def __init__(
        self,
        active: Sequence[_Active],
        recipe: Recipe,
        facts: dict[str, Any],
        folder: Path | None,
        display: Display,
    ):
        self.active, self.recipe, self.facts, self.display = active, recipe, facts, display
        self.names = [name for a in active for name in a.group.runs]
        self.checkpoints = None if folder is None else Checkpoints(folder)
        self.history: list[np.ndarray] = []  # float32[runs, figures] of each epoch
        self.log = Log()
        self._step = -1  # the last that was saved

    @property
    def running(self) -> int:
        """How many runs have not ended."""
        return sum(len(a.running) for a in self.active)

    def begin(self) -> None:
        """Initial states, or those of the checkpoint."""
        saved = None if self.checkpoints is None else self.checkpoints.latest()
        self._step = -1 if saved is None else saved.step
        if devices.agreed(self._step) != self._step:
            assert self.checkpoints is not None
            raise CheckpointError(
                f"{self.checkpoints.folder}: the processes do not see the same checkpoint there. "
                "Choose a folder that they share."
            )
        if saved is None:
            for a in self.active:
                a.begin()
        else:
            assert self.checkpoints is not None
            folder = self.checkpoints.folder
            self.history, self.log = _restore(folder, saved, self.facts, self.active)
            self.display.message(f"continuing after epoch {len(self.history)} of {folder}")
            if self.running:
                self.checkpoints.require_writable()
        commits, commit = self.log.commits, machine.commit()
        if self.running and commit not in commits[-1:]:
            if commits:
                self.display.message(f"the code has changed: {commits[-1]} there, {commit} now")
            self.log = self.log._replace(commits=(*commits, commit))

    def save(self) -> None:
        """Saves all, if there is a folder and something new."""
        step = len(self.history)
        if self.checkpoints is None or self._step == step:
            return
        arrays = {name: array for a in self.active for name, array in a.arrays().items()}
        if self.history:
            arrays["history"] = np.stack(self.history)
        if devices.is_first():
            slots = {a.group.name: a.slots.tolist() for a in self.active}
            told = {**self.facts, "slots": slots, "log": self.log._asdict()}
            self.checkpoints.save(step, arrays, told)
        self._step = step

    def epoch(self, clock: Callable[[], float]) -> tuple[float, float]:
        """An epoch of all groups; the training images per second, and the time at its end."""
        start, epoch = clock(), len(self.history) + 1
        seen = self.recipe.steps(len(self.active[0].data.train_x)) * self.recipe.batch_size
        figures = np.full((len(self.names), len(Record._fields)), np.nan, np.float32)
        concerned = self.running
        offset = images = 0
        for a in self.active:
            if len(a.running):
                rows, told = a.epoch()
                figures[offset + rows] = told
                images += len(rows) * seen
                for run in set(rows) - set(a.running):
                    _tell(self.display, self.names[offset + run], a.stored.status[run], epoch)
                a.compact()
                done = figures[np.isfinite(figures[:, 0])]
                elapsed = clock() - start
                if len(done):
                    self.display.update(
                        epoch=epoch,
                        finished=len(self.names) - self.running,
                        loss=float(done[:, 0].mean()),
                        error=float(done[:, 3].mean()),
                        rate=images / max(elapsed, 1e-9),
                        **_left(self.active, self.recipe, epoch, elapsed * concerned / len(done)),
                    )
            offset += len(a.group.runs)
        self.history.append(figures)
        end = clock()
        return images / max(end - start, 1e-9), end

    def close(self) -> None:
        """Lets go of the checkpoint, and brings all states to the host."""
        if self.checkpoints is not None:
            self.checkpoints.close()
        for a in self.active:
            a._store()


def _restore(
    folder: Path, saved: Saved, facts: dict[str, Any], active: Sequence[_Active]
) -> tuple[list[np.ndarray], Log]:
    """Puts a checkpoint's states in place; its history and its log."""
    for kind, told, remedy in (
        (
            "settings",
            "with other settings",
            "Give the settings it was made with, or choose another folder.",
        ),
        (
            "identity",
            "by another machine or in another way",
            "The same bits are promised only where these agree: continue there, or choose another "
            "folder to begin anew.",
        ),
    ):
        then, now = (but_epochs(known) for known in (saved.facts.get(kind, {}), facts[kind]))
        if differing := differences(then, now):
            raise CheckpointError(
                f"{folder}: the checkpoint was made {told}. {differing}. {remedy}"
            )
    try:
        for a in active:
            a.restore(saved.arrays, saved.facts["slots"][a.group.name])
        seconds, rates, commits = (saved.facts["log"][name] for name in Log._fields)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint does not fit this experiment ({error}). Choose another "
            "folder."
        ) from error
    history = list(saved.arrays["history"]) if "history" in saved.arrays else []
    return history, Log(seconds, tuple(rates), tuple(commits))


def _tell(display: Display, name: str, status: int, epoch: int) -> None:
    if status == DIVERGED:
        display.message(
            f"{name}: stopped at epoch {epoch}, its loss is not a finite number; the others go on"
        )
    elif status == SETTLED:
        display.message(
            f"{name}: ended after epoch {epoch}, as the validation loss has stopped falling and "
            "the learning rate is so small that lowering it further would change nothing"
        )
    elif status != CAPPED:
        display.message(f"{name}: {STATUS[status]} after epoch {epoch}")


def _left(active: Sequence[_Active], recipe: Recipe, epoch: int, seconds: float) -> dict[str, Any]:
    """The time to go if epochs last as long as this one did: the most it can be if there is a last
    epoch, else the least, in which no run improves any more."""
    if recipe.last_epoch is not None:
        return {"left": (recipe.last_epoch - epoch) * seconds, "exact": True}
    epochs = [
        recipe.fewest_epochs_left(
            jax.tree.map(lambda leaf, a=a: leaf[a.running], a.stored.progress)
        )
        for a in active
        if len(a.running)
    ]
    return {"left": max(epochs, default=0) * seconds, "exact": False}


def _finished(
    active: Sequence[_Active], recipe: Recipe, history: Sequence[np.ndarray], log: Log
) -> list[Finished]:
    results = []
    for a in active:
        for row, name in enumerate(a.group.runs):
            epochs = int(a.stored.epoch[row])
            figures = np.stack([h[len(results)] for h in history[:epochs]])
            losses = figures[:, Record._fields.index(recipe.best_by)]
            finite = np.isfinite(figures[:, :4]).all(axis=1)
            best = int(np.argmin(np.where(finite, losses, np.inf))) + 1 if finite.any() else 0
            results.append(
                Finished(
                    name=name,
                    status=STATUS[int(a.stored.status[row])],
                    epochs=epochs,
                    best_epoch=best,
                    best=jax.tree.map(lambda leaf, row=row: leaf[row], a.stored.best),
                    history=figures,
                    log=log,
                )
            )
    return results
