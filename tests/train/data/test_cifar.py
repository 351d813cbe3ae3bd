"""CIFAR-10 from its archive, its files, lossless pictures and prepared folders."""

import hashlib
import io
import tarfile
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.train.data.preparing import prepare
from train import data
from train.data import cifar
from train.files import DataFileError

# Ten images a batch of the training files; pictures hold a hundred, so the counts are those of two.
TRAIN, TEST = 200, 100


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "train_images": generator.integers(0, 256, (TRAIN, 32, 32, 3), np.uint8),
        "train_labels": (np.arange(TRAIN) * 7 % 10).astype(np.uint8),
        "test_images": generator.integers(0, 256, (TEST, 32, 32, 3), np.uint8),
        "test_labels": (np.arange(TEST) * 3 % 10).astype(np.uint8),
    }


MADE = arrays()


def records(split: str) -> bytes:
    """By the published description: a byte for the class, then red, green and blue planes."""
    parts = []
    for image, label in zip(MADE[f"{split}_images"], MADE[f"{split}_labels"], strict=True):
        parts += [bytes([label]), *(image[:, :, channel].tobytes() for channel in range(3))]
    return b"".join(parts)


def files() -> dict[str, bytes]:
    whole = records("train")
    size = len(whole) // 5
    batches = {
        name: whole[i * size : (i + 1) * size] for i, name in enumerate(cifar.FILES["train"])
    }
    return batches | {"test_batch.bin": records("test")}


def write_files(folder):
    for name, content in files().items():
        (folder / name).write_bytes(content)


def write_unpacked(folder):
    (folder / "cifar-10-batches-bin").mkdir()
    write_files(folder / "cifar-10-batches-bin")


def write_archive(folder):
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as archive:
        for name, content in reversed(files().items()):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_pictures(folder):
    from PIL import Image

    with zipfile.ZipFile(folder / cifar.PICTURES, "w") as archive:
        for split in ("train", "test"):
            images, labels = MADE[f"{split}_images"], MADE[f"{split}_labels"]
            archive.writestr(
                f"{split}/labels.idx1-ubyte",
                bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big") + labels.tobytes(),
            )
            for sheet in range(len(images) // 100):
                picture = np.zeros((320, 320, 3), np.uint8)
                for cell in range(100):
                    row, column = divmod(cell, 10)
                    picture[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = images[
                        100 * sheet + cell
                    ]
                stream = io.BytesIO()
                Image.fromarray(picture).save(stream, "WEBP", lossless=True, method=0)
                archive.writestr(f"{split}/{sheet:03}.webp", stream.getvalue())


WAYS = {
    "files": write_files,
    "unpacked archive": write_unpacked,
    "archive": write_archive,
    "pictures": write_pictures,
}


@pytest.fixture
def published(monkeypatch):
    """Lets the small set pass for the published one."""
    digests = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in MADE.items()}
    monkeypatch.setattr(cifar, "SHA256", digests)
    monkeypatch.setattr(cifar, "COUNTS", {"train": TRAIN, "test": TEST})


def check(found):
    boundary = TRAIN * 9 // 10
    train = np.concatenate([found.train_x, found.validation_x]).reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(train, MADE["train_images"])
    np.testing.assert_array_equal(found.test_x.reshape(-1, 32, 32, 3), MADE["test_images"])
    np.testing.assert_array_equal(found.validation_y, MADE["train_labels"][boundary:])
    np.testing.assert_array_equal(found.train_y, MADE["train_labels"][:boundary])
    np.testing.assert_array_equal(found.test_y, MADE["test_labels"])
    assert found.largest == 255 and found.train_y.dtype == np.int32 and len(found.train_x) == 180


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_arrays(way, tmp_path, published):
    WAYS[way](tmp_path)
    found = data.load("cifar10", tmp_path)
    check(found)
    assert found.source.endswith("200 + 100 images, verified by SHA-256")


def test_other_counts_are_called_unverified(tmp_path):
    write_files(tmp_path)
    assert "NOT the published set" in data.load("cifar10", tmp_path).source


def test_a_prepared_folder_gives_the_published_order(tmp_path, published):
    prepared = prepare(tmp_path, "Cifar10", "3.0.2", MADE, named=True)
    found = data.load("cifar10", prepared)
    check(found)
    assert found.source.startswith("cifar10 from a prepared TFDS folder")


def fails(folder) -> str:
    with pytest.raises(DataFileError) as caught:
        data.load("cifar10", folder)
    message = str(caught.value)
    assert "--data-dir" in message and str(folder) in message
    return message


def test_an_empty_or_missing_folder_is_named(tmp_path):
    assert "no file of CIFAR-10" in fails(tmp_path)
    assert "no such folder" in fails(tmp_path / "nothing")


def test_a_truncated_file_is_named(tmp_path):
    write_files(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}: " in fails(tmp_path) and "not a whole number of records" in fails(tmp_path)
    path.unlink()
    assert f"{path}: cannot be read" in fails(tmp_path)


def test_an_archive_without_a_file_is_named(tmp_path):
    with tarfile.open(tmp_path / cifar.ARCHIVE, "w:gz"):
        pass
    assert "holds no data_batch_1.bin" in fails(tmp_path)


def test_a_label_out_of_range_is_named(tmp_path):
    write_files(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(bytes([10]) + path.read_bytes()[1:])
    assert "a label 10" in fails(tmp_path)


def test_a_changed_pixel_of_the_published_set_is_found(tmp_path, published):
    write_files(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    assert "not the train images of cifar10, but SHA-256" in fails(tmp_path)


def test_pictures_of_another_size_are_named(tmp_path):
    from PIL import Image

    write_pictures(tmp_path)
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "WEBP", lossless=True)
    with zipfile.ZipFile(tmp_path / cifar.PICTURES, "a") as archive:
        archive.writestr("train/002.webp", stream.getvalue())
    assert "train/002.webp has (64, 64) pixels" in fails(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of an archive and of a file of pictures, and a folder to damage them in."""
    folder = tmp_path_factory.mktemp("whole")
    write_archive(folder)
    write_pictures(folder)
    return {name: (folder / name).read_bytes() for name in (cifar.ARCHIVE, cifar.PICTURES)}, (
        tmp_path_factory.mktemp("damaged")
    )


@hypothesis.settings(max_examples=30)
@hypothesis.given(st.data())
def test_damage_gives_arrays_that_fit_or_an_error(whole, data):
    contents, folder = whole
    name = data.draw(st.sampled_from(sorted(contents)))
    damaged = bytearray(contents[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    # Half of the time at its end, where a file of pictures has its table of contents.
    cut = data.draw(st.one_of(st.just(0), st.integers(0, len(damaged))))
    path = folder / name
    path.write_bytes(damaged[: len(damaged) - cut])
    try:
        found = cifar.load_cifar10(folder)
    except DataFileError as error:
        assert str(folder) in str(error)
    else:
        assert found.train_x.shape[1] == 3072 and found.train_y.max() < 10
    finally:
        path.unlink()


@hypothesis.given(st.binary(max_size=64), st.integers(0, 2))
def test_any_bytes_give_records_or_an_error(content, count):
    try:
        images, labels = cifar.parse_batch(content + bytes(3073 * count), "batch")
    except DataFileError:
        assert content or not count
        return
    assert not content and len(images) == len(labels) == count
