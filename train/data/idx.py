"""The IDX format of MNIST: big-endian header, then unsigned bytes; and sets in four such files.

Header: two zero bytes, the element type (8: unsigned byte), the number of dimensions, then each
dimension as a 32-bit big-endian integer.
"""

import math
import struct
from pathlib import Path

import numpy as np

from train.data.archives import Stream, advised, naming, take, unpacked
from train.data.dataset import Part, Parts
from train.report.files import DataFileError, open_regular

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
_REMEDY = "Replace it with a fresh copy of the original file."
_UNSIGNED_BYTE = 8


def parse_idx(stream: Stream, ndim: int, path: Path | str) -> np.ndarray:
    """The read-only `uint8` array in an IDX file, of which no more than one byte is read beyond
    what the header announces.

    The stream has the content from its start, the array `ndim` dimensions: 3 of images, 1 of
    labels; `path` is for error messages. DataFileError if the header is not one of such a file, or
    there are more or fewer bytes than it announces.
    """
    header = take(stream, 4 + 4 * ndim)
    expected = bytes([0, 0, _UNSIGNED_BYTE, ndim])
    if len(header) >= 4 and header[:4] != expected:
        raise DataFileError(
            f"{path}: wrong magic number {header[:4].hex()}, expected {expected.hex()} (an IDX "
            f"file of unsigned bytes with {ndim} dimension{'s' * (ndim > 1)})."
        )
    if len(header) < 4 + 4 * ndim:
        raise DataFileError(f"{path}: truncated: {len(header)} bytes, shorter than its header.")
    shape = struct.unpack(f">{ndim}I", header[4:])
    announced, sizes = math.prod(shape), " x ".join(map(str, shape))
    content = take(stream, announced + 1)
    if len(content) != announced:
        short = len(content) < announced
        raise DataFileError(
            f"{path}: {'truncated' if short else 'too long'}: the header announces {announced} "
            f"bytes of data ({sizes}), there are {len(content) if short else 'more'}."
        )
    try:
        return np.frombuffer(content, np.uint8).reshape(shape)
    except ValueError as error:  # none of these bytes, but more than can be counted of the others
        raise DataFileError(f"{path}: the header announces {sizes}, no array.") from error


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """`parse_idx` of a file, gzipped or not (recognised by its content, not by its name)."""
    with advised(_REMEDY), open_regular(path) as file, naming(path):
        return parse_idx(unpacked(file), ndim, path)


def read(folder: Path) -> tuple[Parts, str]:
    """The four arrays of MNIST or Fashion-MNIST from their files in a folder, gzipped or not."""

    def part(role: str) -> Part:
        stem = FILES[role]
        # `train-images.idx3-ubyte` is how some archives unpack.
        stems = (stem, stem.replace("-idx", ".idx"))
        candidates = [folder / f"{s}{suffix}" for s in stems for suffix in ("", ".gz")]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            raise DataFileError(f"{folder / stem}: missing, gzipped (.gz) or not.")
        return Part(read_idx(path, ndim=3 if role.endswith("images") else 1), path)

    splits = "train", "test"
    return {s: (part(f"{s}_images"), part(f"{s}_labels")) for s in splits}, "local IDX files"
