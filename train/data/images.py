"""Sets of images: the ways to the published ones, and the proof that they are those.

1. A folder prepared by TensorFlow Datasets as array_record (`train/data/prepared.py`).
2. The original files from the addresses that TensorFlow Datasets registers (`train/data/fetch.py`).
3. Files in a local folder (`train/data/idx.py`, `train/data/cifar.py`).

Whatever the way, the arrays are the same, bit for bit: images and labels are held to the SHA-256 of
the published sets, in their published order. The recipe of [A] 5.1 validates on the last fifth of
MNIST's training file.
"""

import hashlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import archives, cifar, fetch, idx, prepared
from train.data.dataset import Dataset, Part, Parts
from train.report.files import DataFileError

CLASSES = 10
TRAIN, VALIDATION = 1088, 352  # of the digits: 34, 11 batches of 32, and the rest


class Published(NamedTuple):
    """What is known of a set."""

    shape: tuple[int, ...]  # of an image: rows, columns, channels if there are several
    training: Fraction  # of the training images; the last ones are for validation
    counts: dict[str, int]  # of the training and test images
    sha256: dict[str, str]  # of each array, uint8[n, *shape] and uint8[n]
    files: str  # in a folder, in words
    # read(folder): its four arrays from files there, and the way in words; DataFileError names the
    # file that is missing or wrong
    read: Callable[[Path], tuple[Parts, str]] = idx.read


_MNIST = Published(
    (28, 28),
    Fraction(4, 5),
    {"train": 60_000, "test": 10_000},
    {
        "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "the four original IDX files, gzipped or not (train-images-idx3-ubyte and so on)",
)
SETS = {
    "mnist": _MNIST,
    "fashion_mnist": _MNIST._replace(
        sha256={
            "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
        files="the four original IDX files, gzipped or not (train-images-idx3-ubyte and so on; "
        "Debian's package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist)",
    ),
    "cifar10": Published(
        (32, 32, 3),
        Fraction(9, 10),
        {"train": 50_000, "test": 10_000},
        {
            "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
        "one of the original archives cifar-10-binary.tar.gz and cifar-10-python.tar.gz, with the "
        "files of either (data_batch_1.bin or data_batch_1, and so on), or with cifar10.zip "
        "(lossless pictures)",
        cifar.read,
    ),
}
NAMES = ("digits", *SETS)


def ways_out(name: str) -> str:
    """What someone without the data can do, in one sentence."""
    return (
        f"Ways out: --data-dir FOLDER with {SETS[name].files}; or --data-dir FOLDER that "
        f"TensorFlow Datasets has prepared as array_record (FOLDER/{name}/VERSION)."
        + " --data digits needs no files."
        * (name != "cifar10")
    )


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name, by the first way that applies.

    Args:
        name: `"digits"` (embedded in scikit-learn), `"mnist"`, `"fashion_mnist"` or `"cifar10"`.
        data_dir: a folder with the files of the set, see `docs/data.md`, or one that TensorFlow
            Datasets prepared as array_record. Digits needs none; for the others, without it,
            TensorFlow Datasets' own folder is taken if it holds a prepared set, else the files are
            fetched once and kept.

    Of MNIST there are 48,000 training, 12,000 validation and 10,000 test images of 784 pixels, of
    CIFAR-10 45,000, 5,000 and 10,000, whose rows hold rows, columns and channels of an image, in
    this order. A set with other counts than the published one cannot be verified; it is accepted
    and its `source` says so.

    Raises:
        ValueError: another name.
        DataFileError: naming the file or folder and the way out.

    Example:
        >>> load("digits").validation_x.shape
        (352, 64)
    """
    if name == "digits":
        return _digits()
    if name not in SETS:
        raise ValueError(f"unknown data set {name!r}, expected one of {', '.join(NAMES)}")
    with archives.advised(ways_out(name)):
        found, way = _read(name, None if data_dir is None else Path(data_dir).expanduser())
        verified = _check(name, found)
    train, test = ((images.array, labels.array) for images, labels in found.values())
    proof = "verified by SHA-256" if verified else "NOT the published set, hence unverified"
    source = f"{name} from {way}, {len(train[0])} + {len(test[0])} images, {proof}"
    return Dataset.of(train, test, int(len(train[0]) * SETS[name].training), source)


def _digits() -> Dataset:
    """scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels.

    The file lists its writers one after the other, so it is first permuted by NumPy's
    `RandomState(0)`, whose stream never changes between versions.
    """
    from sklearn import datasets

    # `frame` and `images` would repeat the data; only the flat table is needed.
    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x, y = np.asarray(x, np.uint8)[order], np.asarray(y, np.int32)[order]
    end = TRAIN + VALIDATION
    source = f"scikit-learn's embedded digits, fixed split {TRAIN}/{VALIDATION}/{len(x) - end}"
    return Dataset.of((x[:end], y[:end]), (x[end:], y[end:]), TRAIN, source, largest=16)


def _read(name: str, data_dir: Path | None) -> tuple[Parts, str]:
    known = SETS[name]
    try:
        if data_dir and not data_dir.is_dir():
            raise DataFileError(f"{data_dir}: no such folder.")
        usual = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
        made = prepared.find(data_dir or usual, name)
        if made and (data_dir or prepared.file_format(made) == prepared.FORMAT):
            found = {s: prepared.read(made, name, s, count) for s, count in known.counts.items()}
            pairs = {s: (Part(x, made), Part(y, made)) for s, (x, y) in found.items()}
            return pairs, "a prepared TFDS folder"
        if data_dir:
            return known.read(data_dir)
        return known.read(fetch.fetch(name))[0], "the addresses that TFDS registers"
    except OSError as error:  # of a folder that may not be entered, for example
        raise DataFileError(f"cannot read {error.filename}: {error.strerror}.") from error


def _check(name: str, parts: Parts) -> bool:
    """Raises unless the arrays fit together; whether they are the published ones."""
    known = SETS[name]
    for (images, path), (labels, labels_path) in parts.values():
        if images.shape[1:] != known.shape:
            told = f"images of shape {images.shape[1:]}, expected {known.shape}"
            raise DataFileError(f"{path}: {told}: this is not {name}.")
        if not len(images) == len(labels) >= CLASSES:
            told = f"{len(labels)} labels for the {len(images)} images of {path}"
            raise DataFileError(f"{labels_path}: {told}; expected as many, and at least {CLASSES}.")
        if labels.max() >= CLASSES:
            told = f"a label {labels.max()}, expected 0 to {CLASSES - 1}"
            raise DataFileError(f"{labels_path}: {told}: this is not {name}.")
    published = {
        digest: f"{role.replace('_', ' ')} of {other}"
        for other, its in SETS.items()
        for role, digest in its.sha256.items()
    }
    complete = all(len(parts[split][0].array) == n for split, n in known.counts.items())
    for role in known.sha256:
        split, what = role.split("_")
        array, path = parts[split][what == "labels"]
        digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        which, expected = published.get(digest), f"{role.replace('_', ' ')} of {name}"
        if which != expected and (which is not None or complete):
            found = f"the {which}" if which else f"SHA-256 {digest}"
            told = f"not the {expected}, but {found}"
            raise DataFileError(f"{path}: {told}; expected SHA-256 {known.sha256[role]}.")
    return complete
