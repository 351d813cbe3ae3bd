"""The IDX parser: what it accepts, and that nothing else gets through, whatever the bytes."""

import gzip
import io
import re
import struct

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from train.data.idx import parse_idx, read_idx
from train.report.files import DataFileError


def encode(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_reads_what_was_written_gzipped_or_not(tmp_path, compress):
    path = tmp_path / "images"  # the name says nothing about compression
    path.write_bytes(compress(encode(IMAGES)))
    np.testing.assert_array_equal(read_idx(path, ndim=3), IMAGES)


def test_header_by_hand():
    content = bytes.fromhex("00000803 00000001 00000002 00000002 01020304")
    np.testing.assert_array_equal(parse_idx(io.BytesIO(content), 3, "x"), [[[1, 2], [3, 4]]])


whole = encode(IMAGES)
zipped = gzip.compress(whole, mtime=0)


@pytest.mark.parametrize(
    "content, message",
    [
        (whole[:-1], "truncated: the header announces 24 bytes of data (2 x 3 x 4), there are 23"),
        (whole[:10], "truncated: 10 bytes, shorter than its header"),
        (b"", "truncated: 0 bytes"),
        (whole + b"\0", "too long"),
        (encode(IMAGES[0]), "wrong magic number 00000802, expected 00000803"),
        (b"\x89PNG" + whole, "wrong magic number"),
        (bytes([0, 0, 13, 3]) + whole[4:], "wrong magic number 00000d03"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 28), "truncated"),
        (zipped[:-9], "truncated, damaged, or not"),
        (zipped[:5], "truncated, damaged, or not"),
        (zipped[:20] + bytes([zipped[20] ^ 0xFF]) + zipped[21:], "truncated, damaged, or not"),
        (zipped[:-8] + b"\0\0\0\0" + zipped[-4:], "truncated, damaged, or not"),
        (gzip.compress(whole[:-1], mtime=0), "truncated"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=re.escape(message)) as caught:
        read_idx(path, ndim=3)
    assert str(path) in str(caught.value)


def test_what_cannot_be_opened_is_named(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataFileError, match=re.escape(str(path)) + ".*Replace it"):
            read_idx(path, ndim=1)


@hypothesis.given(st.binary(max_size=64), st.integers(1, 3))
def test_any_bytes_give_an_array_of_exactly_them_or_an_error(content, ndim):
    try:
        array = parse_idx(io.BytesIO(content), ndim, "file")
    except DataFileError:
        return
    assert array.ndim == ndim and array.dtype == np.uint8
    assert encode(array) == content


@hypothesis.given(st.data())
def test_a_damaged_gzip_file_gives_the_array_or_an_error(tmp_path_factory, data):
    damaged = bytearray(zipped)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    path = tmp_path_factory.mktemp("gzip") / "file"
    path.write_bytes(damaged)
    try:
        array = read_idx(path, ndim=3)
    except DataFileError:
        return
    # Some bytes of gzip's own header (a time stamp) mean nothing; the checksum guards the rest.
    np.testing.assert_array_equal(array, IMAGES)


@hypothesis.given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.randoms())
def test_every_array_survives(shape, random):
    array = np.frombuffer(random.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)
    np.testing.assert_array_equal(parse_idx(io.BytesIO(encode(array)), len(shape), "file"), array)
