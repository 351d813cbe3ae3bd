"""Digits, and MNIST from IDX files and prepared folders."""

import gzip
import hashlib
import json
import shutil
import struct
import sys

import numpy as np
import pytest

from tests.train.data.preparing import prepare
from train import data
from train.data import idx, images, prepared
from train.report.files import DataFileError

TRAIN, TEST = 50, 20


def encode(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "train_images": generator.integers(0, 256, (TRAIN, 28, 28), np.uint8),
        "train_labels": np.arange(TRAIN, dtype=np.uint8) % 10,
        "test_images": generator.integers(0, 256, (TEST, 28, 28), np.uint8),
        "test_labels": np.arange(TEST, dtype=np.uint8) % 10,
    }


@pytest.fixture
def folder(tmp_path):
    """A small set in the format of MNIST: some files gzipped, some not."""
    for role, array in arrays().items():
        if role.startswith("train"):
            (tmp_path / f"{idx.FILES[role]}.gz").write_bytes(gzip.compress(encode(array)))
        else:
            (tmp_path / idx.FILES[role]).write_bytes(encode(array))
    return tmp_path


@pytest.fixture
def published(monkeypatch):
    """Lets the small set pass for the published one."""
    digests = {role: hashlib.sha256(a.tobytes()).hexdigest() for role, a in arrays().items()}
    counts = {"train": TRAIN, "test": TEST}
    small = images.SETS["mnist"]._replace(counts=counts, sha256=digests)
    monkeypatch.setitem(images.SETS, "mnist", small)


def test_digits_are_all_there_in_a_fixed_split():
    digits = data.load("digits")
    parts = (digits.train_x, digits.validation_x, digits.test_x)
    assert [len(x) for x in parts] == [1088, 352, 357]
    assert digits.train_x.dtype == np.uint8 and digits.largest == 16
    assert max(x.max() for x in parts) == 16
    # Every part has all classes, each at least half as often as if they were equally frequent.
    for labels in (digits.train_y, digits.validation_y, digits.test_y):
        assert np.bincount(labels, minlength=10).min() > len(labels) / 20
    # The split of today: another one would make results incomparable.
    content = digits.train_x.tobytes() + digits.train_y.astype("<i4").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "4d3f9906dc7fb6ad"


def test_the_digest_is_of_the_data_alone():
    known = data.load("digits")
    assert known._replace(source="elsewhere").digest == known.digest
    others = [known._replace(largest=255), known._replace(train_x=known.train_x.reshape(-1, 8, 8))]
    for name in known._fields[:6]:
        array = getattr(known, name).copy()
        array[(3,) * array.ndim] += 1
        others += [known._replace(**{name: array}), known._replace(**{name: array[:-1]})]
    assert len({known.digest, *(other.digest for other in others)}) == 15


def test_idx_files_are_split_in_their_order(folder):
    expected = arrays()
    found = data.load("mnist", folder)
    assert found.train_x.shape == (40, 784) and found.validation_x.shape == (10, 784)
    train = np.concatenate([found.train_x, found.validation_x]).reshape(-1, 28, 28)
    np.testing.assert_array_equal(train, expected["train_images"])
    np.testing.assert_array_equal(found.validation_y, expected["train_labels"][40:])
    np.testing.assert_array_equal(found.test_x.reshape(-1, 28, 28), expected["test_images"])
    np.testing.assert_array_equal(found.test_y, expected["test_labels"])
    assert found.largest == 255 and found.test_y.dtype == np.int32


def test_a_set_with_other_counts_is_called_unverified(folder):
    assert "50 + 20 images, NOT the published set, hence unverified" in (
        data.load("mnist", folder).source
    )


def test_the_published_set_is_verified(folder, published):
    assert data.load("mnist", folder).source.endswith("50 + 20 images, verified by SHA-256")


def test_file_names_of_other_archives_are_known(folder):
    stem = idx.FILES["test_images"]
    (folder / stem).rename(folder / stem.replace("-idx3", ".idx3"))
    assert len(data.load("mnist", folder).test_x) == TEST


def replace(folder, role, content):
    for path in (folder / idx.FILES[role], folder / f"{idx.FILES[role]}.gz"):
        if path.exists():
            path.write_bytes(content)
            return path
    raise AssertionError("no such file")


def fails(folder, name="mnist"):
    with pytest.raises(DataFileError) as caught:
        data.load(name, folder)
    return str(caught.value)


def test_a_missing_file_is_named_with_the_ways_out(folder):
    (folder / idx.FILES["test_labels"]).unlink()
    message = fails(folder)
    assert str(folder / "t10k-labels-idx1-ubyte") in message
    assert "--data-dir" in message and "array_record" in message


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "nothing") in fails(tmp_path / "nothing")


def test_labels_in_place_of_images_are_named(folder):
    path = replace(folder, "train_images", encode(arrays()["train_labels"]))
    assert f"{path}: wrong magic number 00000801" in fails(folder)


def test_other_counts_of_images_and_labels_are_named(folder):
    path = replace(folder, "train_labels", encode(arrays()["train_labels"][:-1]))
    message = fails(folder)
    assert str(path) in message and "49 labels for the 50 images" in message


def test_images_of_another_size_are_named(folder):
    path = replace(folder, "test_images", encode(arrays()["test_images"][:, :14]))
    assert str(path) in (message := fails(folder)) and "(14, 28)" in message


def test_labels_out_of_range_are_named(folder):
    labels = arrays()["test_labels"]
    labels[3] = 10
    path = replace(folder, "test_labels", encode(labels))
    assert str(path) in (message := fails(folder)) and "a label 10" in message


def test_a_changed_pixel_of_the_published_set_is_found(folder, published):
    images = arrays()["train_images"]
    images[7, 3, 3] ^= 1
    path = replace(folder, "train_images", gzip.compress(encode(images)))
    assert f"{path}: not the train images of mnist, but SHA-256" in fails(folder)


def test_training_and_test_files_in_place_of_each_other_are_named(folder, published):
    made = arrays()
    for role, other in (("train", "test"), ("test", "train")):
        for kind in ("images", "labels"):
            replace(folder, f"{role}_{kind}", encode(made[f"{other}_{kind}"]))
    path = folder / f"{idx.FILES['train_images']}.gz"
    assert f"{path}: not the train images of mnist, but the test images of mnist" in fails(folder)


def test_a_folder_that_cannot_be_entered_is_named(folder, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images.Path, "is_dir", forbidden)
    assert f"cannot read {folder}: Permission denied" in (message := fails(folder))
    assert "--data-dir" in message


def test_another_published_set_is_recognised(folder, published, monkeypatch):
    small = images.SETS["mnist"]
    monkeypatch.setitem(images.SETS, "fashion_mnist", small)
    other = small._replace(sha256=dict.fromkeys(idx.FILES, "0" * 64))
    monkeypatch.setitem(images.SETS, "mnist", other)
    assert "but the train images of fashion_mnist" in fails(folder)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="unknown data set 'cifar'"):
        data.load("cifar")


# --- prepared by TensorFlow Datasets, without TensorFlow ------------------------------------------


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"), "MNIST", "3.0.1", arrays())


@pytest.fixture
def prepared_folder(prepared_once, tmp_path):
    shutil.copytree(prepared_once, tmp_path / "data")
    return tmp_path / "data"


def test_a_prepared_folder_gives_the_published_order(prepared_folder, folder, published):
    """TFDS shuffles by a hash; undone, the arrays are those of the IDX files, bit for bit."""
    from_records, from_files = data.load("mnist", prepared_folder), data.load("mnist", folder)
    assert from_records.source.startswith("mnist from a prepared TFDS folder, 50 + 20 images, ver")
    for ours, theirs in zip(from_records[:6], from_files[:6], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert from_records.digest == from_files.digest
    assert "tensorflow" not in sys.modules


def test_a_prepared_folder_with_other_counts_is_read_as_it_lies(prepared_folder):
    found = data.load("mnist", prepared_folder / "mnist" / "3.0.1")
    assert "NOT the published set" in found.source
    # Its order is unknown, but each label still belongs to its image.
    whole = np.concatenate([found.train_x, found.validation_x])
    expected = {image.tobytes(): i for i, image in enumerate(arrays()["train_images"])}
    labels = np.concatenate([found.train_y, found.validation_y])
    assert [expected.pop(x.tobytes()) % 10 for x in whole] == labels.tolist()


def test_tfds_own_folder_is_used_without_data_dir(prepared_folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_folder))
    assert data.load("mnist").source.startswith("mnist from a prepared TFDS folder")


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "description"])
def test_a_damaged_prepared_folder_is_named(prepared_folder, damage):
    version = prepared_folder / "mnist" / "3.0.1"
    (record,) = version.glob("mnist-train.array_record-*")
    content = record.read_bytes()
    if damage == "truncated":
        record.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        record.write_bytes(content[:500] + b"\x11" * 2000 + content[2500:])
    elif damage == "missing":
        record.unlink()
    else:
        (version / "dataset_info.json").write_text("{")
    assert str(version) in fails(prepared_folder)


def test_a_folder_in_the_format_of_tensorflow_is_refused_with_the_way_out(prepared_folder):
    description = prepared_folder / "mnist" / "3.0.1" / "dataset_info.json"
    info = json.loads(description.read_text())
    description.write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    assert "needs TensorFlow to read" in (message := fails(prepared_folder))
    assert 'file_format="array_record"' in message


def test_the_newest_version_is_found(tmp_path):
    for version in ("3.0.1", "3.0.10", "1.0.0"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").write_text("{}")
    newest = tmp_path / "mnist" / "3.0.10"
    for root in (tmp_path, tmp_path / "mnist", newest):
        assert prepared.find(root, "mnist") == newest
    assert prepared.find(tmp_path, "fashion_mnist") is None
