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
    end = TRAIN + VALIDATION
    source = f"scikit-learn's embedded digits, fixed split {TRAIN}/{VALIDATION}/{len(x) - end}"
    return Dataset.of((x[:end], y[:end]), (x[end:], y[end:]), TRAIN, source, largest=16)
