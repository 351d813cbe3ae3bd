"""Tiny ImageNet from the original archive, from what it unpacks to, and from a prepared folder."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.train.data.preparing import prepare
from train import data
from train.data import images, tiny_imagenet
from train.report.files import DataFileError

CLASSES = [f"n{k:08}" for k in (31, 4, 15, 92)]  # not in the order of their names
NUMBERS = (0, 1, 2, 10)  # as text, 10 comes before 2


def jpeg(level: int, grey: bool = False) -> bytes:
    """A picture of one colour, which JPEG keeps."""
    colour = level if grey else (level, level, level)
    stream = io.BytesIO()
    Image.new("L" if grey else "RGB", (64, 64), colour).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def contents() -> dict[str, bytes]:
    made = {"wnids.txt": "\n".join(CLASSES).encode()}
    for k, name in enumerate(CLASSES):
        made[f"train/{name}/{name}_boxes.txt"] = b"0 0 1 1"
        for number in NUMBERS:
            level = 40 * k + number
            made[f"train/{name}/images/{name}_{number}.JPEG"] = jpeg(level, grey=number == 1)
    lines = []
    for number in (10, 0, 3, 2):
        made[f"val/images/val_{number}.JPEG"] = jpeg(200 + number)
        lines.append(f"val_{number}.JPEG\t{CLASSES[number % 4]}\t0\t1\t2\t3")
    made["val/val_annotations.txt"] = "\n".join(lines).encode()
    made["test/images/test_0.JPEG"] = jpeg(255)
    return made


MADE = contents()
# By number, all classes in turn, in the order of their names: 4, 15, 31, 92.
LABELS = [0, 1, 2, 3] * len(NUMBERS)
LEVELS = [40 * k + number for number in NUMBERS for k in (1, 2, 0, 3)]
TEST_LABELS, TEST_LEVELS = [2, 1, 3, 1], [200, 202, 203, 210]  # by number


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Lets the small set have the published numbers of images and classes."""
    counts = {"train": len(LABELS), "test": len(TEST_LABELS)}
    known = images.SETS["tiny_imagenet"]._replace(counts=counts, classes=4)
    monkeypatch.setitem(images.SETS, "tiny_imagenet", known)
    return known


def write_archive(folder, made=MADE):
    with zipfile.ZipFile(folder / tiny_imagenet.ARCHIVE, "w") as archive:
        for name, content in made.items():
            archive.writestr(f"{tiny_imagenet.FOLDER}/{name}", content)


def write_folder(folder, made=MADE):
    for name, content in made.items():
        path = folder / tiny_imagenet.FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def by_tfds(folder):
    """Prepared with keys in our order, and the validation images as "test"."""

    def whole(levels):
        return np.tile(np.array(levels, np.uint8).reshape(-1, 1, 1, 1), (1, 64, 64, 3))

    made = {
        "train_images": whole(LEVELS),
        "train_labels": np.array(LABELS, np.uint8),
        "test_images": whole(TEST_LEVELS),
        "test_labels": np.array(TEST_LABELS, np.uint8),
    }
    return prepare(folder, "TinyImagenet", "1.0.0", made)


@pytest.mark.parametrize("write", [write_archive, write_folder, by_tfds])
def test_every_way_gives_the_same_arrays(write, tmp_path):
    found = data.load("tiny_imagenet", write(tmp_path) or tmp_path)
    x = np.concatenate([found.train_x, found.validation_x, found.test_x])
    y = np.concatenate([found.train_y, found.validation_y, found.test_y])
    levels = [*LEVELS, *TEST_LEVELS]
    np.testing.assert_array_equal(x.reshape(len(x), -1), np.tile(levels, (64 * 64 * 3, 1)).T)
    np.testing.assert_array_equal(y, [*LABELS, *TEST_LABELS])
    assert len(found.train_x) == 14 and found.largest == 255  # nine tenths of 16
    assert "16 + 4 images, unverified" in found.source


def test_the_original_archive_is_known_by_its_checksum(tmp_path, small, monkeypatch):
    write_archive(tmp_path)
    digest = hashlib.md5((tmp_path / tiny_imagenet.ARCHIVE).read_bytes()).hexdigest()
    known = small._replace(archives={tiny_imagenet.ARCHIVE: f"md5 {digest}"})
    monkeypatch.setitem(images.SETS, "tiny_imagenet", known)
    assert data.load("tiny_imagenet", tmp_path).source.endswith("verified by the archive's MD5")


FIRST = "train/n00000004/images/n00000004_0.JPEG"
ANNOTATIONS = MADE[tiny_imagenet.ANNOTATIONS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({tiny_imagenet.ANNOTATIONS: None}, "holds no val/val_annotations.txt"),
        ({tiny_imagenet.ANNOTATIONS: b"val_0.JPEG n4"}, "line 1: 'val_0.JPEG n4', expected a pict"),
        (
            {tiny_imagenet.ANNOTATIONS: b"val_0.JPEG\tn1"},
            "val_0.JPEG has the class n1, of which no",
        ),
        ({"val/images/val_7.JPEG": jpeg(1)}, "val_7.JPEG has no class"),
        ({name: None for name in MADE if name.startswith("train/")}, "no pictures for training"),
        ({name: None for name in MADE if name.startswith("val/images")}, "no pictures for testing"),
        ({FIRST: MADE[FIRST][:200]}, f"{FIRST}: truncated, damaged"),
        ({FIRST: b"GIF89a"}, f"{FIRST}: truncated, damaged"),
    ],
)
def test_damage_is_named(changes, message, tmp_path):
    made = {name: content for name, content in (MADE | changes).items() if content is not None}
    write_archive(tmp_path, made)
    with pytest.raises(DataFileError) as caught:
        data.load("tiny_imagenet", tmp_path)
    assert message in str(caught.value) and "the original archive" in str(caught.value)


def test_a_picture_of_another_size_is_named(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (32, 64)).save(stream, "JPEG")
    with pytest.raises(DataFileError, match=r"a picture: .*\(32, 64\) pixels, expected \(64, 64\)"):
        tiny_imagenet.decoded(stream.getvalue(), "a picture")


def test_without_a_folder_there_is_nothing_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataFileError, match="registers no files of tiny_imagenet.*--data-dir"):
        data.load("tiny_imagenet")
    with pytest.raises(DataFileError, match="no file of Tiny ImageNet"):
        data.load("tiny_imagenet", tmp_path)
