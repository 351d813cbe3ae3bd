"""Files that are either whole or absent, and the error for those that are neither."""

import io
import os
import stat
import tempfile
from pathlib import Path


class DataFileError(Exception):
    """A file or folder is missing, unreadable or not what its name says.

    The message names the file, what is wrong with it and what to do about it.
    """


def write_atomic(path: Path, content: bytes) -> None:
    """Writes `content` to `path` so that a reader sees the old file or the whole new one.

    Args:
        path: the file to write; its folder is created.
        content: all of its bytes.

    Raises:
        DataFileError: naming `path` if the folder cannot be written or the disk is full;
        an older file of that name is then untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a" / "b.txt"
        >>> write_atomic(path, b"whole")
        >>> path.read_bytes()
        b'whole'
    """
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
    """Opens a file of bytes, and refuses anything else at once: a pipe may never answer.

    Args:
        path: the file.

    Raises:
        DataFileError: naming `path` and what is wrong with it.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.open("rb")
        reason = "a folder" if path.is_dir() else "a pipe or a device, not a file of bytes"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # of a name with a zero byte
        reason = str(error)
    raise DataFileError(f"cannot read {path}: {reason}.")
