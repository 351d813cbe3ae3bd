"""Tables for regression with their standard splits into training and test rows.

Nine sets of the UCI repository with the splits of Hernández-Lobato and Adams (2015), one NumPy file
each, and scikit-learn's diabetes, which is embedded in that package, with splits made as theirs.
A file NAME.npz holds `x` float[rows, features], `y` float[rows], and the row numbers `train`
int[splits, ...] and `test` int[splits, ...] of each split.
"""

import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.report.files import DataFileError

FILES = {
    "boston": "bostonHousing.npz",
    "concrete": "concrete.npz",
    "energy": "energy.npz",
    "kin8nm": "kin8nm.npz",
    "naval": "naval-propulsion-plant.npz",
    "power": "power-plant.npz",
    "protein": "protein-tertiary-structure.npz",
    "wine": "wine-quality-red.npz",
    "yacht": "yacht.npz",
}
ARRAYS = ("x", "y", "train", "test")


class Table(NamedTuple):
    """Rows of features with a target, and splits of the rows."""

    x: np.ndarray  # float64[rows, features]
    y: np.ndarray  # float64[rows]
    train: np.ndarray  # int64[splits, training rows]
    test: np.ndarray  # int64[splits, test rows]
    source: str  # where the numbers came from, in words


class Scaled(NamedTuple):
    """One split, each column with mean 0 and standard deviation 1 over the training rows."""

    train_x: np.ndarray  # float32[training rows, features]
    train_y: np.ndarray  # float32[training rows]
    test_x: np.ndarray  # float32[test rows, features]
    test_y: np.ndarray  # float32[test rows]
    scale: float  # the standard deviation of y: what one scaled unit is in the original ones
    mean: float  # the mean of y: 0 in scaled units


def load_table(name: str, data_dir: str | os.PathLike[str] | None = None) -> Table:
    """A table by name.

    Args:
        name: `"diabetes"`, or one of `FILES`.
        data_dir: the folder with its file; diabetes needs none.

    Raises:
        ValueError: another name.
        DataFileError: no folder, no file, or one that does not hold such a table.

    Example:
        >>> load_table("diabetes").x.shape
        (442, 10)
    """
    if name == "diabetes":
        return _diabetes()
    if name not in FILES:
        raise ValueError(f"no table {name!r}; there are diabetes, {', '.join(FILES)}")
    if data_dir is None:
        raise DataFileError(
            f"{name} is not part of any package: give the folder that holds {FILES[name]} with "
            "--data-dir, or take --data diabetes, which needs none."
        )
    path = Path(data_dir) / FILES[name]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(
            f"cannot read {path}: {error.strerror or error}. --data-dir is the folder that holds "
            f"{FILES[name]}."
        ) from error
    return parse_table(content, str(path))


def parse_table(content: bytes, name: str) -> Table:
    """A table from the bytes of its file.

    Args:
        content: of a NumPy archive.
        name: of the file, for messages and as the table's source.

    Raises:
        DataFileError: whatever else the bytes are.
    """
    try:
        # Without pickles, so that no file can run code.
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = [np.asarray(archive[key]) for key in ARRAYS]
    # The parsers of zip files and of NumPy's headers raise errors of a dozen kinds.
    except Exception as error:
        raise DataFileError(
            f"{name} is no NumPy archive with the arrays {', '.join(ARRAYS)}, or is truncated "
            f"({type(error).__name__}: {error}). Copy it again."
        ) from error
    x, y, train, test = arrays

    def require(fits: bool, what: str) -> None:
        if not fits:
            raise DataFileError(f"{name}: {what}. Copy it again.")

    for key, array, kinds, ndim in (
        ("x", x, "f", 2),
        ("y", y, "f", 1),
        ("train", train, "iu", 2),
        ("test", test, "iu", 2),
    ):
        require(
            array.dtype.kind in kinds and array.ndim == ndim and array.size > 0,
            f"{key} is {array.dtype}{list(array.shape)}, expected {ndim} axes of "
            f"{'real' if kinds == 'f' else 'whole'} numbers, not empty",
        )
        # Row numbers are compared with the number of rows below.
        require(bool(np.isfinite(array).all()), f"{key} holds numbers that are not finite")
    rows = len(x)
    require(len(y) == rows, f"x has {rows} rows and y {len(y)}")
    require(len(train) == len(test), f"{len(train)} training parts for {len(test)} test parts")
    for split, parts in enumerate(zip(train, test, strict=True)):
        numbers = np.concatenate(parts).astype(np.float64)  # uint64 would turn -1 into a row
        require(
            np.array_equal(np.sort(numbers), np.arange(rows)),
            f"split {split} does not hold each of the {rows} rows once",
        )
    return Table(
        x.astype(np.float64),
        y.astype(np.float64),
        train.astype(np.int64),
        test.astype(np.int64),
        name,
    )


def scaled(table: Table, split: int) -> Scaled:
    """A split in units in which the training rows have mean 0 and standard deviation 1.

    Columns that are constant over the training rows become 0 there. Nothing in the result but
    `test_x` and `test_y` depends on the test rows.

    Args:
        table: the data.
        split: the number of the split.

    Example:
        >>> split = scaled(load_table("diabetes"), 0)
        >>> print(split.train_x.shape, split.test_x.shape, float(split.train_y.std().round(3)))
        (398, 10) (44, 10) 1.0
    """
    x, y = table.x[table.train[split]], table.y[table.train[split]]
    mean, deviation = x.mean(0), x.std(0)
    # A constant column's deviation may be a rounding error instead of 0.
    deviation = np.where(deviation > 1e-9 * np.abs(x).max(0), deviation, 1)
    center, scale = y.mean(), y.std()
    if not scale > 0:
        raise ValueError(f"{table.source}: the target is constant over the rows of split {split}")

    def of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            ((table.x[rows] - mean) / deviation).astype(np.float32),
            ((table.y[rows] - center) / scale).astype(np.float32),
        )

    return Scaled(*of(table.train[split]), *of(table.test[split]), float(scale), float(center))


def standard_splits(rows: int, splits: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Random splits of 90 and 10 percent: the standard ones for a number of rows.

    Permutations from NumPy's `RandomState(1)`, one after the other; the first round(0.9 rows) of
    each are for training. The splits in the files of the nine sets are these.

    Returns:
        `(train, test)`, int64[splits, ...] each.

    Source: Hernández-Lobato and Adams 2015.
    """
    random = np.random.RandomState(1)
    orders = np.stack([random.choice(rows, rows, replace=False) for _ in range(splits)])
    cut = round(0.9 * rows)
    return orders[:, :cut], orders[:, cut:]


def _diabetes() -> Table:
    from sklearn import datasets

    x, y = datasets.load_diabetes(return_X_y=True)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return Table(x, y, *standard_splits(len(x)), "scikit-learn's embedded diabetes")
