"""Where a training tells its progress: epoch, loss, error, images per second, time left."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

LINE_SECONDS = 10.0  # the least time between two lines where there is no terminal


Clock = Callable[[], float]  # the time in seconds


class Progress(NamedTuple):
    """How far a training is."""

    epoch: int
    finished: int  # how many runs have ended
    loss: float  # mean training loss of the runs that had this epoch
    error: float | None  # their mean validation error; none: nothing is classified
    rate: float  # training images per second, over all runs
    left: float  # seconds to go
    exact: bool  # whether they are the most that it can take, else about the least


class Display:
    """Tells nothing."""

    def message(self, text: str) -> None:
        """Tells something that happened."""

    def update(self, progress: Progress) -> None:
        """Tells how far it is."""


class ProgressBar(Display):
    """Shows the progress of training: on a terminal (`console` is a `rich.console.Console`) a bar,
    which is full at the last epoch, or else shows how many runs have ended; in a file or a pipe,
    where nothing can be drawn over, a line now and then."""

    def __init__(
        self,
        epochs: int | None,
        runs: int,
        console: Any,
        clock: Clock = time.monotonic,
        *,
        rows: str = "images",
    ):
        from rich import progress

        self._epochs, self._runs, self._clock, self._rows = epochs, runs, clock, rows
        self._line, self._next_line = "", -float("inf")
        self._bar = progress.Progress(
            "epoch {task.fields[epoch]}",
            progress.BarColumn(bar_width=10),
            "{task.fields[finished]}/{task.fields[runs]} ended",
            "{task.fields[figures]}",
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=epochs or runs, epoch=0, finished=0, runs=runs, figures="compiling"
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()
        if self._line:
            self.message(self._line)

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        """Moves the bar, or prints a line."""
        epoch, finished, loss, error, rate, left, exact = progress
        minutes, seconds = divmod(max(round(left), 0), 60)
        wrong = "" if error is None else f"error {100 * error:.2f}% "
        figures = (
            f"loss {loss:.3f} {wrong}{rate:.0f} {self._rows}/s "
            f"{'≤' if exact else '≥'}{minutes}:{seconds:02} left"
        )
        if not self._bar.disable:
            told = {"epoch": epoch, "finished": finished, "figures": figures}
            completed = finished if self._epochs is None else epoch
            self._bar.update(self._task, completed=completed, **told)
            return
        self._line = f"epoch {epoch} {finished}/{self._runs} ended {figures}"
        now = self._clock()
        if now >= self._next_line:
            self.message(self._line)
            self._line, self._next_line = "", now + LINE_SECONDS
