"""Data sets as arrays of bytes: `load(name, data_dir)`, for the names in `NAMES`.

Neither this package nor what it reads with imports JAX; `augmentation`, which computes on the
device, does.
"""

from train.data.dataset import Dataset
from train.data.images import NAMES, load

__all__ = ["NAMES", "Dataset", "load"]
