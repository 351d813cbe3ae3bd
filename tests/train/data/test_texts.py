"""Texts as characters."""

import gzip

import numpy as np
import pytest

from train.data import texts
from train.report.files import DataFileError


def test_a_text_is_cut_and_counted(tmp_path):
    content = "To be, or not to be.\n" * 20
    (tmp_path / "input.txt.gz").write_bytes(gzip.compress(content.encode()))
    text = texts.load("tinyshakespeare", tmp_path)
    assert text.alphabet == "".join(sorted(set(content)))
    parts = np.concatenate(text[:3])
    assert "".join(text.alphabet[code] for code in parts) == content
    assert [part.size for part in text[:3]] == [378, 21, 21]
    assert text.source.startswith(f"input.txt.gz: {len(text.alphabet)} symbols; 378 for training")
    first = texts.load("tinyshakespeare", tmp_path, 100)
    assert sum(part.size for part in first[:3]) == 100 and first.digest != text.digest
    (tmp_path / "input.txt").write_text(content)
    assert texts.load("tinyshakespeare", tmp_path).digest == text.digest


def test_python_has_a_text():
    text = texts.load("python", most=50_000)
    assert sum(part.size for part in text[:3]) == 50_000
    assert text.alphabet.isascii() and "PSF" in text.source


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds none of kjv.txt, with or without .gz"),
        (b"short", "5 characters, 5 different ones; expected at least 100"),
        ("naïve".encode() * 100, "kjv.txt: truncated, damaged, or not what its name says"),
    ],
)
def test_bad_files_are_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / "kjv.txt").write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        texts.load("kjv", tmp_path)


def test_other_names_and_no_folder():
    with pytest.raises(ValueError, match="no text 'bible'; there are python, tinyshakespeare, kjv"):
        texts.load("bible")
    with pytest.raises(DataFileError, match="kjv is not part of any package"):
        texts.load("kjv")
