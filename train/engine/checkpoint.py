"""One atomic checkpoint of an experiment: named arrays and JSON facts, in one Orbax step.

Orbax writes a step into a temporary folder and commits it at the end, so that a process killed
during a save leaves the previous step. Two steps are kept, and each has one digest over its number,
facts and arrays, because a flipped bit in any of them would otherwise go unseen.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

KEPT = 2


class CheckpointError(Exception):
    """A checkpoint cannot be written or read, or belongs to something else.

    The message names the folder, what is wrong and what to do about it.
    """


class Saved(NamedTuple):
    """What a checkpoint holds."""

    step: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # whatever JSON can hold


class Checkpoints:
    """The checkpoints of one experiment, in one folder, which the first save creates;
    CheckpointError if its path holds a "[".

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()) / "checkpoints")
        >>> checkpoints.latest() is None
        True
        >>> checkpoints.save(3, {"weights": np.arange(2.0)}, {"epoch": 3})
        >>> checkpoints.latest()
        Saved(step=3, arrays={'weights': array([0., 1.])}, facts={'epoch': 3})
        >>> checkpoints.close()
    """

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        # Orbax would look for the files it has just written by a pattern with this path in it, find
        # none, and call the step complete.
        if "[" in str(self.folder):
            raise CheckpointError(
                f'{self.folder}: a checkpoint cannot lie in a folder with a "[" in its name. '
                "Choose another folder."
            )

    @functools.cached_property
    def _manager(self) -> Any:
        import jax
        import orbax.checkpoint as ocp

        # Whatever fails comes as an exception too; Orbax's log would print it twice before.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        # In the foreground: a save that failed must stop the run at once, and the arrays of the
        # state are donated to the next epoch. And each process for itself: of several that compute
        # together, one writes and all read.
        process = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=process,
            active_processes={process},
            barrier_sync_key_prefix=f"process{process}",
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=alone,
        )
        return ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Saves arrays by name and JSON facts under a number larger than every earlier one, then
        drops all but the newest two steps. CheckpointError if it cannot be written; earlier steps
        are untouched."""
        import orbax.checkpoint as ocp

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            told = {"digest": _digest(step, arrays, facts), "step": step, "facts": facts}
            composite = ocp.args.Composite(
                arrays=ocp.args.StandardSave(dict(arrays)), facts=ocp.args.JsonSave(told)
            )
            with _late_answers_ignored():
                self._manager.save(step, args=composite)
        except Exception as error:  # Orbax and TensorStore raise OSError, ValueError and others
            for unfinished in self.folder.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(unfinished, ignore_errors=True)
            kept = ", ".join(map(str, _steps(self.folder))) or "none"
            raise CheckpointError(
                f"{self.folder}: step {step} could not be saved ({_short(error)}). Complete steps "
                f"there: {kept}, untouched. Free space, or make the folder writable, and start the "
                "same command again."
            ) from error

    def latest(self) -> Saved | None:
        """The newest complete step, or `None` if there is none. CheckpointError if it cannot be
        read or its digests do not match; nothing is deleted."""
        if not _steps(self.folder):
            return None
        import orbax.checkpoint as ocp

        step = _steps(self.folder)[-1]
        try:
            with _late_answers_ignored():
                composite = ocp.args.Composite(
                    arrays=ocp.args.StandardRestore(), facts=ocp.args.JsonRestore()
                )
                restored = self._manager.restore(step, args=composite)
            arrays = {name: np.asarray(array) for name, array in restored["arrays"].items()}
            told = restored["facts"]
            saved = Saved(told["step"], arrays, told["facts"])
            whole = told["digest"] == _digest(*saved)
        except Exception as error:  # a damaged step may raise anything
            raise self._damaged(step, _short(error)) from error
        if not whole:
            raise self._damaged(step, "its content does not match its digest")
        if saved.step != step:
            raise self._damaged(step, f"it holds step {saved.step}")
        return saved

    def require_writable(self) -> None:
        """Raises CheckpointError if a later save could not write to the folder, which exists."""
        if not os.access(self.folder, os.W_OK):
            raise CheckpointError(
                f"{self.folder}: cannot be written. Make it writable, or choose another folder."
            )

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        earlier = _steps(self.folder)[:-1]
        then = f"continue from step {earlier[-1]}" if earlier else "begin anew"
        return CheckpointError(
            f"{self.folder / str(step)}: damaged ({reason}). Delete that folder and start the same "
            f"command again to {then}."
        )

    def close(self) -> None:
        """Lets go of the folder."""
        if manager := vars(self).pop("_manager", None):
            manager.close()


def _steps(folder: Path) -> list[int]:
    """The numbers of the complete steps in a folder, ascending; raises CheckpointError if it cannot
    be read."""
    try:
        if not folder.is_dir():
            return []
        # A step that is still being written has a longer name.
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be read ({error.strerror}). Choose another folder."
        ) from error


def _digest(step: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """SHA-256 of a step; the same before JSON and after."""
    names = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    found = hashlib.sha256(json.dumps([step, names, facts], sort_keys=True).encode())
    for name in sorted(arrays):
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def _late_answers_ignored() -> Iterator[None]:
    """Keeps Python from printing a page for each answer that comes too late: when one of many files
    fails, Orbax closes its event loop and raises; TensorStore then reports the other files to the
    closed loop, from threads of its own."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    except BaseException:
        time.sleep(0.2)  # they come within milliseconds
        raise
    finally:
        sys.unraisablehook = before


def _short(error: Exception) -> str:
    """The first line of an error, which in Orbax may run over pages; its middle are paths."""
    line = (str(error).strip().splitlines() or [""])[0]
    if len(line) > 300:
        line = f"{line[:120]} ... {line[-180:]}"
    return f"{type(error).__name__}: {line}"
