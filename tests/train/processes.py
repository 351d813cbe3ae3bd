"""Processes that tests start and kill, forked from one that has imported what they need.

To import JAX, Flax and Orbax takes seconds, which each would begin with.
"""

import importlib
import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

_FORKED = multiprocessing.get_context("forkserver")
# A module that is not found is imported by the processes themselves.
_FORKED.set_forkserver_preload(
    [
        *(__name__, "tests.train.tiny", "orbax.checkpoint", "matplotlib.figure", "rich.console"),
        *("train.dense.experiment", "train.indrnn.experiment"),
    ]
)


class Ended(NamedTuple):
    """What became of a process."""

    killed: bool
    printed: str


def run(
    folder: Path,
    function: Callable[..., Any],
    *arguments: Any,
    until: Callable[[BaseProcess, Path], None] | None = None,
) -> Ended:
    """Calls a function in a process, which is killed when `until(process, what it prints)` returns.

    Programs are kept in a folder of this test alone: processes that may be killed while they write
    leave nothing to others.
    """
    told = folder / "printed"
    told.write_text("")
    process = _FORKED.Process(target=_run, args=(folder, told, function, arguments))
    process.start()
    if until is not None:
        until(process, told)
        process.kill()
    process.join()
    killed = until is not None and process.exitcode == -signal.SIGKILL
    assert killed or process.exitcode == 0, told.read_text()
    return Ended(killed, told.read_text())


def _run(folder: Path, told: Path, function: Callable[..., Any], arguments: Any) -> None:
    """What the process does."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    sys.stdout = sys.stderr = told.open("w", buffering=1)
    function(*arguments)


def command(line: str) -> None:
    """The command of an experiment, of which the first word is the name."""
    name, *words = line.split()
    assert importlib.import_module(f"train.{name}.__main__").cli(words) == 0


def twice(lines: list[str]) -> None:
    """Continues each command, whose last word is its folder, puts what it leaves aside, and runs it
    again from the beginning."""
    for line in lines:
        name, out = line.split()[0], Path(line.split()[-1])
        for place in ("killed", "whole"):
            command(line)
            out.rename(out.with_name(f"{name} {place}"))
