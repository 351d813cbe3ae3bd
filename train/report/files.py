"""Files that are either whole or absent, folders that one process holds, and the error for those
that are neither."""

import contextlib
import fcntl
import io
import json
import os
import stat
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.report.settings import but_epochs, differences


class DataFileError(Exception):
    """A file or folder is missing, unreadable or not what its name says.

    The message names the file, what is wrong with it and what to do about it.
    """


def write_atomic(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whose folder is created, so that a reader sees the old file or
    the whole new one. DataFileError if the folder cannot be written or the disk is full; an older
    file is then untouched."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise DataFileError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose a folder that "
            "can be written; an earlier file of that name is untouched."
        ) from error
    finally:  # also after an interruption by the keyboard
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file of bytes, and refuses anything else at once with a DataFileError: a pipe may
    never answer."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.open("rb")
        reason = "a folder" if path.is_dir() else "a pipe or a device, not a file of bytes"
    except (OSError, ValueError) as error:  # the latter of a name with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
    raise DataFileError(f"cannot read {path}: {reason}.")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a folder for the results of this process alone.

    It is created, and removed again if nothing was written. Another process that wants it is
    refused, until this one has let go or ended, in whatever way. The lock is one of the operating
    system on the folder itself, so that no file is left behind. DataFileError if it cannot be
    created or written, or another process holds it.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DataFileError(
            f"{folder}: results cannot be written there ({error.strerror or error}). Make it "
            "writable, or choose another folder with --out."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFileError(
                f"{folder}: another process writes here. Wait until it has ended, or choose "
                "another folder with --out."
            ) from error
        except OSError as error:  # a file system without locks
            warnings.warn(
                f"{folder} cannot be locked ({error.strerror}): let no other process write there.",
                stacklevel=3,
            )
        yield
    finally:
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def refuse_other_result(path: Path, experiment: str, settings: dict[str, Any]) -> None:
    """Raises DataFileError if a result is there that is not of this experiment, as results call it,
    or of these settings, but for the last epoch."""
    if not path.exists():
        return
    try:
        known = json.loads(path.read_bytes())
        title, facts = known["experiment"], known["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        title, facts = "something that is no result of an experiment", settings
    what = ""
    if title != experiment:
        what = f"it holds {title!r}, not {experiment!r}"
    elif differing := differences(but_epochs(facts), but_epochs(settings)):
        what = f"it was made with other settings. {differing}"
    if what:
        remedy = "Choose another folder with --out, or move the file away."
        raise DataFileError(f"{path}: {what}. {remedy}")
