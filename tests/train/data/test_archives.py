"""Packed files that lie about their size, are damaged where no parser looks, or are no files."""

import contextlib
import gzip
import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from train import data
from train.data import archives, cifar, fetch, idx, uci
from train.data.archives import members, take, whole
from train.report.files import DataFileError

MEGABYTE = 1 << 20


@contextlib.contextmanager
def little(memory: int = 5 * MEGABYTE, seconds: float = 20) -> Iterator[None]:
    """Fails where more memory is asked for, and where nothing happens for long."""

    def expired(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read(content: bytes, wanted: Callable[[str], str | None] = str) -> dict[str, bytes]:
    """All members of an archive, or those that are `wanted`."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "FILE"
        path.write_bytes(content)
        return members(path, wanted, lambda _, stream: whole(stream))


def fails(content: bytes, wanted: Callable[[str], str | None] = str) -> str:
    with pytest.raises(DataFileError, match=r"(?s)^/.*/FILE: .*\.$") as caught:
        read(content, wanted)
    return str(caught.value)


def zipped(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def tarred(*entries: tuple[str, bytes]) -> bytes:
    parts = [header(n, len(c)) + c + bytes(-len(c) % 512) for n, c in entries]
    return b"".join(parts) + bytes(1024)


PACKED: dict[str, Callable[..., bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda *entries: gzip.compress(tarred(*entries)),
}
packed = pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)


@packed
def test_members_are_read_whatever_packs_them(pack):
    entries = {"a": b"one", "b/c": bytes(3 * MEGABYTE), "d": b""}
    assert read(pack(*entries.items())) == entries
    assert read(pack()) == {}


@packed
def test_a_second_member_of_a_name_is_refused(pack, recwarn):  # zipfile warns where it writes it
    entries = ("a", b"one"), ("b", b"two"), ("a", b"one")
    assert "holds a twice" in fails(pack(*entries))

    def base(name: str) -> str:
        return name.rsplit("/", 1)[-1]

    assert "FILE: holds a twice" in fails(pack(("x/a", b"one"), ("y/a", b"two")), base)


@packed
def test_what_is_not_wanted_may_be_anything(pack, recwarn):
    content = pack(("a", b"one"), ("b", b"two"), ("b", b"three"), ("c/", b""))
    assert read(content, {"a": "A"}.get) == {"A": b"one"}


def test_links_and_folders_are_no_files():
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        assert "FILE: a in it is a link or a folder" in fails(header("a", 0, kind) + bytes(1024))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "kind",
    [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE],
)
def test_a_tar_header_that_announces_a_terabyte_gets_no_memory(compress, kind):
    content = compress(header("a", 2**40, kind) + bytes(1024))
    with little():
        fails(content)


def test_a_sparse_member_gets_no_memory():
    old = bytearray(header("a", 512, tarfile.GNUTYPE_SPARSE))
    old[386:410] = b"%011o\0%011o\0" % (0, 512)  # the first of its pieces: where, how long
    old[483:495] = b"\x80" + (2**40).to_bytes(11, "big")  # the size with its holes
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 8 * 32 + sum(old[156:512]))
    with tarfile.open(fileobj=io.BytesIO(bytes(old) + bytes(1536))) as archive:
        assert archive.getmembers()[0].size == 2**40
    with pytest.MonkeyPatch.context() as patch, little():
        patch.setattr(archives, "LARGEST", MEGABYTE)
        assert "more than 1 MiB" in fails(bytes(old) + bytes(1536))


@pytest.mark.parametrize("method", ["stored", "deflated"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_changed_bytes_are_found_by_a_checksum(kind, method):
    pixels = np.random.default_rng(0).bytes(5000)  # of which deflate makes no less
    if kind == "zip":
        methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
        content = bytearray(zipped(("a", pixels), method=methods[method]))
    else:
        content = bytearray(gzip.compress(tarred(("a", pixels)), 0 if method == "stored" else 9))
    part = pixels[100:200] if method == "stored" else bytes(content[2000:2100])
    content[content.index(part)] ^= 1
    message = fails(bytes(content))
    assert "CRC" in message or method == "deflated"


def test_what_follows_a_tar_file_in_its_stream_belongs_to_the_checksum():
    whole_file = gzip.compress(tarred(("a", b"one")) + bytes(100_000))
    assert read(whole_file) == {"a": b"one"}
    assert "CRC" in fails(whole_file[:-8] + bytes(4) + whole_file[-4:])
    assert "end-of-stream" in fails(whole_file[:-9])


def test_nothing_unpacks_to_more_than_the_largest_size(monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", MEGABYTE)
    zeros = bytes(8 * MEGABYTE)
    for content in (
        zipped(("a", zeros)),
        zipped(*((name, zeros[: MEGABYTE // 2]) for name in "abc")),
        tarred(("a", zeros)),
        gzip.compress(tarred(("a", zeros))),
        gzip.compress(tarred(("a", b"one")) + zeros),  # behind its end
    ):
        with little():
            assert "more than 1 MiB" in fails(content)
    unwanted = gzip.compress(tarred(("a", zeros), ("b", b"")))
    with little():
        assert "more than 1 MiB" in fails(unwanted, {"b": "b"}.get)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_refused(method):
    assert "a is packed otherwise than by deflate" in fails(zipped(("a", b"one"), method=method))


def test_no_more_is_taken_than_asked_for():
    file = io.BytesIO(bytes(5 * MEGABYTE))
    assert len(take(file, 3 * MEGABYTE + 1)) == file.tell() == 3 * MEGABYTE + 1
    with little():
        assert len(take(file, 2**60)) == 2 * MEGABYTE - 1
    assert take(file, 1) == take(file, -1) == b""


# --- the loaders ----------------------------------------------------------------------------------


def idx_header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "content, message",
    [
        (idx_header(2, 3, 4) + bytes(16 * MEGABYTE), "too long: the header announces 24 bytes"),
        (idx_header(2**32 - 1, 0, 2**32 - 1), "the header announces 4294967295 x 0 x 4294967295, "),
        (idx_header(2**32 - 1, 2**32 - 1, 1) + bytes(9), "truncated: the header announces 18446"),
        (idx_header(2**20, 2**20, 1) + bytes(9), "truncated: the header announces 1099511627776"),
    ],
)
def test_of_an_idx_file_as_much_is_read_as_it_announces(tmp_path, compress, content, message):
    path = tmp_path / "images"
    path.write_bytes(compress(content))
    with little(), pytest.raises(DataFileError, match=message) as caught:
        idx.read_idx(path, ndim=3)
    assert str(path) in str(caught.value) and "Replace it" in str(caught.value)


def array(element: str, shape: tuple[int, ...], content: bytes) -> bytes:
    """A .npy file with a header of our choice."""
    words = f"{{'descr': {element!r}, 'fortran_order': False, 'shape': {shape}}}"
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words) + 1) + f"{words}\n".encode() + content
    )


@pytest.mark.parametrize(
    "content, message",
    [
        (array("<f8", (3, 2), bytes(16 * MEGABYTE)), "more bytes than the 48 of float64[3, 2]"),
        (array("<f8", (2**37,), bytes(9)), "fewer bytes than the 1099511627776 of float64"),
        (array("<f8", (2**62, 2**62), b""), "fewer bytes than"),
        (array("<f8", (-1,), bytes(8)), "more bytes than the -8"),
        (array("|O", (1,), bytes(8)), "an array of object"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(16 * MEGABYTE), "EOF: reading array header"),
        (bytes(16 * MEGABYTE), "magic string"),
    ],
)
def test_of_an_array_as_much_is_read_as_it_announces(tmp_path, content, message):
    path = tmp_path / uci.FILES["boston"]
    path.write_bytes(zipped(("x.npy", content)))
    with little(), pytest.raises(DataFileError) as caught:
        uci.load_table("boston", tmp_path)
    assert str(path) in str(caught.value) and message in str(caught.value)


def make_pipe(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def make_device(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_pipe, make_device])
@pytest.mark.parametrize(
    "name, file",
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("mnist", "mnist/3.0.1/dataset_info.json"),
        ("mnist", "mnist/3.0.1/mnist-train.array_record-00000-of-00001"),
        ("cifar10", cifar.BINARY.archive),
        ("cifar10", cifar.PICKLED.archive),
        ("cifar10", cifar.PICTURES),
        ("cifar10", "data_batch_1.bin"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
    ],
)
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused_at_once(tmp_path, make, name, file):
    make(tmp_path / file)
    if "array_record" in file:
        pytest.importorskip("tensorflow_datasets")
        description = {"fileFormat": "array_record"}
        (tmp_path / file).with_name("dataset_info.json").write_text(json.dumps(description))
    with little(256 * MEGABYTE), pytest.raises(DataFileError, match="a pipe or a device") as caught:
        data.load(name, tmp_path)
    assert f"cannot read {tmp_path / file}: " in str(caught.value)


@pytest.mark.parametrize("make", [make_pipe, make_device])
def test_tables_and_kept_files_are_files(tmp_path, make):
    make(tmp_path / uci.FILES["yacht"])
    with little(), pytest.raises(DataFileError, match="yacht.npz: a pipe or a device.*--data-dir"):
        uci.load_table("yacht", tmp_path)
    with little():  # what was fetched is then fetched again
        registered = fetch.RemoteFile("", 1, "", "")
        assert not fetch._present(tmp_path / uci.FILES["yacht"], registered)


def test_the_names_of_data_sets_come_without_jax():
    words = "import sys, train.data, train.data.uci; print('jax' in sys.modules, train.data.NAMES)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    names = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet")
    assert done.stdout == f"False {names}\n"
