"""The tables for regression: their files, whatever the bytes, and their splits."""

import io
import pathlib
import re
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from train.data import uci
from train.data.uci import FILES, Table, load_table, scaled, standard_splits
from train.report.files import DataFileError

ROWS = 30


def arrays(**others):
    random = np.random.RandomState(0)
    train, test = standard_splits(ROWS, 2)
    made = {
        "x": np.column_stack([random.normal(size=(ROWS, 2)), np.full(ROWS, 0.1)]),
        "y": random.normal(size=ROWS),
        "train": train.astype(np.uint16),
        "test": test.astype(np.uint16),
    }
    return {k: v for k, v in (made | others).items() if v is not None}


def encode(**others) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays(**others))
    return file.getvalue()


def with_row(name, row):
    changed = arrays()[name].astype(np.int64)
    changed[1, 0] = row
    return {name: changed}


WHOLE = encode()


def parse_table(content: bytes) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / FILES["yacht"]
        path.write_bytes(content)
        return load_table("yacht", folder)


def test_reads_what_was_written(tmp_path):
    (tmp_path / FILES["yacht"]).write_bytes(WHOLE)
    table = load_table("yacht", tmp_path)
    for name, expected in arrays().items():
        np.testing.assert_array_equal(getattr(table, name), expected)
    assert table.source == str(tmp_path / FILES["yacht"])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "truncated, damaged, or not what its name says"),
        (WHOLE[:-1], "truncated, damaged, or not what its name says"),
        (WHOLE[: len(WHOLE) // 2], "truncated, damaged, or not what its name says"),
        (b"\x93NUMPY" + WHOLE, "truncated, damaged, or not what its name says"),
        (
            encode(test=None),
            "it holds no test. --data-dir is the folder that holds bostonHousing.npz",
        ),
        (
            encode(y=np.array([None] * ROWS)),
            "truncated, damaged, or not what its name says",
        ),  # a pickle is not opened
        (encode(y=np.zeros(ROWS - 1)), "x has 30 rows and y 29"),
        (encode(y=np.zeros((ROWS, 1))), "y is float64[30, 1], expected 1 axes"),
        (encode(x=np.zeros((ROWS, 2), int)), "x is int64[30, 2]"),
        (encode(x=np.zeros((ROWS, 0))), "not empty"),
        (encode(y=np.full(ROWS, np.nan)), "y holds numbers that are not finite"),
        (encode(train=arrays()["train"][:1]), "1 training parts for 2 test parts"),
        (encode(train=arrays()["train"].astype(float)), "train is float64"),
        (encode(**with_row("train", ROWS)), "split 1 does not hold each of the 30 rows once"),
        (encode(**with_row("test", -1)), "split 1 does not hold"),
        (encode(**with_row("test", arrays()["train"][1, 0])), "split 1 does not hold"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / FILES["boston"]
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=re.escape(message)) as error:
        load_table("boston", tmp_path)
    assert str(path) in str(error.value)


def test_missing_files_folders_and_names(tmp_path):
    with pytest.raises(DataFileError, match="cannot read .*wine-quality-red.npz.*--data-dir"):
        load_table("wine", tmp_path)
    # The way out is a page that is there.
    for folder in (None, tmp_path):
        with pytest.raises(DataFileError, match="docs/data.md says how") as caught:
            load_table("wine", folder)
        assert FILES["wine"] in str(caught.value) and "--data-dir" in str(caught.value)
    page = (pathlib.Path(__file__).parents[3] / "docs" / "data.md").read_text()
    assert all(f"`{file}`" in page for file in FILES.values())
    with pytest.raises(DataFileError, match="--data diabetes"):
        load_table("wine")
    with pytest.raises(ValueError, match="no table 'iris'; there are diabetes, boston"):
        load_table("iris", tmp_path)


@hypothesis.given(st.binary(max_size=64))
def test_arbitrary_bytes_are_data_errors(content):
    with pytest.raises(DataFileError):
        parse_table(content)


@hypothesis.given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_or_does_no_harm(position, change):
    content = bytearray(WHOLE)
    content[position] ^= change
    try:
        table = parse_table(bytes(content))
    except DataFileError:
        return
    # Dates and the like carry no data, whose checksum is tested.
    for name, expected in arrays().items():
        np.testing.assert_array_equal(getattr(table, name), expected)


@pytest.mark.parametrize("rows", [308, 506, 442])
def test_standard_splits_are_disjoint_and_cover(rows):
    train, test = standard_splits(rows)
    assert train.shape == (20, round(0.9 * rows))
    for parts in zip(train, test, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))
    assert len(np.unique(test[:, :5], axis=0)) == 20


def test_the_standard_splits_of_yacht():
    """The first rows of the published split files index_test_0 and index_train_19 of yacht."""
    train, test = standard_splits(308)
    np.testing.assert_array_equal(test[0, :5], [121, 115, 286, 216, 264])
    np.testing.assert_array_equal(train[19, :5], [122, 18, 305, 94, 132])


def test_scaling_by_the_training_rows_alone():
    table = parse_table(WHOLE)
    split = scaled(table, 1)
    train, test = table.train[1], table.test[1]
    mean, deviation = table.x[train].mean(0), table.x[train].std(0)
    # float32 of numbers near 1
    np.testing.assert_allclose(
        split.test_x[:, :2], ((table.x[test] - mean) / deviation)[:, :2], atol=1e-6
    )
    # A constant: divided by its deviation, a rounding error, it would be about 1.
    np.testing.assert_allclose(split.train_x[:, 2], 0, atol=1e-15)
    np.testing.assert_allclose(
        split.test_y * split.scale + table.y[train].mean(), table.y[test], atol=1e-6
    )
    changed = table._replace(x=table.x.copy(), y=table.y.copy())
    changed.x[test], changed.y[test] = 1e3, -1e3
    for name in ("train_x", "train_y", "scale"):
        np.testing.assert_array_equal(getattr(scaled(changed, 1), name), getattr(split, name))


def test_a_constant_target_cannot_be_scaled():
    with pytest.raises(
        DataFileError, match="yacht.npz: .* constant over the training rows of split 0"
    ):
        parse_table(encode(y=np.ones(ROWS)))


def with_number(number, row, name):
    """A table with one number replaced, in a column of features or in the target."""
    changed = arrays()[name]
    changed[(row, 1) if name == "x" else row] = number
    return {name: changed}


@pytest.mark.parametrize("number", [1e300, -1e300, 1e60, 1e12])
def test_a_number_far_out_is_told_with_its_column_and_row(tmp_path, number):
    path = tmp_path / FILES["energy"]
    for name, told in (("x", "column 1 of x, counted from 0,"), ("y", "the target y")):
        for row in (arrays()["train"][0, 0], arrays()["test"][0, 0]):
            path.write_bytes(encode(**with_number(number, row, name)))
            with pytest.raises(DataFileError) as caught:
                load_table("energy", tmp_path)
            expected = f"{path}: {told} holds {number:g} in row {row}, too large or too far"
            assert str(caught.value).startswith(expected), caught.value


def test_a_test_row_far_out_is_told_where_it_is_not_trained_on():
    """Before it is cast to infinity, or to what has an infinite square."""
    table = parse_table(WHOLE)
    row = table.test[0, 0]
    for number in (1e60, 1e20, -1e20):
        changed = table._replace(x=table.x.copy())
        changed.x[row, 0] = number
        with pytest.raises(DataFileError, match=f"column 0 of x, .* in row {row}, "):
            scaled(changed, 0)
    changed.x[row, 0] = 1e18
    assert np.isfinite(np.square(scaled(changed, 0).test_x)).all()


@pytest.mark.parametrize(
    "column",
    [
        np.full(ROWS, 1e9),
        np.arange(ROWS) * 1e100,  # beyond float32, but not as scaled
        np.arange(ROWS) % 2.0,
        np.r_[np.zeros(ROWS - 1), 1e6],
        np.exp(np.linspace(-10, 10, ROWS)),
        1e6 + np.arange(ROWS) / 1e3,
    ],
)
def test_columns_of_any_unit_are_scaled(column):
    made = parse_table(encode(x=np.column_stack([column, column[::-1]])))
    split = scaled(made, 1)
    assert np.isfinite(split.train_x).all() and np.isfinite(split.test_x).all()


def test_tables_are_saved_as_they_are_read(tmp_path):
    made = arrays()
    uci.save_table(tmp_path / "new" / FILES["yacht"], made["x"], made["y"], splits=2)
    table = load_table("yacht", tmp_path / "new")
    for name, expected in made.items():
        np.testing.assert_array_equal(getattr(table, name), expected)
    bad = tmp_path / FILES["yacht"]
    with pytest.raises(DataFileError, match=f"{bad}: x has 30 rows and y 29"):
        uci.save_table(bad, made["x"], made["y"][:-1])
    assert not bad.exists()


def test_the_layout_of_a_file_does_not_change_a_bit():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(1000, 3)) + 9, random.normal(size=1000)
    train, test = standard_splits(len(x), 1)
    found = []
    for layout in (np.asfortranarray, np.ascontiguousarray):
        file = io.BytesIO()
        np.savez(file, x=layout(x), y=y, train=train, test=test)
        found.append(scaled(parse_table(file.getvalue()), 0))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
