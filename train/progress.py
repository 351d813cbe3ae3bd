"""A progress bar for `train.runs.train`: epoch, loss, error, images per second, time left."""

from types import TracebackType
from typing import Any, Self


class ProgressBar:
    """Shows the progress of training in the terminal; a `train.runs.Display`.

    Args:
        epochs: the last epoch, if there is one: the bar is full there. Without it the bar shows
            how many runs have ended.
        runs: the number of runs.
        console: the `rich.console.Console` to show it on.
    """

    def __init__(self, epochs: int | None, runs: int, console: Any):
        from rich import progress

        self._epochs, self._runs = epochs, runs
        self._bar = progress.Progress(
            progress.TextColumn("epoch {task.fields[epoch]}"),
            progress.BarColumn(bar_width=10),
            progress.TextColumn("{task.fields[finished]}/{task.fields[runs]} ended"),
            progress.TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._task = self._bar.add_task(
            "", total=epochs or runs, epoch=0, finished=0, runs=runs, figures="compiling"
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def message(self, text: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(text, highlight=False)

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
        """Moves the bar; see `train.runs.Display`."""
        minutes, seconds = divmod(max(round(left), 0), 60)
        self._bar.update(
            self._task,
            completed=finished if self._epochs is None else epoch,
            epoch=epoch,
            finished=finished,
            figures=(
                f"loss {loss:.3f} error {100 * error:.2f}% {rate:.0f} images/s "
                f"{'≤' if exact else '≥'}{minutes}:{seconds:02} left"
            ),
        )
