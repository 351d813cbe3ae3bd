"""Data sets as arrays of bytes: `load(name, data_dir)`.

Names: `"digits"`, `"mnist"`, `"fashion_mnist"`, `"cifar10"`.
"""

import os

from train.data.cifar import load_cifar10
from train.data.dataset import Dataset
from train.data.digits import load_digits
from train.data.mnist import load_images

__all__ = ["Dataset", "load"]


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """A data set by name.

    Args:
        name: `"digits"` (embedded in scikit-learn), `"mnist"`, `"fashion_mnist"` or `"cifar10"`.
        data_dir: a folder with the files of the set; see `train/data/mnist.py` and
            `train/data/cifar.py`. Digits needs none.

    Returns:
        a `Dataset`.

    Raises:
        `ValueError` for another name; `train.report.files.DataFileError` for bad or missing files.

    Example:
        >>> load("digits").validation_x.shape
        (352, 64)
    """
    if name == "digits":
        return load_digits()
    if name == "cifar10":
        return load_cifar10(data_dir)
    return load_images(name, data_dir)
