"""Tables for regression with their standard splits into training and test rows.

Nine sets of the UCI repository with the splits of Hernández-Lobato and Adams (2015), one NumPy file
each, and scikit-learn's diabetes, which is embedded in that package, with splits made as theirs.
A file NAME.npz holds `x` float[rows, features], `y` float[rows], and the row numbers `train`
int[splits, ...] and `test` int[splits, ...] of each split; `docs/data.md` says how to make them.
"""

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from train.data import archives
from train.report.files import DataFileError, write_atomic

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
# The kinds of their elements, and their dimensions.
ARRAYS = {"x": ("f", 2), "y": ("f", 1), "train": ("iu", 2), "test": ("iu", 2)}
_MEMBERS = {name: key for key in ARRAYS for name in (key, f"{key}.npy")}
_HEADER = 1 << 14  # bytes; NumPy takes a header for dangerous from 10,000 on
# A larger number has a square that float32 lacks, and losses square.
_LARGEST = float(np.sqrt(np.finfo(np.float32).max))
_MADE = "docs/data.md says how to make it from the public table."


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
    """A table by name: `"diabetes"`, or one of `FILES` from the folder with its file; ValueError
    for another. DataFileError if there is no folder, no file, or one that does not hold such a
    table.

    Example:
        >>> load_table("diabetes").x.shape
        (442, 10)
    """
    if name == "diabetes":
        from sklearn import datasets

        x, y = (np.asarray(a, np.float64) for a in datasets.load_diabetes(return_X_y=True))
        return Table(x, y, *standard_splits(len(x)), "scikit-learn's embedded diabetes")
    if name not in FILES:
        raise ValueError(f"no table {name!r}; there are diabetes, {', '.join(FILES)}")
    if data_dir is None:
        raise DataFileError(
            f"{name} is not part of any package: give the folder that holds {FILES[name]} with "
            f"--data-dir, or take --data diabetes, which needs none. {_MADE}"
        )
    path = Path(data_dir).expanduser() / FILES[name]
    remedy = (
        f"--data-dir is the folder that holds {FILES[name]}, a NumPy archive with the arrays "
        f"{', '.join(ARRAYS)}; {_MADE}"
    )
    with archives.advised(remedy):
        found = archives.members(path, _MEMBERS.get, lambda _, stream: _array(stream))
        return _table(found, str(path))


def _table(found: dict[str, np.ndarray], name: str) -> Table:
    """A table out of its arrays, checked; `name` is for messages and its source."""

    def require(fits: bool, what: str) -> None:
        if not fits:
            raise DataFileError(f"{name}: {what}.")

    for key, (kinds, ndim) in ARRAYS.items():
        require(key in found, f"it holds no {key}")
        array = found[key]
        require(
            array.dtype.kind in kinds and array.ndim == ndim and array.size > 0,
            f"{key} is {array.dtype}{list(array.shape)}, expected {ndim} axes of "
            f"{'real' if kinds == 'f' else 'whole'} numbers, not empty",
        )
        # Row numbers are compared with the number of rows below.
        with np.errstate(over="ignore"):  # of longer floats
            found[key] = array.astype(np.float64)
        require(bool(np.isfinite(found[key]).all()), f"{key} holds numbers that are not finite")
    x, y, train, test = (found[key] for key in ARRAYS)
    rows = len(x)
    require(len(y) == rows, f"x has {rows} rows and y {len(y)}")
    require(len(train) == len(test), f"{len(train)} training parts for {len(test)} test parts")
    for split, parts in enumerate(zip(train, test, strict=True)):
        require(
            np.array_equal(np.sort(np.concatenate(parts)), np.arange(rows)),
            f"split {split} does not hold each of the {rows} rows once",
        )
    table = Table(x, y, train.astype(np.int64), test.astype(np.int64), name)
    for what, column in _columns(x, y):
        # One row at 1e300 makes the deviation infinite and all others 0; one at 1e12 does as much,
        # since they differ by less than float32 resolves. So a column is refused where half of the
        # steps between its different values vanish; the ten tables lose 4 % at most.
        with np.errstate(all="ignore"):
            units = ((column - column.mean()) / column.std()).astype(np.float32)
        steps, kept = len(np.unique(column)) - 1, len(np.unique(units)) - 1
        if steps > 0 and 2 * kept <= steps:
            raise _far_out(name, what, column)
    for split in range(len(train)):  # so that a bad row is told before a network is trained
        scaled(table, split)
    return table


def _array(stream: archives.Stream) -> np.ndarray:
    """The array of a .npy file, of which no more is read than its header announces."""
    content = archives.take(stream, _HEADER)
    start = io.BytesIO(content)
    # Without pickles, so that no file can run code; the later version has names of fields.
    parse = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, by_columns, element = parse[npy.read_magic(start)](start)
    if element.hasobject:
        raise ValueError(f"an array of {element}")
    announced = math.prod(shape) * element.itemsize
    content = content[start.tell() :]
    content += archives.take(stream, announced + 1 - len(content))
    if len(content) != announced:
        kind = "fewer" if len(content) < announced else "more"
        raise ValueError(f"{kind} bytes than the {announced} of {element}{list(shape)}")
    return np.frombuffer(content, element).reshape(shape, order="F" if by_columns else "C")


def save_table(
    path: str | os.PathLike[str], x: np.ndarray, y: np.ndarray, splits: int = 20
) -> None:
    """Writes the file of a table, of a name in `FILES` if `load_table` is to find it, of features,
    float[rows, features], and a target, float[rows], with so many splits; the standard ones are 20,
    and 5 for protein. DataFileError if there is no such table, or no such file can be written."""
    train, test = standard_splits(len(x), splits)
    arrays = {"x": np.asarray(x, float), "y": np.asarray(y, float), "train": train, "test": test}
    _table(dict(arrays), os.fspath(path))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomic(Path(path), file.getvalue())


def scaled(table: Table, split: int) -> Scaled:
    """A split in units in which the training rows have mean 0 and standard deviation 1.
    DataFileError names the column that cannot be scaled, and its row.

    Columns that are constant over the training rows become 0 there. Nothing in the result but
    `test_x` and `test_y` depends on the test rows.

    Example:
        >>> split = scaled(load_table("diabetes"), 0)
        >>> print(split.train_x.shape, split.test_x.shape, float(split.train_y.std().round(3)))
        (398, 10) (44, 10) 1.0
    """
    train, test = table.train[split], table.test[split]
    x, y = table.x[train], table.y[train]
    with np.errstate(over="ignore", invalid="ignore"):  # of what is refused below
        mean, deviation = x.mean(0), x.std(0)
        # A constant column's deviation may be a rounding error instead of 0.
        deviation = np.where(deviation > 1e-9 * np.abs(x).max(0), deviation, 1)
        center, scale = y.mean(), y.std()
        if scale == 0:
            raise DataFileError(
                f"{table.source}: the target y is constant over the training rows of split {split}."
            )
        features, target = (table.x - mean) / deviation, (table.y - center) / scale
    units = (column for _, column in _columns(features, target))
    for (what, column), scaled_column in zip(_columns(table.x, table.y), units, strict=True):
        if not np.abs(scaled_column).max() < _LARGEST:  # NaN is not
            raise _far_out(table.source, what, column)
    features, target = features.astype(np.float32), target.astype(np.float32)
    return Scaled(
        features[train], target[train], features[test], target[test], float(scale), float(center)
    )


def _columns(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((f"column {i} of x, counted from 0,", column) for i, column in enumerate(x.T))
    yield "the target y", y


def _far_out(source: str, what: str, column: np.ndarray) -> DataFileError:
    with np.errstate(over="ignore"):
        row = np.argmax(np.abs(column - np.median(column)))
    return DataFileError(
        f"{source}: {what} holds {column[row]:g} in row {row}, too large or too far from the "
        "others for float32 to resolve the column. Correct that number, or take the column's "
        "logarithm or another unit."
    )


def standard_splits(rows: int, splits: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Random splits of 90 and 10 percent, int64[splits, ...] each: the standard ones for a number
    of rows, as in the files of the nine sets (Hernández-Lobato and Adams 2015).

    Permutations from NumPy's `RandomState(1)`, one after the other; the first round(0.9 rows) of
    each are for training.
    """
    random = np.random.RandomState(1)
    orders = np.stack([random.choice(rows, rows, replace=False) for _ in range(splits)])
    cut = round(0.9 * rows)
    return orders[:, :cut], orders[:, cut:]
