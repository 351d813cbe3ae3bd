"""scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels, embedded in that package."""

import numpy as np

from train.data.dataset import Dataset

# 34, 11 batches of 32, and the rest.
TRAIN, VALIDATION = 1088, 352


def load_digits() -> Dataset:
    """The digits with a fixed split: 1,088 training, 352 validation and 357 test images.

    The file lists its writers one after the other, so it is first permuted by NumPy's
    `RandomState(0)`, whose stream never changes between versions.

    Example:
        >>> load_digits().train_x.shape
        (1088, 64)
    """
    from sklearn import datasets

    # `frame` and `images` would repeat the data; only the flat table is needed.
    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x, y = np.asarray(x, np.uint8)[order], np.asarray(y, np.int32)[order]
    train, validation = slice(0, TRAIN), slice(TRAIN, TRAIN + VALIDATION)
    test = slice(TRAIN + VALIDATION, None)
    return Dataset(
        train_x=x[train],
        train_y=y[train],
        validation_x=x[validation],
        validation_y=y[validation],
        test_x=x[test],
        test_y=y[test],
        largest=16,
        source="scikit-learn's embedded digits, fixed split 1088/352/357",
    )
