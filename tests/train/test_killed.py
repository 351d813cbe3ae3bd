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

from tests import compiler
from tests.train.data.test_cifar import write_files
from train.engine.checkpoint import Checkpoints


class Ended(NamedTuple):
    """What became of a process."""

    killed: bool
    printed: str


def run(
    compiled: Path,
    command: Sequence[str | Path],
    until: Callable[[Any], None] | None = None,
    given: str = "",
) -> Ended:
    """Runs a command on given lines to its end, or kills it when `until(process)` returns.

    Almost all of the time goes to the compiler, so the programs of one command are kept, in a
    folder of this test: processes that may be killed while they write leave nothing to others.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | compiler.kept_in(compiled),
    )
    if until is not None:
        until(process)
        process.send_signal(signal.SIGKILL)
    printed, errors = process.communicate(given)
    killed = until is not None and process.returncode == -signal.SIGKILL
    assert killed or process.returncode == 0, errors
    return Ended(killed, printed)


def test_at_any_moment(tmp_path):
    """Processes, each saving after every epoch, are killed at random moments until one ends, which
    then does the same from the beginning.

    Saving takes most of an epoch here, so that most kills fall into a save.
    """
    whole, result = tmp_path / "whole.json", tmp_path / "killed.json"
    words = [tmp_path / "killed", result, tmp_path / "whole", whole]
    start = functools.partial(
        run, tmp_path / "compiled", [sys.executable, "-m", "tests.train.tiny", *words]
    )
    generator = random.Random(0)
    kills, lines = 0, []

    def until(process: Any) -> None:
        # Once it has begun training, it lives for so many epochs and a part of the next.
        for _ in range(generator.randrange(1, 12)):
            lines.append(process.stdout.readline())
        time.sleep(generator.random() * 0.05)

    while not whole.exists():
        ended = start(until if kills < 4 else None)
        lines += ended.printed.splitlines()
        kills += ended.killed
    assert kills >= 2
    assert json.loads(result.read_text()) == json.loads(whole.read_text())
    assert sum("continuing after epoch" in line for line in lines) >= 2


RESNET = "resnet --blocks 1 --channels 2 --no-none --dropout --pcff .3 --batch-size 30 --length 12"
INDRNN = "indrnn --data digits --depth 1 --features 4 --images 60 --batch-size 20 --epochs 12"
# Continues each command, puts what it leaves aside, and runs it again from the beginning.
TWICE = """
import importlib, pathlib, sys

for line in sys.stdin:
    name, *words = line.split()
    out = pathlib.Path(words[-1])
    for place in ("killed", "whole"):
        assert importlib.import_module(f"train.{name}.__main__").cli(words) == 0
        out.rename(out.with_name(f"{name} {place}"))
"""


def test_in_the_middle_of_an_experiment(tmp_path):
    """The same command in the same folder, so that even its result's file has the same bytes."""
    (tmp_path / "pictures").mkdir()
    write_files(tmp_path / "pictures")
    commands = [
        f"{RESNET} --data-dir {tmp_path / 'pictures'} --mode sequential",
        f"{INDRNN} --mode vmap",
    ]
    names = [command.split()[0] for command in commands]
    commands = [
        f"{command} --seeds 0 --save-seconds 0 --out {tmp_path / name}"
        for name, command in zip(names, commands, strict=True)
    ]
    for name, command in zip(names, commands, strict=True):
        steps = tmp_path / name / "checkpoint"

        def until(process: Any, steps: Path = steps) -> None:
            while process.poll() is None and latest(steps) < 2:
                time.sleep(0.01)

        experiment, *words = command.split()
        killed = run(
            tmp_path / "compiled", [sys.executable, "-m", f"train.{experiment}", *words], until
        )
        assert killed.killed and not (tmp_path / name / "result.json").exists()
    printed = run(
        tmp_path / "compiled", [sys.executable, "-c", TWICE], given="\n".join(commands)
    ).printed
    continued = [int(epoch) for epoch in re.findall(r"continuing after epoch (\d+) of", printed)]
    assert len(continued) == 2 and all(2 <= epoch < 12 for epoch in continued)
    for name in names:
        whole, killed = tmp_path / f"{name} whole", tmp_path / f"{name} killed"
        expected, got = (Checkpoints(folder / "checkpoint").latest() for folder in (whole, killed))
        assert expected is not None and got is not None
        assert got.step == expected.step == 12 and got.arrays.keys() == expected.arrays.keys()
        for key, array in expected.arrays.items():
            assert got.arrays[key].tobytes() == array.tobytes(), key
        assert (killed / "result.json").read_bytes() == (whole / "result.json").read_bytes()


def latest(folder: Path) -> int:
    """The last epoch after which there is a whole checkpoint."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)
