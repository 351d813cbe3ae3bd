"""Checkpoints: whole, verified, and never lost to a failed save."""

import resource
import shutil
import signal

import numpy as np
import pytest

from tests.helpers import reachable_folder as reachable_folder
from tests.helpers import unwritable
from train.engine.checkpoint import CheckpointError, Checkpoints

# Of a damaged file Orbax raises while its other reads are under way; they end after its event loop,
# and say so while another test is being set up.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)
ARRAYS = {
    "['kernel']": np.arange(600, dtype=np.float32).reshape(20, 30),
    "key": np.array([1, 2**32 - 1], np.uint32),
    "scalar": np.array([[3.5]], np.float32),
}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


def assert_saved(saved, step, arrays=ARRAYS):
    assert saved.step == step and saved.facts == {"step": step, "text": "±"}
    assert saved.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert saved.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(saved.arrays[name], array)


def save(checkpoints, step, arrays=ARRAYS):
    checkpoints.save(step, arrays, {"step": step, "text": "±"})


def test_gives_back_the_newest_of_two(checkpoints):
    assert checkpoints.latest() is None
    for step in (0, 1, 5):
        save(checkpoints, step)
    assert_saved(checkpoints.latest(), 5)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["1", "5"]


def test_another_process_finds_it(checkpoints):
    save(checkpoints, 3)
    again = Checkpoints(checkpoints.folder)
    assert_saved(again.latest(), 3)
    again.close()


def test_an_unfinished_save_is_ignored(checkpoints):
    save(checkpoints, 1)
    checkpoints.close()
    (checkpoints.folder / "2.orbax-checkpoint-tmp").mkdir()
    assert_saved(checkpoints.latest(), 1)


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
@pytest.mark.parametrize("which", ["largest", "facts", "manifest"])
def test_a_damaged_step_is_named_and_nothing_is_deleted(checkpoints, how, which):
    # Random numbers, because compressed zeros may survive a flipped bit.
    big = ARRAYS | {"big": np.random.default_rng(0).random((100, 1000))}
    save(checkpoints, 1)
    save(checkpoints, 2, big)
    checkpoints.close()
    step = checkpoints.folder / "2"
    path = {
        "largest": max(files(step / "arrays"), key=lambda path: path.stat().st_size),
        "facts": step / "facts" / "metadata",
        "manifest": step / "arrays" / "manifest.ocdbt",
    }[which]
    content = path.read_bytes()
    if how == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    before = {path: path.read_bytes() for path in files(checkpoints.folder)}
    with pytest.raises(CheckpointError, match="continue from step 1") as caught:
        checkpoints.latest()
    assert str(step) in str(caught.value)
    assert {path: path.read_bytes() for path in files(checkpoints.folder)} == before


def test_no_flipped_bit_of_the_facts_goes_unseen(checkpoints):
    save(checkpoints, 2)
    checkpoints.close()
    (path,) = [p for p in files(checkpoints.folder / "2" / "facts") if b"text" in p.read_bytes()]
    content = path.read_bytes()
    positions = np.random.default_rng(0).choice(8 * len(content), 60, replace=False)
    for position in positions.tolist():
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.latest()
    path.write_bytes(content)
    assert_saved(checkpoints.latest(), 2)


def test_steps_whose_folders_were_swapped_are_told(checkpoints):
    for step in (1, 2):
        save(checkpoints, step)
    checkpoints.close()
    folder = checkpoints.folder
    for source, target in (("1", "other"), ("2", "1"), ("other", "2")):
        (folder / source).rename(folder / target)
    with pytest.raises(CheckpointError, match="2: damaged .it holds step 1"):
        checkpoints.latest()


def test_without_the_damaged_step_the_one_before_is_used(checkpoints):
    save(checkpoints, 1)
    save(checkpoints, 2)
    checkpoints.close()
    shutil.rmtree(checkpoints.folder / "2")
    assert_saved(Checkpoints(checkpoints.folder).latest(), 1)


def test_a_disk_that_fills_up_keeps_the_last_step(checkpoints):
    """A limit on the size of files fails the save in the same place as a full disk does."""
    save(checkpoints, 1)
    big = ARRAYS | {"big": np.random.default_rng(0).random((300, 1000))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(CheckpointError, match="could not be saved.*there: 1, untouched"):
            save(checkpoints, 2, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["1"]  # nothing half-written
    checkpoints.close()
    again = Checkpoints(checkpoints.folder)
    assert_saved(again.latest(), 1)
    save(again, 2, big)  # with space again, the same command goes on
    assert_saved(again.latest(), 2, big)
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="taken"):
        save(Checkpoints(tmp_path / "taken"), 0)


def test_a_read_only_folder_is_named(reachable_folder):
    folder = reachable_folder / "checkpoints"
    first = Checkpoints(folder)
    save(first, 1)
    first.close()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with unwritable(folder):
        again = Checkpoints(folder)
        with pytest.raises(CheckpointError, match="could not be saved.*untouched"):
            save(again, 2)
        assert_saved(again.latest(), 1)
        again.close()
