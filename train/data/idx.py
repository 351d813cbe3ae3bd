"""The IDX format of MNIST: big-endian header, then unsigned bytes; gzipped or not.

Header: two zero bytes, the element type (8: unsigned byte), the number of dimensions, then each
dimension as a 32-bit big-endian integer.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from train.report.files import DataFileError

_REMEDY = "Replace it with a fresh copy of the original file."
_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 8


def parse_idx(content: bytes, ndim: int, path: Path | str) -> np.ndarray:
    """The array in an uncompressed IDX file of unsigned bytes.

    Args:
        content: the bytes of the file.
        ndim: the number of dimensions it must have: 3 for images, 1 for labels.
        path: its name, for error messages.

    Returns:
        a read-only `uint8` array of `ndim` dimensions.

    Raises:
        DataFileError: if the header is not the one of such a file, or if there are more
        or fewer bytes than it announces.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), ndim=1, path="labels")
        array([7, 8, 9], dtype=uint8)
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7]), ndim=1, path="labels")
        Traceback (most recent call last):
        ...
        train.report.files.DataFileError: labels: truncated: the header announces 3 bytes of...
    """
    header_size = 4 + 4 * ndim
    expected = bytes([0, 0, _UNSIGNED_BYTE, ndim])
    if len(content) >= 4 and content[:4] != expected:
        raise DataFileError(
            f"{path}: wrong magic number {content[:4].hex()}, expected {expected.hex()} (an IDX "
            f"file of unsigned bytes with {ndim} dimension{'s' * (ndim > 1)}). {_REMEDY}"
        )
    if len(content) < header_size:
        raise DataFileError(
            f"{path}: truncated: {len(content)} bytes, shorter than its header. {_REMEDY}"
        )
    shape = struct.unpack(f">{ndim}I", content[4:header_size])
    announced = math.prod(shape)
    present = len(content) - header_size
    if present != announced:
        what = "truncated" if present < announced else "too long"
        sizes = " x ".join(map(str, shape))
        raise DataFileError(
            f"{path}: {what}: the header announces {announced} bytes of data ({sizes}), there are "
            f"{present}. {_REMEDY}"
        )
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Reads an IDX file, gzipped or not (recognised by its content, not by its name).

    Args:
        path: the file.
        ndim: as in `parse_idx`.

    Returns:
        a read-only `uint8` array of `ndim` dimensions.

    Raises:
        DataFileError: naming `path` if it cannot be read, is not a whole gzip file, or
        is not such an IDX file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(
            f"{path}: cannot be read: {error.strerror or error}. {_REMEDY}"
        ) from error
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise DataFileError(
                f"{path}: truncated or corrupt gzip file: {error}. {_REMEDY}"
            ) from error
    return parse_idx(content, ndim, path)
