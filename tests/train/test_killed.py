"""Real processes that SIGKILL ends, started again: they end with the bits of those left alone."""

import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import compiler
from tests.train.data.test_cifar import write_files
from train.engine.checkpoint import Checkpoints


class Ended(NamedTuple):
    """What became of a process."""

    killed: bool
    printed: str


def run(
    compiled: Path, command: Sequence[str | Path], until: Callable[[Any], None] | None = None
) -> Ended:
    """Runs a command to its end, or kills it when `until(process)` returns.

    Almost all of the time goes to the compiler, so the programs of one command are kept, in a
    folder of this test: processes that may be killed while they write leave nothing to others.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | compiler.kept_in(compiled),
    )
    if until is not None:
        until(process)
        process.send_signal(signal.SIGKILL)
    printed, errors = process.communicate()
    killed = until is not None and process.returncode == -signal.SIGKILL
    assert killed or process.returncode == 0, errors
    return Ended(killed, printed)


def test_at_any_moment(tmp_path):
    """Processes, each saving after every epoch, are killed at random moments until one ends.

    Saving takes most of an epoch here, so that most kills fall into a save.
    """
    command = [sys.executable, "-m", "tests.train.tiny"]
    whole = tmp_path / "whole.json"
    begin = time.monotonic()
    start = functools.partial(run, tmp_path / "compiled")
    start([*command, tmp_path / "a", whole])
    limit = 20 * (time.monotonic() - begin)
    result = tmp_path / "killed.json"
    generator = random.Random(0)
    kills, lines = 0, []

    def until(process: Any) -> None:
        # Once it has begun training, it lives for so many epochs and a part of the next.
        for _ in range(generator.randrange(1, 12)):
            lines.append(process.stdout.readline())
        time.sleep(generator.random() * 0.05)

    while not result.exists() and time.monotonic() - begin < limit:
        ended = start([*command, tmp_path / "b", result], until if kills < 4 else None)
        lines += ended.printed.splitlines()
        kills += ended.killed
    assert kills >= 2
    assert json.loads(result.read_text()) == json.loads(whole.read_text())
    assert sum("continuing after epoch" in line for line in lines) >= 2


RESNET = "resnet --blocks 1 --channels 2 --no-none --dropout --pcff .3 --batch-size 30 --length 20"
INDRNN = "indrnn --data digits --depth 1 --features 4 --images 60 --batch-size 20 --epochs 20"


@pytest.mark.parametrize(
    "options", [f"{RESNET} --mode sequential", f"{INDRNN} --mode vmap"], ids=["resnet", "indrnn"]
)
def test_in_the_middle_of_an_experiment(options, tmp_path):
    """The same command in the same folder, so that even its result's file has the same bytes."""
    name, *chosen = f"{options} --seeds 0 --save-seconds 0".split()
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", f"train.{name}", *chosen, "--out", out]
    if name == "resnet":
        (tmp_path / "pictures").mkdir()
        write_files(tmp_path / "pictures")
        command += ["--data-dir", tmp_path / "pictures"]
    start = functools.partial(run, tmp_path / "compiled", command)
    start()
    out.rename(whole)

    def until(process: Any) -> None:
        while process.poll() is None and latest(out / "checkpoint") < 2:
            time.sleep(0.01)

    assert start(until).killed and not (out / "result.json").exists()
    middle = re.search(r"continuing after epoch (\d+) of", start().printed)
    assert middle is not None and 2 <= int(middle[1]) < 20
    expected, got = (Checkpoints(folder / "checkpoint").latest() for folder in (whole, out))
    assert expected is not None and got is not None
    assert got.step == expected.step == 20 and got.arrays.keys() == expected.arrays.keys()
    for key, array in expected.arrays.items():
        assert got.arrays[key].tobytes() == array.tobytes(), key
    assert (out / "result.json").read_bytes() == (whole / "result.json").read_bytes()


def latest(folder: Path) -> int:
    """The last epoch after which there is a whole checkpoint."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)
