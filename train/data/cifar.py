"""CIFAR-10 and CIFAR-100 from the files in a folder, in any of three forms.

1. `cifar-10-binary.tar.gz`, the original archive, or its files, `data_batch_1.bin` to
   `data_batch_5.bin` and `test_batch.bin`; `cifar-100-binary.tar.gz` with `train.bin` and
   `test.bin`. Each record is a byte for the class, of CIFAR-100 after one for its superclass, and 3
   x 32 x 32 bytes: channels, rows, columns.
2. `cifar-10-python.tar.gz`, the original archive for Python, or its files `data_batch_1` to
   `data_batch_5` and `test_batch`; `cifar-100-python.tar.gz` with `train` and `test`
   (`train/data/pickled.py`).
3. `cifar10.zip`, `cifar100.zip`: lossless pictures `train/000.webp` and so on, each of ten by ten
   images, row by row, and `train/labels.idx1-ubyte`; the same for `test`.
"""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import archives
from train.data.dataset import Part, Parts
from train.data.idx import parse_idx
from train.data.pickled import parse_pickled_batch
from train.report.files import DataFileError, open_regular

SIDE = 32
PICTURES = "cifar10.zip"
_ACROSS = 10  # images along each side of a picture
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PIXELS = 3 * SIDE * SIDE

Arrays = tuple[np.ndarray, np.ndarray]  # uint8[n, 32, 32, 3] images, uint8[n] labels


class Form(NamedTuple):
    """One of the two forms that a set is published in."""

    archive: str
    folder: str  # in which the archive has its files
    files: tuple[str, ...]  # their names; the last one is for testing
    parse: Callable[[bytes, Path | str], Arrays]  # parse(content, path)
    words: str


class Kind(NamedTuple):
    """One of the two sets."""

    name: str
    forms: tuple[Form, ...]
    pictures: str  # the name of a file of lossless pictures

    def read(self, folder: Path) -> tuple[Parts, str]:
        """The four arrays, by the first form of which something is there."""
        for form in self.forms:
            if (folder / form.archive).exists():
                return _from_archive(folder / form.archive, form), "the original archive"
            for inner in (folder, folder / form.folder):
                paths = [inner / file for file in form.files]
                # Of another set, `train` and `test` are folders.
                if any(path.exists() and not path.is_dir() for path in paths):
                    return _from_files(inner, form), f"local {form.words}"
        if (folder / self.pictures).exists():
            return _from_pictures(folder / self.pictures), "local lossless pictures"
        raise DataFileError(f"{folder}: no file of {self.name} in it.")


def parse_batch(content: bytes, path: Path | str, labels: int = 1) -> Arrays:
    """Images and labels in one of the original binary files.

    Args:
        content: of the file.
        path: for error messages.
        labels: bytes before each image, of which the last one is its class.

    Raises:
        DataFileError: it is not a whole number of records.
    """
    record = labels + _PIXELS
    if len(content) == 0 or len(content) % record:
        raise DataFileError(
            f"{path}: {len(content)} bytes, not a whole number of records of {record} bytes: "
            "truncated, or another file."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    images = records[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return images, records[:, labels - 1]


BINARY = Form(
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-bin",
    tuple(f"{name}.bin" for name in _BATCHES),
    parse_batch,
    "binary files",
)
PICKLED = Form(
    "cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, parse_pickled_batch,
    "pickled batches",
)  # fmt: skip
BINARY_100 = Form(
    "cifar-100-binary.tar.gz",
    "cifar-100-binary",
    ("train.bin", "test.bin"),
    functools.partial(parse_batch, labels=2),
    "binary files",
)
PICKLED_100 = Form(
    "cifar-100-python.tar.gz",
    "cifar-100-python",
    ("train", "test"),
    functools.partial(parse_pickled_batch, labels="fine_labels"),
    "pickled batches",
)
CIFAR_10 = Kind("CIFAR-10", (BINARY, PICKLED), PICTURES)
CIFAR_100 = Kind("CIFAR-100", (BINARY_100, PICKLED_100), "cifar100.zip")


def _from_files(folder: Path, form: Form) -> Parts:
    batches = []
    for path in (folder / name for name in form.files):
        with open_regular(path) as file, archives.naming(path):
            batches.append(form.parse(archives.whole(file), path))
    return _joined(batches, folder)


def _from_archive(path: Path, form: Form) -> Parts:
    def wanted(member: str) -> str | None:
        name = member.rsplit("/", 1)[-1]
        return name if name in form.files else None

    def parse(name: str, stream: archives.Stream) -> Arrays:
        return form.parse(archives.whole(stream), f"{path}: {name}")

    found = archives.members(path, wanted, parse)
    for name in form.files:
        if name not in found:
            raise DataFileError(f"{path}: holds no {name}.")
    return _joined([found[name] for name in form.files], path)


def _joined(batches: list[Arrays], path: Path) -> Parts:
    """Both halves out of the content of their files, the last of which is for testing."""
    images, labels = zip(*batches, strict=True)
    train = Part(np.concatenate(images[:-1]), path), Part(np.concatenate(labels[:-1]), path)
    return {"train": train, "test": (Part(images[-1], path), Part(labels[-1], path))}


def _from_pictures(path: Path) -> Parts:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataFileError(
            f"{path}: reading it needs Pillow: `pip install cgjax[train]`."
        ) from error

    def wanted(member: str) -> str | None:
        split, _, name = member.partition("/")
        known = name == "labels.idx1-ubyte" or name.endswith(".webp")
        return member if split in ("train", "test") and known else None

    def parse(name: str, stream: archives.Stream) -> np.ndarray:
        if not name.endswith(".webp"):
            return parse_idx(stream, 1, f"{path}: {name}")
        content = io.BytesIO(archives.whole(stream))
        with Image.open(content, formats=["WEBP"]) as picture:
            if picture.size != (_ACROSS * SIDE, _ACROSS * SIDE):
                raise ValueError(f"{name} has {picture.size} pixels")
            return np.asarray(picture.convert("RGB"))

    def both(split: str) -> tuple[Part, Part]:
        labels = found.pop(f"{split}/labels.idx1-ubyte", None)
        sheets = [found[name] for name in sorted(found) if name.startswith(f"{split}/")]
        if labels is None or not sheets:
            missing = "labels.idx1-ubyte" if sheets else "000.webp"
            raise DataFileError(f"{path}: holds no {split}/{missing}.")
        grid = np.stack(sheets).reshape(-1, _ACROSS, SIDE, _ACROSS, SIDE, 3)
        images = grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIDE, SIDE, 3)
        return Part(images, path), Part(labels, path)

    found = archives.members(path, wanted, parse)
    return {split: both(split) for split in ("train", "test")}
