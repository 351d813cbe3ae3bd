"""Files of fitted estimators: a header in JSON and arrays, whole or absent, and no code.

An archive of NumPy (`.npz`) with the entry `header`, the bytes of a JSON text that names the format
and its version. Nothing in it is a pickle, so that reading one runs nothing that lies in it.
"""

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "cgjax.estimators"
VERSION = 1
HEADER = "header"
# What reading raises of a file that is none of ours, or was cut or changed.
DAMAGES = (
    AttributeError,  # an array alone
    EOFError,
    KeyError,
    NotImplementedError,  # compressed in a way that Python does not know
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def damaged(path: str | os.PathLike[str], error: Exception) -> ValueError:
    """What is raised about such a file."""
    return ValueError(
        f"{path} was not written by `save` of an estimator of cgjax, or is damaged "
        f"({type(error).__name__}: {error}). Save the estimator again."
    )


def write(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Writes a file in place of an older one at once, after all of it is on the disk."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **header})
    content = io.BytesIO()
    named: Any = {HEADER: np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(content, **named)
    path = Path(path)
    # In the same folder, since a rename is atomic only within one file system.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:  # also after an interruption by the keyboard
        Path(temporary).unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of this format, is damaged, or of a later version.
    """
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
        version = header["version"]
    except DAMAGES as error:
        raise damaged(path, error) from error
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version!r} of the format, and this cgjax reads {VERSION}. "
            "Load it with the cgjax that wrote it, or fit the estimator again."
        )
    return header, arrays
