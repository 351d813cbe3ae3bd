"""The one reader of packed files: gzip, tar, zip. It reads no more than is announced.

A damaged file may announce more than there is, and a small one unpack to more than fits into
memory. Nothing here asks for memory before the bytes have come, nothing is unpacked to the disk,
and what carries a checksum is read to its end, where the checksum stands.
"""

import contextlib
import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from train.report.files import DataFileError, open_regular

# Bytes that a packed file may unpack to. CIFAR-10, the largest set here, has 184 MB.
LARGEST = 1 << 30
_PIECE = 1 << 20
_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK"

Content = TypeVar("Content")


class Stream(Protocol):
    """Bytes, read once from the first to the last; `b""` is the end."""

    def read(self, size: int, /) -> bytes: ...


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Names a file in whatever error is raised while it is read.

    The parsers of archives, arrays, pickles and pictures share no base class of errors, and damage
    makes each raise errors of a dozen kinds: a DataFileError comes in place of any `Exception`.
    """
    try:
        yield
    except DataFileError:
        raise
    except Exception as error:
        told = f"truncated, damaged, or not what its name says ({type(error).__name__}: {error})"
        raise DataFileError(f"{path}: {told}.") from error


@contextlib.contextmanager
def advised(remedy: str) -> Iterator[None]:
    """Ends the message of a `DataFileError` with what to do about it."""
    try:
        yield
    except DataFileError as error:
        raise DataFileError(f"{error} {remedy}") from error


def take(stream: Stream, most: int) -> bytes:
    """The next `most` bytes, or what there is. In pieces: whoever asks for a terabyte at once gets
    memory for it before the first byte."""
    pieces = []
    while most > 0 and (piece := stream.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def whole(stream: Stream) -> bytes:
    """All bytes that are left; ValueError if they are more than `LARGEST`."""
    return take(_Bounded(stream), LARGEST + 1)


class _Bounded:
    """A stream that ends in an error after `LARGEST` bytes."""

    def __init__(self, stream: Stream):
        self._stream, self._left = stream, LARGEST

    def read(self, size: int, /) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"its content has more than {LARGEST >> 20} MiB")
        return content


def unpacked(file: BinaryIO) -> Stream:
    """What a file holds, gzipped or not, which its first bytes tell. Reading raises ValueError
    where more than `LARGEST` bytes come out of a gzipped file."""
    packed = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    return _Bounded(gzip.GzipFile(fileobj=file)) if packed else file


def members(
    path: Path, wanted: Callable[[str], str | None], read: Callable[[str, Stream], Content]
) -> dict[str, Content]:
    """What `read(key, stream)`, which has to read the stream to its end, returned of the wanted
    members of a zip file, or of a tar file, gzipped or not.

    The result has it by the key that `wanted(name)` gives, None for a member that is not wanted;
    one that is not there is not in it. DataFileError names a path that is no file, is damaged,
    unpacks to more than `LARGEST` bytes, has two members for one key or one that is not a file, and
    whatever error `read` raised.
    """
    found: dict[str, Content] = {}
    with open_regular(path) as file, naming(path):
        zipped = file.read(2) == _ZIP_MAGIC
        file.seek(0)
        for name, stream in _zipped(file) if zipped else _tarred(file):
            key = wanted(name)
            if key is None:
                continue
            if key in found:
                raise DataFileError(f"{path}: holds {key} twice.")
            if stream is None:
                raise DataFileError(f"{path}: {name} in it is a link or a folder.")
            found[key] = read(key, stream)
    return found


def _zipped(file: BinaryIO) -> Iterator[tuple[str, Stream]]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise ValueError(f"it announces more than {LARGEST >> 20} MiB")
        for entry in entries:
            # Python unpacks the other methods without a bound on what comes out.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{entry.filename} is packed otherwise than by deflate")
            with archive.open(entry) as stream:
                yield entry.filename, stream


def _tarred(file: BinaryIO) -> Iterator[tuple[str, Stream | None]]:
    stream = unpacked(file)
    # As a stream ("r|"): headers of any announced length are then read in pieces.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16) as archive:  # pyright: ignore
        for member in archive:
            yield member.name, archive.extractfile(member) if member.isfile() else None
    # The checksum of gzip stands behind the last member, and behind what fills its block.
    while stream.read(_PIECE):
        pass
