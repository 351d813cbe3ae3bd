"""Sets of images: the ways to the published ones, and the proof that they are those.

1. A folder prepared by TensorFlow Datasets as array_record (`train/data/prepared.py`).
2. The original files from the addresses that TensorFlow Datasets registers (`train/data/fetch.py`).
3. Files in a local folder (`train/data/idx.py`, `train/data/cifar.py`,
   `train/data/tiny_imagenet.py`).

Whatever the way, the arrays are the same, bit for bit: images and labels are held to the SHA-256 of
the published sets, in their published order. Of CIFAR-100 and Tiny ImageNet nobody has published
checksums of the arrays; those of their archives are known. The recipe of [A] 5.1 validates on the
last fifth of MNIST's training file.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import archives, cifar, fetch, idx, prepared, tiny_imagenet
from train.data.dataset import Dataset, Part, Parts
from train.report.files import DataFileError, open_regular

TRAIN, VALIDATION = 1088, 352  # of the digits: 34, 11 batches of 32, and the rest


class Kind(NamedTuple):
    """What images of a set are."""

    shape: tuple[int, int, int]  # rows, columns, channels
    classes: int


class Published(NamedTuple):
    """What is known of a set."""

    shape: tuple[int, ...]  # of an image: rows, columns, channels if there are several
    training: Fraction  # of the training images; the last ones are for validation
    counts: dict[str, int]  # of the training and test images
    sha256: dict[str, str]  # of each array, uint8[n, *shape] and uint8[n]; empty: not known
    files: str  # in a folder, in words
    classes: int = 10
    # Of original archives by their names, such as "md5 HEX".
    archives: Mapping[str, str] = {}
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
        read=cifar.CIFAR_10.read,
    ),
    "cifar100": Published(
        (32, 32, 3),
        Fraction(9, 10),
        {"train": 50_000, "test": 10_000},
        {},
        "one of the original archives cifar-100-binary.tar.gz and cifar-100-python.tar.gz, with "
        "the files of either (train.bin and test.bin, or train and test), or with cifar100.zip "
        "(lossless pictures)",
        classes=100,
        archives={
            cifar.BINARY_100.archive: "sha256 "
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            cifar.PICKLED_100.archive: "md5 eb9058c3a382ffc7106e4002c42a8d85",
        },
        read=cifar.CIFAR_100.read,
    ),
    "tiny_imagenet": Published(
        (64, 64, 3),
        Fraction(9, 10),
        {"train": 100_000, "test": 10_000},
        {},
        "the original archive tiny-imagenet-200.zip, or the folder that it unpacks to",
        classes=200,
        archives={tiny_imagenet.ARCHIVE: "md5 90528d7ca1a48142e341f4ef8d21d0de"},
        read=tiny_imagenet.read,
    ),
}
NAMES = ("digits", *SETS)


def known(name: str) -> Kind:
    """What the images of a set are, from its name.

    Example:
        >>> known("cifar10")
        Kind(shape=(32, 32, 3), classes=10)
    """
    if name == "digits":
        return Kind((8, 8, 1), 10)
    rows, columns, *channels = SETS[name].shape
    return Kind((rows, columns, channels[0] if channels else 1), SETS[name].classes)


def ways_out(name: str) -> str:
    """What someone without the data can do, in one sentence."""
    return (
        f"Ways out: --data-dir FOLDER with {SETS[name].files}; or --data-dir FOLDER that "
        f"TensorFlow Datasets has prepared as array_record (FOLDER/{name}/VERSION)."
        + " --data digits needs no files."
        * (len(SETS[name].shape) == 2)
    )


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name, by the first way that applies.

    Args:
        name: `"digits"` (embedded in scikit-learn), `"mnist"`, `"fashion_mnist"`, `"cifar10"`,
            `"cifar100"` or `"tiny_imagenet"`.
        data_dir: a folder with the files of the set, see `docs/data.md`, or one that TensorFlow
            Datasets prepared as array_record. Digits needs none; for the others, without it,
            TensorFlow Datasets' own folder is taken if it holds a prepared set, else the files are
            fetched once and kept.

    Of MNIST there are 48,000 training, 12,000 validation and 10,000 test images of 784 pixels, of
    CIFAR-10 and CIFAR-100 45,000, 5,000 and 10,000, of Tiny ImageNet 90,000, 10,000 and 10,000,
    whose rows hold rows, columns and channels of an image, in this order. A set with other counts
    than the published one cannot be verified; it is accepted and its `source` says so.

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
        complete = _check(name, found)
        proof = _proof(name, found, complete)
    train, test = ((images.array, labels.array) for images, labels in found.values())
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
    """Raises unless the arrays fit together, and if they are others than the published ones where
    those are known; whether there are as many images as published."""
    known = SETS[name]
    for (images, path), (labels, labels_path) in parts.values():
        if images.shape[1:] != known.shape:
            told = f"images of shape {images.shape[1:]}, expected {known.shape}"
            raise DataFileError(f"{path}: {told}: this is not {name}.")
        if not len(images) == len(labels) >= known.classes:
            told = f"{len(labels)} labels for the {len(images)} images of {path}"
            least = f"expected as many, and at least {known.classes}"
            raise DataFileError(f"{labels_path}: {told}; {least}.")
        if labels.max() >= known.classes:
            told = f"a label {labels.max()}, expected 0 to {known.classes - 1}"
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


def _proof(name: str, parts: Parts, complete: bool) -> str:
    """In words, how far a set is known to be the published one."""
    known, path = SETS[name], parts["train"][0].path
    if not complete:
        return "NOT the published set, hence unverified"
    if known.sha256:
        return "verified by SHA-256"
    algorithm, _, expected = known.archives.get(path.name, "").partition(" ")
    if not expected:
        return "unverified: checksums of its arrays are not known"
    with open_regular(path) as file:
        if hashlib.file_digest(file, algorithm).hexdigest() == expected:
            return f"verified by the archive's {algorithm.upper()}"
    return "unverified: the archive was packed anew"
