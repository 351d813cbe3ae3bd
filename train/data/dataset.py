"""What a data set is to the experiments."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images as rows of unsigned bytes, and their classes. Bytes take a quarter of the memory
    traffic of floats; the training step divides a batch by `largest`, which gives numbers in [0,
    1]."""

    train_x: np.ndarray  # uint8[train, features]
    train_y: np.ndarray  # int32[train]
    validation_x: np.ndarray  # uint8[validation, features]
    validation_y: np.ndarray  # int32[validation]
    test_x: np.ndarray  # uint8[test, features]
    test_y: np.ndarray  # int32[test]
    largest: int  # the byte that stands for 1.0
    source: str  # where the bytes came from, in words

    @property
    def digest(self) -> str:
        """SHA-256 of all but the source: the same for the same data from other files."""
        found = hashlib.sha256(str(self.largest).encode())
        for array in self[:6]:
            found.update(f"{array.dtype.str}{array.shape}".encode())
            found.update(array.tobytes())
        return found.hexdigest()

    @classmethod
    def of(
        cls,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        boundary: int,
        source: str,
        largest: int = 255,
    ) -> "Dataset":
        """Of images, of any shape, and their classes; those of `train` behind the boundary are for
        validation."""
        (x, y), (test_x, test_y) = (
            (images.reshape(len(images), -1), classes.astype(np.int32))
            for images, classes in (train, test)
        )
        training = x[:boundary], y[:boundary]
        return cls(*training, x[boundary:], y[boundary:], test_x, test_y, largest, source)


class Part(NamedTuple):
    """One of the arrays of a published set, and the file or folder to name when it is wrong."""

    array: np.ndarray  # uint8[n, *shape] of images, or uint8[n] of their labels
    path: Path


Parts = dict[str, tuple[Part, Part]]  # images and labels, of "train" and "test"
