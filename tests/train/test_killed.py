"""Real processes that SIGKILL ends, started again: they end with the bits of those left alone."""

import json
import random
import re
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.train import processes, tiny
from train.engine.checkpoint import Checkpoints


def test_at_any_moment(tmp_path):
    """Processes, each saving after every epoch, are killed at random moments until one ends, which
    then does the same from the beginning.

    Saving takes most of an epoch here, so that most kills fall into a save.
    """
    whole, result = tmp_path / "whole.json", tmp_path / "killed.json"
    words = [str(tmp_path / "killed"), str(result), str(tmp_path / "whole"), str(whole)]
    generator = random.Random(0)
    kills, lines = 0, []

    def until(process: BaseProcess, told: Path) -> None:
        # Once it has begun training, it lives for so many epochs and a part of the next.
        epochs = generator.randrange(1, 12)
        while process.is_alive() and told.read_text().count("\n") < epochs:
            time.sleep(0.001)
        time.sleep(generator.random() * 0.05)

    while not whole.exists():
        ended = processes.run(tmp_path, tiny.main, *words, until=until if kills < 4 else None)
        lines += ended.printed.splitlines()
        kills += ended.killed
    assert kills >= 2
    assert json.loads(result.read_text()) == json.loads(whole.read_text())
    assert sum("continuing after epoch" in line for line in lines) >= 2


DENSE = "dense --nodes relu --regularisers pcff both --hidden 4 --batch-size 100 --samples 2"
INDRNN = "indrnn --data digits --depth 1 --features 4 --images 60 --batch-size 20"


def test_in_the_middle_of_an_experiment(tmp_path):
    """The same command in the same folder, so that even its result's file has the same bytes."""
    commands = [f"{DENSE} --mode sequential", f"{INDRNN} --mode vmap"]
    names = [command.split()[0] for command in commands]
    commands = [
        f"{command} --epochs 12 --seeds 0 --save-seconds 0 --out {tmp_path / name}"
        for name, command in zip(names, commands, strict=True)
    ]
    for name, command in zip(names, commands, strict=True):
        steps = tmp_path / name / "checkpoint"

        def until(process: BaseProcess, told: Path, steps: Path = steps) -> None:
            while process.is_alive() and latest(steps) < 2:
                time.sleep(0.01)

        killed = processes.run(tmp_path, processes.command, command, until=until)
        assert killed.killed and not (tmp_path / name / "result.json").exists()
    printed = processes.run(tmp_path, processes.twice, commands).printed
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
