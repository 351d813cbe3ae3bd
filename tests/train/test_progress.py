"""Progress in a terminal and in a file."""

import io

from rich.console import Console

from train.engine import progress
from train.engine.progress import Progress, ProgressBar


def shown(seconds, *, terminal):
    """What is written by updates at these times."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)

    now = iter(seconds)
    with ProgressBar(3, 2, console, lambda: next(now)) as bar:
        for epoch in range(1, len(seconds) + 1):
            bar.update(Progress(epoch, 0, loss=0.5, error=0.25, rate=1000.0, left=90.0, exact=True))
        bar.message("run [b]one[/b] stopped")
    return file.getvalue()


def test_a_file_gets_a_line_now_and_then_and_the_last_one():
    later = progress.LINE_SECONDS
    lines = shown([0.0, later / 2, later, 1.5 * later], terminal=False).splitlines()
    assert lines == [
        "epoch 1 0/2 ended loss 0.500 error 25.00% 1000 images/s ≤1:30 left",
        "epoch 3 0/2 ended loss 0.500 error 25.00% 1000 images/s ≤1:30 left",
        "run [b]one[/b] stopped",
        "epoch 4 0/2 ended loss 0.500 error 25.00% 1000 images/s ≤1:30 left",
    ]


def test_a_terminal_gets_a_bar():
    text = shown([0.0, 1.0, 2.0], terminal=True)
    assert "━━━━━━━━━━ 0/2 ended loss 0.500 error 25.00% 1000 images/s ≤1:30 left" in text
    assert "run [b]one[/b] stopped" in text
