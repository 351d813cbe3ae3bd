"""Data sets as arrays of bytes: `load(name, data_dir)`, for the names in `NAMES`.

Neither this package nor what it reads with imports JAX.
"""

import os

from train.data import cifar, idx
from train.data.dataset import Dataset
from train.data.digits import load_digits
from train.data.images import SETS, load_images

__all__ = ["NAMES", "Dataset", "load"]

NAMES = ("digits", *SETS)


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name.

    Args:
        name: `"digits"` (embedded in scikit-learn), `"mnist"`, `"fashion_mnist"` or `"cifar10"`.
        data_dir: a folder with the files of the set; see `docs/data.md`. Digits needs none; the
            others are fetched without it.

    Returns:
        a `Dataset`: of MNIST 48,000 training, 12,000 validation and 10,000 test images of 784
        pixels, of CIFAR-10 45,000, 5,000 and 10,000, whose rows hold rows, columns and channels of
        an image, in this order.

    Raises:
        ValueError: another name.
        DataFileError: bad or missing files.

    Example:
        >>> load("digits").validation_x.shape
        (352, 64)
    """
    if name == "digits":
        return load_digits()
    if name not in SETS:
        raise ValueError(f"unknown data set {name!r}, expected one of {', '.join(NAMES)}")
    return load_images(name, data_dir, cifar.read if name == "cifar10" else idx.read)
