"""CIFAR-100: superclasses are left out, classes are kept, by every way that CIFAR-10 has."""

import hashlib
import pickle

import numpy as np
import pytest

from tests.train.data.preparing import prepare
from tests.train.data.test_cifar import pack, write_sheets
from train import data
from train.data import cifar, images
from train.report.files import DataFileError

TRAIN, TEST = 200, 100


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "train_images": generator.integers(0, 256, (TRAIN, 32, 32, 3), np.uint8),
        "train_labels": (np.arange(TRAIN) * 7 % 100).astype(np.uint8),
        "test_images": generator.integers(0, 256, (TEST, 32, 32, 3), np.uint8),
        "test_labels": (np.arange(TEST) * 3 % 100).astype(np.uint8),
    }


MADE = arrays()


def planes(split):
    return MADE[f"{split}_images"].transpose(0, 3, 1, 2).reshape(-1, 3072)


def binary() -> dict[str, bytes]:
    """By the published description: bytes for the superclass and the class, then the planes."""
    made = {}
    for split in ("train", "test"):
        labels = MADE[f"{split}_labels"][:, None]
        made[f"{split}.bin"] = np.concatenate([labels // 5, labels, planes(split)], 1).tobytes()
    return made


def pickled() -> dict[str, bytes]:
    made = {}
    for split in ("train", "test"):
        labels = MADE[f"{split}_labels"]
        content = {
            b"coarse_labels": (labels // 5).tolist(),
            b"fine_labels": labels.tolist(),
            b"data": planes(split),
            b"filenames": [b"x.png"] * len(labels),
        }
        made[split] = pickle.dumps(content, protocol=2)
    return made


def write_files(folder, contents, inner=""):
    (folder / inner).mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / inner / name).write_bytes(content)


WAYS = {
    "binary files": lambda folder: write_files(folder, binary()),
    "binary archive": lambda folder: pack(
        folder / cifar.BINARY_100.archive, "cifar-100-binary", binary()
    ),
    "pickles unpacked": lambda folder: write_files(folder, pickled(), "cifar-100-python"),
    "archive of pickles": lambda folder: pack(
        folder / cifar.PICKLED_100.archive, "cifar-100-python", pickled()
    ),
    "pictures": lambda folder: write_sheets(folder / cifar.CIFAR_100.pictures, MADE),
    "prepared": lambda folder: prepare(folder, "Cifar100", "3.0.2", MADE, named=True),
}


def check(found):
    train = np.concatenate([found.train_x, found.validation_x]).reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(train, MADE["train_images"])
    np.testing.assert_array_equal(found.test_x.reshape(-1, 32, 32, 3), MADE["test_images"])
    labels = np.concatenate([found.train_y, found.validation_y])
    np.testing.assert_array_equal(labels, MADE["train_labels"])
    np.testing.assert_array_equal(found.test_y, MADE["test_labels"])
    assert len(found.train_x) == 180


@pytest.fixture
def small(monkeypatch):
    """Lets the small set have the published number of images."""
    counts = {"train": TRAIN, "test": TEST}
    known = images.SETS["cifar100"]._replace(counts=counts)
    monkeypatch.setitem(images.SETS, "cifar100", known)
    return known


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_arrays(way, tmp_path, small):
    folder = WAYS[way](tmp_path) or tmp_path
    found = data.load("cifar100", folder)
    check(found)
    told = "the archive was packed anew" if "archive" in way else "checksums of its arrays are not"
    assert f"200 + 100 images, unverified: {told}" in found.source


def test_the_original_archive_is_known_by_its_checksum(tmp_path, small, monkeypatch):
    path = tmp_path / cifar.PICKLED_100.archive
    pack(path, "cifar-100-python", pickled())
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    known = small._replace(archives={path.name: f"md5 {digest}"})
    monkeypatch.setitem(images.SETS, "cifar100", known)
    assert data.load("cifar100", tmp_path).source.endswith("verified by the archive's MD5")


def test_other_counts_are_called_unverified(tmp_path):
    write_files(tmp_path, binary())
    assert "NOT the published set" in data.load("cifar100", tmp_path).source


def test_damage_is_named(tmp_path):
    def fails():
        with pytest.raises(DataFileError) as caught:
            data.load("cifar100", tmp_path)
        assert "cifar-100-binary.tar.gz" in str(caught.value)  # the ways out
        return str(caught.value)

    assert "no file of CIFAR-100" in fails()
    contents = binary()
    write_files(tmp_path, contents | {"test.bin": contents["test.bin"][:-1]})
    assert "not a whole number of records of 3074 bytes" in fails()
    content = bytearray(contents["test.bin"])
    content[1] = 100
    write_files(tmp_path, {"test.bin": bytes(content)})
    assert "a label 100, expected 0 to 99" in fails()
    for name in contents:
        (tmp_path / name).unlink()
    contents = pickled()
    write_files(
        tmp_path, contents | {"test": contents["test"].replace(b"fine_labels", b"finE_labels")}
    )
    assert "'fine_labels' is not a list" in fails()
