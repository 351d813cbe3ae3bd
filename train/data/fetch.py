"""Fetches the original files from the addresses that TensorFlow Datasets registers.

TFDS ships, for each set, a table of address, size and SHA-256. Only that table is read: neither
TFDS nor TensorFlow is imported. A short probe comes first, because TFDS's own download manager
retries for minutes on a machine without a network.
"""

import hashlib
import http.client
import importlib.util
import os
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from train.report.files import DataFileError, open_regular

PROBE_SECONDS = 2.0  # so that, with start-up, an offline machine says so within 5 seconds
STALL_SECONDS = 30.0
_CHUNK = 1 << 20
# What a connection may raise: URLError and HTTPError are OSErrors, an answer that is not HTTP or
# breaks off inside a chunk is an HTTPException, and a malformed address a ValueError.
_FAILURES = (OSError, http.client.HTTPException, ValueError)


class RemoteFile(NamedTuple):
    """One line of TFDS's table."""

    url: str
    size: int  # bytes
    sha256: str
    name: str


def registered(name: str) -> list[RemoteFile]:
    """The files of a set as the installed TFDS package registers them; DataFileError if it does not
    list the set, or there is none."""
    found = importlib.util.find_spec("tensorflow_datasets")
    if found is None or not found.submodule_search_locations:
        raise DataFileError(
            "the addresses and checksums come with the package tensorflow-datasets, which is not "
            "installed: `pip install cgjax[train]`."
        )
    table = Path(found.submodule_search_locations[0]) / "url_checksums" / f"{name}.txt"
    if not table.exists():
        raise DataFileError(f"TensorFlow Datasets registers no files of {name}.")
    try:
        lines = [line.split("\t") for line in table.read_text().splitlines() if line.strip()]
        return [RemoteFile(url, int(size), sha256, file) for url, size, sha256, file in lines]
    except (OSError, ValueError) as error:
        raise DataFileError(
            f"{table}: cannot be read as TFDS's table of addresses ({error})."
        ) from error


def cache_folder(name: str) -> Path:
    """Where fetched files are kept: `$XDG_CACHE_HOME/cgjax/NAME`, else under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cgjax" / name


def fetch(name: str) -> Path:
    """The folder with the original files of a set, as TFDS calls it, fetched unless they are there
    already; every file in it has the registered checksum.

    DataFileError if there is no connection (after about two seconds), a transfer broke off or has
    the wrong checksum, or the folder cannot be written. No partial file is left.
    """
    folder = cache_folder(name)
    missing = [file for file in registered(name) if not _present(folder / file.name, file)]
    if missing:
        probe(missing[0].url, name)
    for file in missing:
        print(f"fetching {file.url} ({file.size / 1e6:.1f} MB)", flush=True)
        download(file, folder / file.name)
    return folder


def _present(path: Path, file: RemoteFile) -> bool:
    try:
        with open_regular(path) as kept:
            return hashlib.file_digest(kept, "sha256").hexdigest() == file.sha256
    except (DataFileError, OSError):
        return False


def probe(url: str, name: str, seconds: float = PROBE_SECONDS) -> None:
    """Raises DataFileError, which names the set and the reason, unless `url` answers within so many
    seconds, name resolution included, through the proxy of the environment, if any."""
    outcome: list[str] = []

    def attempt() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                outcome.append("")
        except _FAILURES as error:
            _close(error)
            outcome.append(str(getattr(error, "reason", None) or error) or type(error).__name__)

    # A thread, because nothing else bounds the time that name resolution takes.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if reason := outcome[0] if outcome else f"no answer within {seconds:g} s":
        raise DataFileError(
            f"{name} is not on this machine, and {url} cannot be reached ({reason})."
        )


def download(file: RemoteFile, path: Path) -> None:
    """Fetches one file to `path`, whole and with the right checksum, or not at all: DataFileError
    names address and path."""
    digest, size = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            temporary = Path(folder) / path.name
            with (
                temporary.open("wb") as target,
                urllib.request.urlopen(file.url, timeout=STALL_SECONDS) as answer,
            ):
                while size <= file.size and (chunk := answer.read(_CHUNK)):
                    digest.update(chunk)
                    size += len(chunk)
                    target.write(chunk)
            if digest.hexdigest() == file.sha256:
                temporary.replace(path)
                return
    except _FAILURES as error:
        _close(error)
        raise DataFileError(
            f"fetching {file.url} to {path} failed ({error}); nothing was kept. Start the same "
            "command again."
        ) from error
    raise DataFileError(
        f"{file.url}: {size} bytes with SHA-256 {digest.hexdigest()}, expected "
        f"{file.size} bytes with {file.sha256}; nothing was kept. Start the same command "
        "again; if this stays so, the file at that address has changed."
    )


def _close(error: Exception) -> None:
    """An answer like "404" is an error that holds an open connection."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
