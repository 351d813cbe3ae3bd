"""Checkpoints in parts: whole, verified, and never lost to a failed or killed save."""

import os
import resource
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import reachable_folder as reachable_folder
from tests.helpers import unwritable
from train.engine.checkpoint import CheckpointError
from train.engine.plain_checkpoint import PlainCheckpoints

ARRAYS = {
    "['kernel']": np.arange(600, dtype=np.float32).reshape(20, 30),
    "key": np.array([1, 2**32 - 1], np.uint32),
    "scalar": np.array([[3.5]], np.float32),
    "nothing": np.zeros((0, 3), np.int32),
}
BYTES = 4 * 603
PART = 1000


@pytest.fixture
def checkpoints(tmp_path):
    return PlainCheckpoints(tmp_path / "checkpoint", PART)


def save(checkpoints, step):
    arrays = {name: array + np.asarray(step, array.dtype) for name, array in ARRAYS.items()}
    checkpoints.save(step, arrays, {"step": step, "text": "±", "slots": {"runs": (0, 1)}})


def assert_saved(saved, step):
    assert saved.step == step
    assert saved.facts == {"step": step, "text": "±", "slots": {"runs": [0, 1]}}
    assert saved.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        got = saved.arrays[name]
        assert got.dtype == array.dtype and got.flags.writeable
        np.testing.assert_array_equal(got, array + np.asarray(step, array.dtype))


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_gives_back_the_newest_step_in_parts_of_bounded_size(checkpoints):
    assert checkpoints.latest() is None
    for step in (0, 1, 5):
        save(checkpoints, step)
        assert_saved(checkpoints.latest(), step)
    assert_saved(PlainCheckpoints(checkpoints.folder).latest(), 5)
    parts = [f"step_5_part_{k}.bin" for k in range(3)]
    assert names(checkpoints) == ["index.json", *parts]
    assert [(checkpoints.folder / part).stat().st_size for part in parts] == [
        PART,
        PART,
        BYTES % PART,
    ]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("call", range(4))
def test_a_save_that_is_cut_short_keeps_the_last_step(checkpoints, monkeypatch, call):
    """Before each of the four files of the step takes its place."""
    save(checkpoints, 1)
    replace, calls = os.replace, []

    def replaced(*paths):
        if len(calls) == call:
            raise Killed
        calls.append(paths)
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replaced)
        with pytest.raises(Killed):
            save(checkpoints, 2)
    again = PlainCheckpoints(checkpoints.folder, PART)
    assert_saved(again.latest(), 1)
    assert len(names(checkpoints)) == 4 + call
    (checkpoints.folder / ".step_2_part_1.bin.x_1").write_bytes(b"cut short")
    (checkpoints.folder / ".index.json.y_2").write_bytes(b"cut short")
    save(again, 3)
    assert_saved(again.latest(), 3)
    assert len(names(checkpoints)) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.train.test_plain_checkpoint import PART, save
from train.engine.plain_checkpoint import PlainCheckpoints

checkpoints = PlainCheckpoints(Path(sys.argv[1]), PART)
save(checkpoints, 1)
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save(checkpoints, 2)
"""


def test_a_killed_process_keeps_the_last_step(checkpoints):
    ended = subprocess.run([sys.executable, "-c", KILLED, checkpoints.folder])
    assert ended.returncode == -signal.SIGKILL
    assert len(names(checkpoints)) == 5  # the file that was being written is still there
    assert_saved(checkpoints.latest(), 1)


@pytest.mark.parametrize(
    ("name", "how", "reason"),
    [
        ("step_2_part_1.bin", "flip", "do not match their digest"),
        ("step_2_part_1.bin", "truncate", "500 bytes of 1000"),
        ("step_2_part_1.bin", "delete", "No such file"),
        ("index.json", "flip", "digest"),
        ("index.json", "truncate", ""),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_deleted(checkpoints, name, how, reason):
    save(checkpoints, 2)
    path = checkpoints.folder / name
    content = path.read_bytes()
    if how == "flip" and name == "index.json":
        content = content.replace(b'"step": 2', b'"step": 3')
        path.write_bytes(content)
    elif how == "flip":
        path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    before = {other: other.read_bytes() for other in checkpoints.folder.iterdir()}
    with pytest.raises(CheckpointError, match=f"{name}: damaged .*{reason}.*delete it") as caught:
        checkpoints.latest()
    assert str(checkpoints.folder) in str(caught.value)
    assert {other: other.read_bytes() for other in checkpoints.folder.iterdir()} == before


def test_a_disk_that_fills_up_keeps_the_last_step(checkpoints):
    """A limit on the size of files fails the save in the same place as a full disk does."""
    save(checkpoints, 1)
    before = names(checkpoints)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    small = PlainCheckpoints(checkpoints.folder, 300)  # parts that fit, and a longer index
    try:
        with pytest.raises(CheckpointError, match="step 2 could not be saved .*untouched"):
            save(small, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(checkpoints) == before
    assert_saved(checkpoints.latest(), 1)


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    checkpoints = PlainCheckpoints(tmp_path / "taken")
    for attempt in (checkpoints.latest, checkpoints.require_writable):
        with pytest.raises(CheckpointError, match="taken.*Choose another folder|taken.*choose"):
            attempt()


def test_a_read_only_folder_can_be_read_and_is_named_before_it_is_written(reachable_folder):
    checkpoints = PlainCheckpoints(reachable_folder / "checkpoint", PART)
    checkpoints.require_writable()
    save(checkpoints, 1)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in checkpoints.folder.iterdir())
    with unwritable(checkpoints.folder):
        with pytest.raises(CheckpointError, match="checkpoint: cannot be written"):
            checkpoints.require_writable()
        with pytest.raises(CheckpointError, match="could not be saved"):
            save(checkpoints, 2)
        assert_saved(checkpoints.latest(), 1)
    checkpoints.require_writable()
    assert len(names(checkpoints)) == 4
