"""CIFAR-10 by five ways that give the same arrays, bit for bit.

1. A folder prepared by TensorFlow Datasets as array_record (`train/data/prepared.py`).
2. `cifar-10-binary.tar.gz`, the original archive, from the address that TensorFlow Datasets
   registers (`train/data/fetch.py`) or in a local folder.
3. The files of that archive, `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`. Each
   record is a byte for the class and 3 x 32 x 32 bytes: channels, rows, columns.
4. `cifar-10-python.tar.gz`, the original archive for Python, or its files `data_batch_1` to
   `data_batch_5` and `test_batch` (`train/data/pickled.py`).
5. `cifar10.zip`: lossless pictures `train/000.webp` and so on, each of ten by ten images, row by
   row, and `train/labels.idx1-ubyte`; the same for `test`.

Whatever the way, images and labels are held to the SHA-256 of the published set, in its order.
"""

import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import fetch, prepared
from train.data.dataset import Dataset
from train.data.idx import parse_idx
from train.data.pickled import parse_pickled_batch
from train.report.files import DataFileError

NAME = "cifar10"
CLASSES = 10
SIDE = 32
COUNTS = {"train": 50_000, "test": 10_000}
# SHA-256 of the images, uint8[n, 32, 32, 3], and of the labels, uint8[n].
SHA256 = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
PICTURES = "cifar10.zip"
_ACROSS = 10  # images along each side of a picture
_RECORD = 1 + 3 * SIDE * SIDE
# What a damaged archive raises, depending on where the damage is.
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError)


class Split(NamedTuple):
    """One half of the set, and the file or folder to name when it is wrong."""

    images: np.ndarray  # uint8[n, 32, 32, 3]
    labels: np.ndarray  # uint8[n]
    path: Path


class Form(NamedTuple):
    """One of the two forms that the set is published in."""

    archive: str
    folder: str  # in which the archive has its files
    ending: str  # of their names
    # parse(content, path) -> (uint8[n, 32, 32, 3] images, uint8[n] labels)
    parse: Callable[[bytes, Path | str], tuple[np.ndarray, np.ndarray]]
    words: str

    @property
    def files(self) -> dict[str, list[str]]:
        """The names of the files of each half."""
        return {
            "train": [f"data_batch_{number}{self.ending}" for number in range(1, 6)],
            "test": [f"test_batch{self.ending}"],
        }


def load_cifar10(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """CIFAR-10: the first nine tenths of its training images, the last tenth, the test images.

    Args:
        data_dir: a folder with one of the forms above. Without it: TensorFlow Datasets' own folder
            if it holds a prepared set, else the archive is fetched once and kept.

    Returns:
        a `Dataset` of 45,000 training, 5,000 validation and 10,000 test images; a row holds rows,
        columns and channels of an image, in this order.

    Raises:
        DataFileError: naming the file or folder and the way out. A set with other counts than the
        published one cannot be verified; it is accepted and its `source` says so.
    """
    try:
        splits, way = _read(None if data_dir is None else Path(data_dir).expanduser())
    except OSError as error:  # of a folder that may not be entered, for example
        raise DataFileError(
            f"{error.filename}: cannot be read: {error.strerror}. {fetch.ways_out(NAME)}"
        ) from error
    verified = _check(splits)
    train, test = splits["train"], splits["test"]
    count = len(train.images)
    proof = "verified by SHA-256" if verified else "NOT the published set, hence unverified"
    source = f"{NAME} from {way}, {count} + {len(test.images)} images, {proof}"
    return Dataset.of(train[:2], test[:2], count * 9 // 10, source)


def _read(data_dir: Path | None) -> tuple[dict[str, Split], str]:
    """Both halves by the first way that applies, and the way in words."""
    if data_dir is None:
        folder = prepared.find(prepared.default_root(), NAME)
        if folder is not None and prepared.file_format(folder) == prepared.FORMAT:
            return _from_prepared(folder), "a prepared TFDS folder"
        archive = fetch.fetch(NAME) / BINARY.archive
        return _from_archive(archive, BINARY), "the address that TFDS registers"
    if not data_dir.is_dir():
        raise DataFileError(f"{data_dir}: no such folder. {fetch.ways_out(NAME)}")
    folder = prepared.find(data_dir, NAME)
    if folder is not None:
        return _from_prepared(folder), "a prepared TFDS folder"
    for form in (BINARY, PICKLED):
        if (data_dir / form.archive).exists():
            return _from_archive(data_dir / form.archive, form), "the original archive"
        for folder in (data_dir, data_dir / form.folder):
            if any((folder / name).exists() for names in form.files.values() for name in names):
                return _from_files(folder, form), f"local {form.words}"
    if (data_dir / PICTURES).exists():
        return _from_pictures(data_dir / PICTURES), "local lossless pictures"
    raise DataFileError(f"{data_dir}: no file of CIFAR-10 in it. {fetch.ways_out(NAME)}")


def _from_prepared(folder: Path) -> dict[str, Split]:
    return {
        split: Split(*prepared.read(folder, NAME, split, count), folder)
        for split, count in COUNTS.items()
    }


def parse_batch(content: bytes, path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in one of the original binary files.

    Args:
        content: its bytes.
        path: its name, for error messages.

    Returns:
        `uint8[n, 32, 32, 3]` images and `uint8[n]` labels.

    Raises:
        DataFileError: the file is not a whole number of records.

    Example:
        >>> images, labels = parse_batch(bytes([7]) + bytes(3072), "batch")
        >>> images.shape, labels
        ((1, 32, 32, 3), array([7], dtype=uint8))
    """
    if len(content) == 0 or len(content) % _RECORD:
        raise DataFileError(
            f"{path}: {len(content)} bytes, not a whole number of records of {_RECORD} bytes: "
            f"truncated, or another file. {fetch.ways_out(NAME)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    images = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return images, records[:, 0]


BINARY = Form("cifar-10-binary.tar.gz", "cifar-10-batches-bin", ".bin", parse_batch, "binary files")
PICKLED = Form(
    "cifar-10-python.tar.gz", "cifar-10-batches-py", "", parse_pickled_batch, "pickled batches"
)


def _from_files(folder: Path, form: Form) -> dict[str, Split]:
    def content(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataFileError(
                f"{folder / name}: cannot be read: {error.strerror or error}. "
                f"{fetch.ways_out(NAME)}"
            ) from error

    return _joined(content, folder, form)


def _from_archive(path: Path, form: Form) -> dict[str, Split]:
    wanted = {name for names in form.files.values() for name in names}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                # Nothing is unpacked to the disk, whatever names the archive holds.
                if member.isfile() and name in wanted and (file := archive.extractfile(member)):
                    found[name] = file.read()
    except _DAMAGE as error:
        raise _damaged(path, error) from error

    def content(name: str) -> bytes:
        if name not in found:
            raise DataFileError(f"{path}: holds no {name}. {fetch.ways_out(NAME)}")
        return found[name]

    return _joined(content, path, form)


def _joined(content: Callable[[str], bytes], path: Path, form: Form) -> dict[str, Split]:
    """Both halves out of the contents of their files."""
    splits = {}
    for split, names in form.files.items():
        where = [path / name if path.is_dir() else f"{path}: {name}" for name in names]
        parts = [form.parse(content(name), w) for name, w in zip(names, where, strict=True)]
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        splits[split] = Split(images, labels, path)
    return splits


def _from_pictures(path: Path) -> dict[str, Split]:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataFileError(
            f"{path}: reading it needs Pillow: `pip install cgjax[train]`."
        ) from error
    splits = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for split in COUNTS:
                name = f"{split}/labels.idx1-ubyte"
                labels = parse_idx(archive.read(name), 1, f"{path}: {name}")
                pictures = sorted(
                    entry
                    for entry in archive.namelist()
                    if entry.startswith(f"{split}/") and entry.endswith(".webp")
                )
                cells = []
                for entry in pictures:
                    with Image.open(io.BytesIO(archive.read(entry)), formats=["WEBP"]) as picture:
                        if picture.size != (_ACROSS * SIDE, _ACROSS * SIDE):
                            raise ValueError(f"{entry} has {picture.size} pixels")
                        cells.append(np.asarray(picture.convert("RGB")))
                # No picture at all is an error of `stack`, named below like the others.
                grid = np.stack(cells).reshape(-1, _ACROSS, SIDE, _ACROSS, SIDE, 3)
                images = grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIDE, SIDE, 3)
                splits[split] = Split(images, labels, path)
    except DataFileError:
        raise
    except Exception as error:  # Pillow's and zipfile's share no base class
        raise _damaged(path, error) from error
    return splits


def _damaged(path: Path, error: Exception) -> DataFileError:
    return DataFileError(
        f"{path}: damaged, or not what its name says ({type(error).__name__}: {error}). "
        f"{fetch.ways_out(NAME)}"
    )


def _check(splits: dict[str, Split]) -> bool:
    """Raises unless the arrays fit together; whether they are the published ones."""
    for images, labels, path in splits.values():
        if images.shape[1:] != (SIDE, SIDE, 3):
            raise DataFileError(
                f"{path}: images of shape {images.shape[1:]}, expected ({SIDE}, {SIDE}, 3): this "
                f"is not {NAME}. {fetch.ways_out(NAME)}"
            )
        if len(images) != len(labels) or len(images) < CLASSES:
            raise DataFileError(
                f"{path}: {len(labels)} labels for {len(images)} images; expected as many, and at "
                f"least {CLASSES}. {fetch.ways_out(NAME)}"
            )
        if labels.max() >= CLASSES:
            raise DataFileError(
                f"{path}: a label {labels.max()}, expected 0 to {CLASSES - 1}: this is not {NAME}. "
                f"{fetch.ways_out(NAME)}"
            )
    if any(len(splits[split].images) != count for split, count in COUNTS.items()):
        return False
    for split, (images, labels, path) in splits.items():
        for what, array in (("images", images), ("labels", labels)):
            digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            if digest != SHA256[f"{split}_{what}"]:
                raise DataFileError(
                    f"{path}: not the {split} {what} of {NAME}, but SHA-256 {digest}; expected "
                    f"{SHA256[f'{split}_{what}']}. {fetch.ways_out(NAME)}"
                )
    return True
