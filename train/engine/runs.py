"""Trains groups of runs to their end, and continues after any interruption, to the same bits.

A group is what one program computes: all runs of a node family, or a single run. After every epoch
the runs that have stopped are set aside; now and then everything goes into one checkpoint.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data import Dataset
from train.engine import devices
from train.engine.checkpoint import CheckpointError, Checkpoints, Saved
from train.engine.groups import Active, Group, Layout
from train.engine.interruption import Interruption
from train.engine.loop import DIVERGED, SETTLED, STATUS, STOPPED, Data, Record, Variables
from train.engine.progress import Clock, Display, Progress
from train.engine.recipes import Recipe
from train.report import machine
from train.report.settings import but_epochs, differences


class Log(NamedTuple):
    """How a training went, over all its starts; nothing that it leads to depends on this. What was
    done after a last save is lost with it, and not counted."""

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


class Keeping(NamedTuple):
    """Where a training is kept, and for how long it goes on."""

    # Where the checkpoint lies, from which the same training continues; none: nothing is saved.
    folder: Path | None = None
    # Where another one of this training lies, which is only read. It is continued unless that in
    # `folder` is as new.
    earlier: Path | None = None
    # Those of the experiment; a checkpoint of others is refused, except that the last epoch
    # ("epochs") may be another: runs that were ended by it go on, or end.
    settings: dict[str, Any] | None = None
    save_seconds: float = 30.0  # the least between two saves; it has no influence on results
    # After it no further epoch is begun: all is saved, and runs that have not ended come back as
    # "running". Each has had an epoch at least.
    deadline: float | None = None


def train(
    groups: Sequence[Group],
    dataset: Dataset,
    recipe: Recipe,
    layout: Layout,
    keeping: Keeping | None = None,
    display: Display | None = None,
    clock: Clock = time.monotonic,
) -> list[Finished]:
    """Trains every run until it stops early, diverges or reaches the last epoch; what came of each,
    in the order of `groups`.

    In the mode "sequential" each group has a single run. The devices of the layout may belong to
    several processes that all call this. CheckpointError if the checkpoint cannot be written or
    read, or was made by other settings, in another mode, or on another kind of machine; ValueError
    if there are fewer training images than a batch holds, or batches cannot be split evenly.
    """
    folder, earlier, settings, save_seconds, deadline = keeping or Keeping()
    size, parts = recipe.batch_size, devices.size(layout.mesh, devices.BATCH)
    if len(dataset.train_x) < size:
        few = f"{len(dataset.train_x)} training images are less than one batch of {size}"
        raise ValueError(f"{few}: use a smaller batch.")
    if size % parts:
        told = f"A batch of {size} cannot be split evenly over {parts} devices"
        raise ValueError(f"{told}: choose another size or number.")
    display, began = display or Display(), clock()
    arrays = *dataset[:4], np.float32(dataset.largest)  # those for training and for validation
    data = Data(*devices.placed(arrays, layout.mesh))
    active = [Active(group, recipe, layout, data) for group in groups]
    facts = {"settings": settings or {}, "identity": layout.identity}
    training = _Training(active, recipe, facts, folder, display)
    training.begin(earlier)
    before = training.log.seconds
    training.save()  # so that a folder that cannot be written is known before an epoch is spent
    last_save, over = clock(), False
    with Interruption() as interruption:
        while training.running and not over:
            rate, end = training.epoch(clock)
            interruption.unsaved = folder is not None
            rates = (*training.log.rates, rate)
            training.log = training.log._replace(seconds=before + end - began, rates=rates)
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
    return training.finished()


_REFUSED = {
    "settings": ("with other settings", "Give those it was made with, or choose another folder."),
    "identity": (
        "by another machine or in another way",
        "The same bits are promised only where these agree: continue there, or choose another "
        "folder to begin anew.",
    ),
}
# What is told of a run that has ended; of one that reached the last epoch, nothing.
_ENDED = {
    DIVERGED: "stopped at epoch {}, its loss is not a finite number; the others go on",
    SETTLED: "ended after epoch {}, as the validation loss has stopped falling and the learning "
    "rate is so small that lowering it further would change nothing",
    STOPPED: f"{STATUS[STOPPED]} after epoch {{}}",
}


class _Training:
    """Groups in the making, with their history, their log and their checkpoint."""

    def __init__(
        self,
        active: Sequence[Active],
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

    def begin(self, earlier: Path | None) -> None:
        """Initial states, or those of the newest checkpoint."""
        found = self._newest(earlier)
        step = -1 if found is None else found[1].step
        if devices.agreed(step) != step:
            raise CheckpointError(
                f"{self.checkpoints and self.checkpoints.folder}: the processes do not see the "
                "same checkpoint there. Choose a folder that they share."
            )
        if found is None:
            for a in self.active:
                a.begin()
        else:
            folder, saved = found
            self._restore(folder, saved)
            self.display.message(f"continuing after epoch {len(self.history)} of {folder}")
            if self.running and self.checkpoints is not None and self._step >= 0:
                self.checkpoints.require_writable()
        commits, commit = self.log.commits, machine.commit()
        if self.running and commit not in commits[-1:]:
            if commits:
                self.display.message(f"the code has changed: {commits[-1]} there, {commit} now")
            self.log = self.log._replace(commits=(*commits, commit))

    def _newest(self, earlier: Path | None) -> tuple[Path, Saved] | None:
        """The newest checkpoint and its folder."""
        own = None if self.checkpoints is None else self.checkpoints.latest()
        self._step = -1 if own is None else own.step
        if earlier is not None:
            with contextlib.closing(Checkpoints(earlier)) as there:
                brought = there.latest()
            if brought is None:
                raise CheckpointError(
                    f"{earlier}: no checkpoint there. Give the folder that was --out, or leave "
                    "--from out to begin anew."
                )
            if self._step < brought.step:
                return earlier, brought
        return None if self.checkpoints is None or own is None else (self.checkpoints.folder, own)

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

    def epoch(self, clock: Clock) -> tuple[float, float]:
        """An epoch of all groups; the training images per second, and the time at its end."""
        start, epoch = clock(), len(self.history) + 1
        seen = self.recipe.steps(len(self.active[0].data.train_x)) * self.recipe.batch_size
        figures = np.full((len(self.names), len(Record._fields)), np.nan, np.float32)
        concerned = self.running
        offset = images = 0
        for a in self.active:
            if len(a.running):
                rows, found = a.epoch()
                figures[offset + rows] = found
                images += len(rows) * seen
                for run in set(rows) - set(a.running):
                    if ended := _ENDED.get(int(a.stored.status[run])):
                        self.display.message(f"{self.names[offset + run]}: {ended.format(epoch)}")
                a.compact()
                done = figures[np.isfinite(figures[:, 0])]
                elapsed = clock() - start
                if len(done):
                    told = Progress(
                        epoch=epoch,
                        finished=len(self.names) - self.running,
                        loss=float(done[:, 0].mean()),
                        error=float(done[:, 3].mean()) if a.group.learner.classifies else None,
                        rate=images / max(elapsed, 1e-9),
                        left=elapsed * concerned / len(done) * self._epochs_left(epoch),
                        exact=self.recipe.last_epoch is not None and not self._first(epoch),
                    )
                    self.display.update(told)
            offset += len(a.group.runs)
        self.history.append(figures)
        end = clock()
        return images / max(end - start, 1e-9), end

    def _first(self, epoch: int) -> bool:
        """Whether later epochs are of another loss, and take another time."""
        firsts = (a.group.learner.first for a in self.active)
        return any(first is not None and epoch <= first.epochs for first in firsts)

    def _epochs_left(self, epoch: int) -> int:
        """The most it can be if there is a last epoch, else the least, in which no run improves any
        more."""
        if self.recipe.last_epoch is not None:
            return self.recipe.last_epoch - epoch
        running = (a for a in self.active if len(a.running))
        left = (jax.tree.map(lambda x, a=a: x[a.running], a.stored.progress) for a in running)
        return max(map(self.recipe.fewest_epochs_left, left), default=0)

    def _restore(self, folder: Path, saved: Saved) -> None:
        """Puts a checkpoint's states, history and log in place."""
        for kind, (made, remedy) in _REFUSED.items():
            then, now = (
                but_epochs(known) for known in (saved.facts.get(kind, {}), self.facts[kind])
            )
            if differing := differences(then, now):
                raise CheckpointError(
                    f"{folder}: the checkpoint was made {made}. {differing}. {remedy}"
                )
        try:
            for a in self.active:
                a.restore(saved.arrays, saved.facts["slots"][a.group.name])
            seconds, rates, commits = (saved.facts["log"][name] for name in Log._fields)
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{folder}: the checkpoint does not fit this experiment ({error}). Choose another "
                "folder."
            ) from error
        self.history = list(saved.arrays.get("history", ()))
        self.log = Log(seconds, tuple(rates), tuple(commits))

    def finished(self) -> list[Finished]:
        """Lets go of the checkpoint; what came of each run."""
        if self.checkpoints is not None:
            self.checkpoints.close()
        results = []
        for a in self.active:
            a.fetch()
            for row, name in enumerate(a.group.runs):
                epochs = int(a.stored.epoch[row])
                figures = np.stack([h[len(results)] for h in self.history[:epochs]])
                by = self.recipe.best_by
                losses = -np.arange(epochs) if by is None else figures[:, Record._fields.index(by)]
                finite = np.isfinite(figures[:, :4]).all(axis=1)
                best = int(np.argmin(np.where(finite, losses, np.inf))) + 1 if finite.any() else 0
                status = STATUS[int(a.stored.status[row])]
                weights = jax.tree.map(lambda leaf, row=row: leaf[row], a.stored.best)
                results.append(Finished(name, status, epochs, best, weights, figures, self.log))
        return results
