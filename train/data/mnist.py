"""MNIST and Fashion-MNIST by three ways that give the same arrays, bit for bit.

1. A folder prepared by TensorFlow Datasets as array_record (`train/data/prepared.py`).
2. The original files from the addresses that TensorFlow Datasets registers
   (`train/data/fetch.py`).
3. The original IDX files in a local folder, gzipped or not.

Whatever the way, images and labels are held to the SHA-256 of the published sets, in their
published order: the recipe of [A] 5.1 validates on the last fifth of the training file.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import fetch, prepared
from train.data.dataset import Dataset
from train.data.idx import read_idx
from train.report.files import DataFileError

NAMES = ("mnist", "fashion_mnist")
CLASSES = 10
SIDE = 28
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
COUNTS = {"train_images": 60_000, "train_labels": 60_000, "test_images": 10_000}
COUNTS["test_labels"] = COUNTS["test_images"]
# SHA-256 of the data of each file, without its IDX header.
SHA256 = {
    "mnist": {
        "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "fashion_mnist": {
        "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}


class Part(NamedTuple):
    """One of the four arrays of a set, and the file or folder to name when it is wrong."""

    array: np.ndarray  # uint8[n, 28, 28] or uint8[n]
    path: Path


def load_images(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST or Fashion-MNIST: the first four fifths of its training file, the last fifth, the test.

    Args:
        name: `"mnist"` or `"fashion_mnist"`.
        data_dir: a folder with the four IDX files, or one that TensorFlow Datasets prepared as
            array_record. Without it: TensorFlow Datasets' own folder if it holds a prepared set,
            else the files are fetched once and kept.

    Returns:
        a `Dataset` of 48,000 training, 12,000 validation and 10,000 test images of 784
        pixels.

    Raises:
        DataFileError: naming the file or folder and the way out. A set with other counts
        than the published one cannot be verified; it is accepted and its `source` says so.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}, expected one of {', '.join(NAMES)}")
    try:
        parts, way = _read(name, None if data_dir is None else Path(data_dir).expanduser())
    except OSError as error:  # of a folder that may not be entered, for example
        raise DataFileError(
            f"{error.filename}: cannot be read: {error.strerror}. {fetch.ways_out(name)}"
        ) from error
    verified = _check(name, parts)
    train, test = (
        (parts[f"{split}_images"].array, parts[f"{split}_labels"].array)
        for split in ("train", "test")
    )
    number, others = len(train[0]), len(test[0])
    proof = "verified by SHA-256" if verified else "NOT the published set, hence unverified"
    source = f"{name} from {way}, {number} + {others} images, {proof}"
    return Dataset.of(train, test, number * 4 // 5, source)


def _read(name: str, data_dir: Path | None) -> tuple[dict[str, Part], str]:
    """The four arrays by the first way that applies, and the way in words."""
    if data_dir is None:
        folder = prepared.find(prepared.default_root(), name)
        if folder is not None and prepared.file_format(folder) == prepared.FORMAT:
            return _from_prepared(folder, name), "a prepared TFDS folder"
        return _from_idx(fetch.fetch(name), name), "the addresses that TFDS registers"
    if not data_dir.is_dir():
        raise DataFileError(f"{data_dir}: no such folder. {fetch.ways_out(name)}")
    folder = prepared.find(data_dir, name)
    if folder is not None:
        return _from_prepared(folder, name), "a prepared TFDS folder"
    return _from_idx(data_dir, name), "local IDX files"


def _from_prepared(folder: Path, name: str) -> dict[str, Part]:
    parts = {}
    for split in ("train", "test"):
        images, labels = prepared.read(folder, name, split, COUNTS[f"{split}_images"])
        parts[f"{split}_images"] = Part(images, folder)
        parts[f"{split}_labels"] = Part(labels, folder)
    return parts


def _from_idx(folder: Path, name: str) -> dict[str, Part]:
    parts = {}
    for role, stem in FILES.items():
        # `train-images.idx3-ubyte` is how some archives unpack.
        stems = (stem, stem.replace("-idx", ".idx"))
        candidates = [folder / f"{s}{suffix}" for s in stems for suffix in ("", ".gz")]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            raise DataFileError(
                f"{folder / stem}: missing, gzipped (.gz) or not. {fetch.ways_out(name)}"
            )
        parts[role] = Part(read_idx(path, ndim=3 if role.endswith("images") else 1), path)
    return parts


def _check(name: str, parts: dict[str, Part]) -> bool:
    """Raises unless the arrays fit together; whether they are the published ones."""
    for split in ("train", "test"):
        images, labels = parts[f"{split}_images"], parts[f"{split}_labels"]
        if images.array.shape[1:] != (SIDE, SIDE):
            raise DataFileError(
                f"{images.path}: images of {images.array.shape[1:]} pixels, expected "
                f"({SIDE}, {SIDE}): this is not {name}. {fetch.ways_out(name)}"
            )
        if len(images.array) != len(labels.array) or len(images.array) < CLASSES:
            raise DataFileError(
                f"{labels.path}: {len(labels.array)} labels for the {len(images.array)} images of "
                f"{images.path}; expected as many, and at least {CLASSES}. "
                f"{fetch.ways_out(name)}"
            )
        if labels.array.max() >= CLASSES:
            raise DataFileError(
                f"{labels.path}: a label {labels.array.max()}, expected 0 to {CLASSES - 1}: this "
                f"is not {name}. {fetch.ways_out(name)}"
            )
    published = {SHA256[n][role]: (n, role) for n in NAMES for role in FILES}
    complete = all(len(part.array) == COUNTS[role] for role, part in parts.items())
    for role, part in parts.items():
        digest = hashlib.sha256(part.array.tobytes()).hexdigest()
        which = published.get(digest)
        if which == (name, role) or (which is None and not complete):
            continue
        found = f"the {_words(which[1])} of {which[0]}" if which else f"SHA-256 {digest}"
        raise DataFileError(
            f"{part.path}: not the {_words(role)} of {name}, but {found}; expected SHA-256 "
            f"{SHA256[name][role]}. {fetch.ways_out(name)}"
        )
    return complete


def _words(role: str) -> str:
    return role.replace("_", " ")
