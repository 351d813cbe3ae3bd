"""An experiment from its settings to what it leaves behind, around the training of its runs."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from train.data import Dataset
from train.engine import devices, loop
from train.engine.groups import Group, Layout
from train.engine.progress import Display, ProgressBar
from train.engine.recipes import Recipe
from train.engine.runs import Finished, Keeping, train
from train.engine.settings import Computation
from train.report import files, results
from train.report.results import Result

# In --out.
RESULT, CHECKPOINT = "result.json", "checkpoint"


class Training(NamedTuple):
    """What is trained, on what, and how."""

    title: str  # what `result.json` calls it
    source: str  # where the paper has it
    settings: Computation  # how the runs are computed
    recipe: Recipe
    dataset: Dataset
    groups: Sequence[Group]

    @property
    def size(self) -> int:
        """How many runs there are."""
        return sum(len(group.runs) for group in self.groups)

    def begun(self, finished: Sequence[Finished], command: str) -> Result:
        """What the result begins with."""
        result = results.origin(
            self.title,
            self.source,
            command=command,
            identity=layout(self.settings).identity,
            data=self.dataset.source,
            settings=self.settings.facts(),
        )
        if earlier := [known for known in finished[0].log.commits if known != result["commit"]]:
            result["earlier commits"] = earlier
        return result | {"updates per epoch": self.recipe.steps(len(self.dataset.train_x))}


class Ends(NamedTuple):
    """What is done when the runs have ended, or time is over."""

    test: Callable[[Training, Sequence[Finished]], Result]  # which also leaves the result behind
    draw: Callable[[Sequence[Path], Path], None]  # draw([result.json], figure)
    tables: Callable[[Result], Sequence[Any]]  # of the result, for a terminal


def layout(settings: Computation) -> Layout:
    """How the runs of some settings are computed."""
    mesh = devices.mesh(settings.devices, settings.batch_devices)
    return Layout(settings.how, mesh, settings.mapped)


def carried_out(
    training_of: Callable[[], Training],
    settings: Computation,
    console: Any,
    ends: Ends,
    rows: str = "images",
) -> Result:
    """Trains, tests, and leaves the result, which is returned, and a figure behind.

    What is trained is made when this process has joined the others, if there are any; its `rows`
    are what progress counts. DataFileError if there are no data, or bad files, or the folder cannot
    be written, is another process's, or holds the result of another experiment; else see
    `train.engine.runs.train` and `train.engine.devices`.
    """
    out, budget, began = settings.folder, settings.budget_seconds, time.monotonic()
    devices.join(settings.coordinator, settings.processes, settings.process)
    console.quiet = not devices.is_first()
    say = results.said_on(console)
    with files.held(out) if devices.is_first() else contextlib.nullcontext():
        training = training_of()
        say(f"{training.dataset.source}; results go to {out}")
        if devices.is_first():
            files.refuse_other_result(out / RESULT, training.title, settings.facts())
        with ProgressBar(training.recipe.last_epoch, training.size, console, rows=rows) as bar:
            deadline = None if budget is None else began + budget
            finished = trained(training, out / CHECKPOINT, bar, deadline=deadline)
        result = ends.test(training, finished)
        if devices.is_first():
            ends.draw([out / RESULT], out / "figure.png")
        console.print(*ends.tables(result))
        say(f"{out / RESULT}, {out}/figure.png")
        if running := sum(run.status == loop.STATUS[loop.RUNNING] for run in finished):
            say(
                f"{running} of {len(finished)} runs have not ended. The same command continues "
                f"them, elsewhere with --from and a copy of {out}."
            )
    return result


def trained(
    training: Training,
    folder: Path | None,
    display: Display | None = None,
    *,
    deadline: float | None = None,
) -> list[Finished]:
    """Trains all runs, with the checkpoint in a folder, if there is one; see
    `train.engine.runs.train`."""
    _, _, settings, recipe, dataset, groups = training
    earlier = settings.earlier and settings.earlier / CHECKPOINT
    facts = settings.facts() | {"data digest": dataset.digest}
    keeping = Keeping(folder, earlier, facts, settings.save_seconds, deadline)
    return train(groups, dataset, recipe, layout(settings), keeping, display)


def leave(out: Path, result: Result, finished: Sequence[Finished], rows: str = "images") -> None:
    """Leaves `result.json` and `timing.json` behind, if this process is the first.

    The first is reproducible to the byte; what is not, is in the second: how long the training took
    over all its starts, and the training rows per second over all runs in the median epoch.
    """
    if not devices.is_first():
        return
    log = finished[0].log
    results.write(out / RESULT, result)
    timing = {
        **{name: result[name] for name in ("experiment", "command", "commit", "machine")},
        "seconds of training": round(log.seconds, 1),
        f"training {rows} per second": round(float(np.median(log.rates)), 1),
        "updates per epoch": result["updates per epoch"],
        "runs": len(finished),
        "epochs": len(log.rates),
    }
    results.write(out / "timing.json", timing)
