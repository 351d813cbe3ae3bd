"""Files are whole or absent."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from tests.helpers import reachable_folder as reachable_folder
from tests.helpers import unwritable
from train.report.files import DataFileError, held, refuse_other_result, write_atomic


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "file"
    write_atomic(path, b"first")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataFileError, match="No space left on device.*untouched") as caught:
        write_atomic(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataFileError, match="taken"):
        write_atomic(tmp_path / "taken" / "file", b"x")


def test_an_interruption_leaves_no_partial_file(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


HOLDING = """
import pathlib, sys, time
from train.report.files import held

with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_that_ends(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(DataFileError, match="another process writes here"), held(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with held(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_created_in_vain_is_removed(tmp_path):
    with pytest.raises(ValueError, match="no data"), held(tmp_path / "a"):
        raise ValueError("no data")
    assert not (tmp_path / "a").exists()
    with held(tmp_path / "a"):
        (tmp_path / "a" / "result").write_text("1")
    assert (tmp_path / "a" / "result").exists()


def test_a_folder_that_cannot_be_written_is_known_at_once(reachable_folder, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataFileError, match="taken: .*cannot be written"), held(tmp_path / "taken"):
        pass
    with unwritable(reachable_folder):
        with pytest.raises(DataFileError, match="cannot be written.*--out"):
            with held(reachable_folder):
                pass


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"experiment": "dense", "settings": {}}, "it holds 'dense', not 'sparse'"),
        (
            {"experiment": "sparse", "settings": {"rate": 1, "epochs": 3}},
            "other settings. rate: 1 there, 2 now",
        ),
        ([1], "no result of an experiment"),
    ],
)
def test_the_result_of_something_else_is_not_overwritten(tmp_path, content, told):
    path = tmp_path / "result.json"
    refuse_other_result(path, "sparse", {"rate": 2, "epochs": 4})
    path.write_text(json.dumps(content))
    with pytest.raises(DataFileError, match=told):
        refuse_other_result(path, "sparse", {"rate": 2, "epochs": 4})
    path.write_text(json.dumps({"experiment": "sparse", "settings": {"rate": 2, "epochs": 3}}))
    refuse_other_result(path, "sparse", {"rate": 2, "epochs": 4})
