"""What a data set is to the experiments."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images as rows of unsigned bytes, and their classes.

    Bytes, because they take a quarter of the memory traffic of floats; the training step divides
    a batch by `largest`, which gives numbers in [0, 1].
    """

    train_x: np.ndarray  # uint8[train, features]
    train_y: np.ndarray  # int32[train]
    validation_x: np.ndarray  # uint8[validation, features]
    validation_y: np.ndarray  # int32[validation]
    test_x: np.ndarray  # uint8[test, features]
    test_y: np.ndarray  # int32[test]
    largest: int  # the byte that stands for 1.0
    source: str  # where the bytes came from, in words
