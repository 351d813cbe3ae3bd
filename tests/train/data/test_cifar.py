"""CIFAR-10 from its archives, their files, lossless pictures and prepared folders."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.train.data.preparing import prepare
from train import data
from train.data import cifar, images, load
from train.data.pickled import parse_pickled_batch
from train.report.files import DataFileError

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
        name: whole[i * size : (i + 1) * size] for i, name in enumerate(cifar.BINARY.files[:-1])
    }
    return batches | {"test_batch.bin": records("test")}


def write_files(folder):
    for name, content in files().items():
        (folder / name).write_bytes(content)


def write_unpacked(folder):
    (folder / "cifar-10-batches-bin").mkdir()
    write_files(folder / "cifar-10-batches-bin")


def write_archive(folder):
    pack(folder / cifar.BINARY.archive, "cifar-10-batches-bin", files())


def pack(path, folder, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reversed(contents.items()):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def batches():
    """The planes and labels of each of the published files for Python."""
    files = cifar.PICKLED.files
    for split, names in (("train", files[:-1]), ("test", files[-1:])):
        planes = MADE[f"{split}_images"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = MADE[f"{split}_labels"].tolist()
        size = len(planes) // len(names)
        for i, name in enumerate(names):
            part = slice(i * size, (i + 1) * size)
            yield name, planes[part], labels[part]


def string(content: bytes) -> bytes:
    """As Python 2 pickled strings, in protocol 2."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<I", len(content)) + content


def by_python_2(planes: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled the published ones, in protocol 2, but with shorter names."""
    element = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nK\x00\x85U\x01b\x87R("
    array += b"K\x01" + b"".join(b"M" + struct.pack("<H", n) for n in planes.shape) + b"\x86"
    array += element + b"K\x00tb\x89" + string(planes.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + b"".join(string(b"%d.png" % i) for i in range(len(labels))) + b"e"
    batch = string(b"batch_label") + string(b"a batch") + string(b"labels") + numbers
    batch += string(b"data") + array + string(b"filenames") + names
    return b"\x80\x02}q\x01(" + batch + b"u."


def write_pickles(folder):
    (folder / "cifar-10-batches-py").mkdir()
    for name, planes, labels in batches():
        (folder / "cifar-10-batches-py" / name).write_bytes(by_python_2(planes, labels))


def write_pickles_unpacked(folder):
    for name, planes, labels in batches():
        content = pickle.dumps({"data": planes, "labels": labels})
        (folder / name).write_bytes(content)


def write_pickled_archive(folder):
    contents = {
        name: pickle.dumps({b"data": planes, b"labels": labels}, protocol=2)
        for name, planes, labels in batches()
    }
    pack(folder / cifar.PICKLED.archive, "cifar-10-batches-py", contents)


def write_pictures(folder):
    write_sheets(folder / cifar.PICTURES, MADE)


def write_sheets(path, made):
    """Lossless pictures of ten by ten images."""
    from PIL import Image

    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "test"):
            images, labels = made[f"{split}_images"], made[f"{split}_labels"]
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
    "pickles": write_pickles,
    "pickles unpacked": write_pickles_unpacked,
    "archive of pickles": write_pickled_archive,
    "pictures": write_pictures,
}


@pytest.fixture
def published(monkeypatch):
    """Lets the small set pass for the published one."""
    digests = {name: hashlib.sha256(a.tobytes()).hexdigest() for name, a in MADE.items()}
    counts = {"train": TRAIN, "test": TEST}
    small = images.SETS["cifar10"]._replace(counts=counts, sha256=digests)
    monkeypatch.setitem(images.SETS, "cifar10", small)


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


def test_a_folder_that_needs_tensorflow_is_refused_with_ways_out_for_this_set(tmp_path):
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    description = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    description.write_text('{"fileFormat": "tfrecord"}')
    assert "prepared as tfrecord, which needs TensorFlow" in fails(tmp_path)


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
    assert "digits" not in message and "IDX" not in message  # for other experiments
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
    assert f"cannot read {path}: No such file" in fails(tmp_path)


def test_an_archive_without_a_file_is_named(tmp_path):
    pack(tmp_path / cifar.PICKLED.archive, "", {})
    assert "holds no data_batch_1." in fails(tmp_path)
    pack(tmp_path / cifar.BINARY.archive, "", {})
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


def test_a_truncated_or_missing_pickle_is_named(tmp_path):
    write_pickles(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}: truncated" in fails(tmp_path)
    path.unlink()
    assert f"cannot read {path}: No such file" in fails(tmp_path)


def test_a_changed_pixel_of_a_published_pickle_is_found(tmp_path, published):
    write_pickles(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(
        path.read_bytes().replace(MADE["test_images"][3, 0, :, 0].tobytes(), bytes(32))
    )
    assert "not the test images of cifar10, but SHA-256" in fails(tmp_path)


def planes(count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3072), np.uint8)


def test_the_pickles_of_this_test_are_what_python_reads():
    read = pickle.loads(by_python_2(planes(), [3, 9]), encoding="bytes")
    np.testing.assert_array_equal(read[b"data"], planes())
    assert read[b"labels"] == [3, 9] and read[b"filenames"] == [b"0.png", b"1.png"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickles_of_every_protocol(protocol, order):
    content = pickle.dumps({b"data": np.array(planes(), order=order), b"labels": [3, 9]}, protocol)
    for other in (content, content.replace(b"numpy._core", b"numpy.core")):
        if protocol >= 4 and other != content:
            continue  # there names are preceded by their lengths
        images, labels = parse_pickled_batch(other, "batch")
        np.testing.assert_array_equal(images.transpose(0, 3, 1, 2).reshape(2, 3072), planes())
        assert labels.tolist() == [3, 9] and images.dtype == labels.dtype == np.uint8


@pytest.mark.parametrize(
    "batch, message",
    [
        ([1, 2], "it holds no dictionary, but list"),
        ({b"labels": [1]}, "'data' is no array"),
        ({b"data": [[0] * 3072], b"labels": [1]}, "'data' is no array"),
        ({b"data": planes()[:, 1:], b"labels": [1, 2]}, "of shape (2, 3071), expected bytes"),
        ({b"data": planes()[0], b"labels": [1, 2]}, "of shape (3072,), expected"),
        ({b"data": planes().astype(np.float32), b"labels": [1, 2]}, "an array of f4, expected u1"),
        ({b"data": planes().astype(object), b"labels": [1, 2]}, "an array of O8, expected u1"),
        ({b"data": planes()}, "'labels' is not a list of numbers"),
        ({b"data": planes(), b"labels": [1, 256]}, "'labels' is not a list of numbers"),
        ({b"data": planes(), b"labels": [1, b"2"]}, "'labels' is not a list of numbers"),
        ({b"data": planes(), b"labels": [1]}, "1 labels for 2 images"),
    ],
)
def test_pickles_of_something_else_are_named(batch, message):
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        with pytest.raises(DataFileError) as caught:
            parse_pickled_batch(pickle.dumps(batch, protocol), "batch")
        assert str(caught.value).startswith("batch: ") and message in str(caught.value)
    with pytest.raises(DataFileError, match="batch: .*expected bytes of shape"):
        parse_pickled_batch(by_python_2(planes(0), []), "batch")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_without_running(tmp_path, protocol):
    write_pickles(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch = {b"data": planes(), b"labels": [1, 2], b"more": Malicious(tmp_path / "run")}
    path.write_bytes(pickle.dumps(batch, protocol))
    message = fails(tmp_path)
    assert f"{path}: asks for {os.system.__module__}.system" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "asks",
    [
        *("builtins eval", "__builtin__ eval", "builtins getattr", "copyreg _reconstructor"),
        *(
            "numpy load",
            "numpy ndarray.__class__",
            "numpy.core.multiarray fromfile",
            "numpy dtypes",
        ),
        *("numpy.core.multiarray scalar", "_codecs decode", "train.data.pickled _Array"),
    ],
)
def test_nothing_else_is_given_to_a_pickle(asks):
    module, name = asks.split()
    for content in (
        f"c{module}\n{name}\n.".encode(),
        b"\x80\x04"
        + b"".join(b"\x8c%c%s" % (len(w), w.encode()) for w in (module, name))
        + b"\x93.",
    ):
        with pytest.raises(DataFileError, match=f"batch: asks for {module}.{name}, which"):
            parse_pickled_batch(content, "batch")
    with pytest.raises(DataFileError, match="asks for an object outside the file"):
        parse_pickled_batch(b"Pfile\n.", "batch")


def test_no_number_in_a_pickle_asks_for_much_memory():
    whole = by_python_2(planes(), [3, 9])
    assert whole.count(b"}q\x01") == 1
    huge = whole.replace(b"}q\x01", b"}r" + struct.pack("<I", 2**32 - 1))
    with pytest.raises(DataFileError, match="batch: .*at byte 3 a table of 4294967295 entries"):
        parse_pickled_batch(huge, "batch")
    for length in (2**40, 2**63 - 1):  # of bytes that do not follow
        with pytest.raises(DataFileError, match="batch: truncated"):
            parse_pickled_batch(b"\x80\x05\x96" + struct.pack("<Q", length) + b"1.", "batch")


def test_a_text_that_is_encoded_again_and_again_gets_no_memory():
    text = b"X" + struct.pack("<I", 1000) + b"t" * 1000 + b"q\x01"
    encode = b"c_codecs\nencode\nq\x02"
    again = b"h\x02h\x01h\x03\x86R"  # encode(text, "latin1")
    content = b"\x80\x02](" + text + encode + b"X\x06\0\0\0latin1q\x03" + again * 1000 + b"e."
    assert len(pickle.loads(content)) == 1003
    with pytest.raises(DataFileError, match="unpacks to more bytes than it has"):
        parse_pickled_batch(content, "batch")


PICKLES = [by_python_2(planes(), [3, 9])] + [
    pickle.dumps({b"data": planes(), b"labels": [3, 9]}, protocol) for protocol in (2, 4, 5)
]


@hypothesis.given(st.data())
def test_a_damaged_pickle_gives_a_batch_or_an_error(data):
    damaged = bytearray(data.draw(st.sampled_from(PICKLES)))
    structure = [i for i in range(len(damaged)) if i < 300 or i > len(damaged) - 300]
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.sampled_from(structure))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(0), st.integers(0, len(damaged))))
    try:
        images, labels = parse_pickled_batch(bytes(damaged[: len(damaged) - cut]), "batch")
    except DataFileError as error:
        assert str(error).startswith("batch: ")
    else:
        assert images.shape == (len(labels), 32, 32, 3) and images.dtype == labels.dtype == np.uint8


@hypothesis.given(st.binary(max_size=64))
def test_any_bytes_are_no_pickled_batch(content):
    with pytest.raises(DataFileError, match="^batch: "):
        parse_pickled_batch(content, "batch")


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
    """The bytes of each archive and of a file of pictures, and a folder to damage them in."""
    folder = tmp_path_factory.mktemp("whole")
    write_archive(folder)
    write_pickled_archive(folder)
    write_pictures(folder)
    names = cifar.BINARY.archive, cifar.PICKLED.archive, cifar.PICTURES
    contents = {name: (folder / name).read_bytes() for name in names}
    return contents, tmp_path_factory.mktemp("damaged")


@hypothesis.settings(max_examples=30)
@hypothesis.given(st.data())
def test_damage_gives_the_arrays_or_an_error(whole, data):
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
        found = load("cifar10", folder)
    except DataFileError as error:
        assert str(folder) in str(error)
    else:
        check(found)  # a time stamp or the like was changed; checksums guard the rest
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
