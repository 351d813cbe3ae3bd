"""A checkpoint that needs NumPy alone, in few files of bounded size.

For machines that have only what the library itself requires, and whose files travel in a few
pieces. The bytes of all arrays, one after the other, are cut into parts. What is where stands in a
small index, which is written last: until it is there, the step before it is complete.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.engine.checkpoint import CheckpointError, Saved
from train.report.files import DataFileError, write_atomic

INDEX = "index.json"
PART_BYTES = 15 * 2**20


class PlainCheckpoints:
    """The checkpoint of one experiment, in one folder; the interface is that of
    `train.engine.checkpoint.Checkpoints`, of which it keeps one step, not two.

    Args:
        folder: where it lies; created by the first save.
        part_bytes: the most of a file.

    Example:
        >>> checkpoints = PlainCheckpoints(Path(tempfile.mkdtemp()) / "checkpoint")
        >>> checkpoints.latest() is None
        True
        >>> checkpoints.save(3, {"weights": np.arange(2.0)}, {"epoch": 3})
        >>> checkpoints.latest()
        Saved(step=3, arrays={'weights': array([0., 1.])}, facts={'epoch': 3})
        >>> sorted(path.name for path in checkpoints.folder.iterdir())
        ['index.json', 'step_3_part_0.bin']
    """

    def __init__(self, folder: Path, part_bytes: int = PART_BYTES):
        self.folder = folder.absolute()
        self._part_bytes = part_bytes

    def save(self, step: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Saves a step, then drops the one before.

        Args:
            step: the number of the step, larger than every earlier one.
            arrays: what to save, by name.
            facts: what to save beside it, as JSON.

        Raises:
            CheckpointError: if it cannot be written; the earlier step is untouched.
        """
        content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
        size = self._part_bytes
        parts = {
            f"step_{step}_part_{k}.bin": content[k * size : (k + 1) * size]
            for k in range(-(-len(content) // size))
        }
        index = {
            "step": step,
            "facts": dict(facts),
            "arrays": {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()},
            "parts": {name: [len(part), _digest(part)] for name, part in parts.items()},
        }
        index = json.loads(json.dumps(index))  # as it will be read
        told = {"sha256": _digest(_canonical(index)), "index": index}
        try:
            for name, part in parts.items():
                write_atomic(self.folder / name, part)
            write_atomic(self.folder / INDEX, json.dumps(told, indent=1).encode())
        except DataFileError as error:
            _remove(self.folder / name for name in parts)
            raise CheckpointError(
                f"{self.folder}: step {step} could not be saved ({error.__cause__}). The step "
                "before it, if there is one, is untouched. Free space, or make the folder "
                "writable, and start the same command again."
            ) from error
        # Also what a process left there that was killed.
        patterns = "step_*", ".step_*", f".{INDEX}.*"
        written = [path for pattern in patterns for path in self.folder.glob(pattern)]
        _remove(path for path in written if path.name not in parts)

    def latest(self) -> Saved | None:
        """The complete step, or `None` if there is none.

        Raises:
            CheckpointError: if it cannot be read, or a file is missing, or its bytes are not those
                that were written. Nothing is deleted.
        """
        index = self._index()
        if index is None:
            return None
        parts = []
        for name, (size, digest) in index["parts"].items():
            path = self.folder / name
            try:
                part = path.read_bytes()
            except OSError as error:
                raise self._damaged(path, str(error.strerror)) from error
            if len(part) != size:
                raise self._damaged(path, f"{len(part)} bytes of {size}")
            if _digest(part) != digest:
                raise self._damaged(path, "its bytes do not match their digest")
            parts.append(part)
        content, arrays, start = b"".join(parts), {}, 0
        for name, (dtype, shape) in index["arrays"].items():
            # A copy, since an array on bytes could not be written to.
            array = np.ndarray(shape, dtype, content, start).copy()
            arrays[name], start = array, start + array.nbytes
        return Saved(index["step"], arrays, index["facts"])

    def require_writable(self) -> None:
        """Creates the folder; raises CheckpointError if a later save could not write to it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".step_"):
                pass
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: cannot be written ({error.strerror}). Make it writable, or choose "
                "another folder."
            ) from error

    def close(self) -> None:
        """Nothing: no file stays open."""

    def _index(self) -> dict[str, Any] | None:
        path = self.folder / INDEX
        try:
            told = json.loads(path.read_bytes())
            if told["sha256"] != _digest(_canonical(told["index"])):
                raise ValueError("its content does not match its digest")
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise CheckpointError(f"{self.folder}: not a folder. Choose another folder.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(path, str(error)) from error
        return told["index"]

    def _damaged(self, path: Path, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{path}: damaged ({reason}). Bring a whole copy of {self.folder} back, or delete it, "
            "and start the same command again."
        )


def _remove(paths: Iterable[Path]) -> None:
    """Removes files; what cannot be removed stays."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(value: Any) -> bytes:
    """The same bytes before JSON and after."""
    return json.dumps(value, sort_keys=True).encode()
