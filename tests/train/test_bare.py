"""The experiments where little is installed, and the script that runs them on a GPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import compiler
from tests.train.data.test_cifar import write_files
from train import bare
from train.engine.checkpoint import CheckpointError
from train.engine.plain_checkpoint import PlainCheckpoints
from train.engine.recipes import PatientRecipe, SteppedRecipe
from train.indrnn import experiment as indrnn
from train.resnet import experiment as resnet

# The settings of RESNET in `test_sweep.py`.
SMALL = "--blocks 1 --channels 2 --mode sequential --dropout --pcff .3 --no-none --seeds 0".split()
SMALL += ["--batch-size", "30"]
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "on_gpu.sh"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a folder "cifar10" of two hundred images of noise."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cifar10").mkdir()
    write_files(folder / "cifar10")
    return folder


def result(folder):
    return json.loads((folder / "result.json").read_text())


def checkpoint(folder):
    saved = PlainCheckpoints(folder / bare.CHECKPOINT).latest()
    assert saved is not None
    return saved


def test_interrupted_by_its_budget_it_ends_with_the_same_bits(pictures, tmp_path, capsys):
    words = ["resnet", *SMALL, "--length", "5", "--epochs", "2"]
    words += ["--data-dir", str(pictures / "cifar10")]
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    bare.main([*words, "--out", str(whole)])
    assert "| cifar10 | pcff | 0.3 |" in capsys.readouterr().out
    bare.main([*words, "--out", str(first), "--budget-seconds", "0"])
    assert "1 of 1 runs have not ended. The same command" in capsys.readouterr().out
    (run,) = result(first)["runs"]
    assert (run["status"], run["epochs"]) == ("running", 1) and run["test"] is not None
    assert checkpoint(first).step == 1
    for path in first.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    bare.main([*words, "--out", str(second), "--from", str(first)])
    assert f"continuing after epoch 1 of {second / bare.CHECKPOINT}" in capsys.readouterr().out
    assert result(second)["runs"] == result(whole)["runs"]
    assert result(second)["runs"][0]["status"] == "reached the last epoch"
    expected, got = checkpoint(whole), checkpoint(second)
    assert got.step == expected.step == 2 and got.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert got.arrays[name].tobytes() == array.tobytes(), name
    # Once more, with an older checkpoint at hand: there is nothing left to do.
    bare.main([*words, "--out", str(second), "--from", str(first)])
    assert "epoch 2 of" in (told := capsys.readouterr().out) and "loss" not in told


def test_what_cannot_be_written_or_continued_is_known_before_the_data_are_read(tmp_path):
    words = ["resnet", "--data-dir", str(tmp_path / "missing"), "--out"]
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="taken/checkpoint: cannot be written"):
        bare.main([*words, str(tmp_path / "taken")])
    with pytest.raises(CheckpointError, match="nothing/checkpoint: no checkpoint there"):
        bare.main([*words, str(tmp_path / "out"), "--from", str(tmp_path / "nothing")])


def settings(words: str) -> Any:
    return bare.experiment(bare.parser().parse_args(words.split() + ["--out", "x"])).settings


def test_the_options_are_those_of_the_experiments(pictures):
    shared = "--seeds 4 5 --images 90 --mode vmap --width 2 --batch-size 30 --dropout .2 --pcff"
    shared += " --both .1 .3 .5 1"
    both = {
        "dropout": (0.2,),
        "pcff": (),
        "both": ((0.1, 0.3), (0.5, 1.0)),
        "seeds": (4, 5),
        "images": 90,
        "mode": "vmap",
        "width": 2,
    }
    folder = pictures / "cifar10"
    words = f"resnet --data-dir {folder} --length 7 --epochs 3 --blocks 2 --channels 4 --no-none"
    words += " --shortcut pad --form products --dtype bfloat16 "
    assert settings(words + shared) == resnet.Config(
        **both,
        none=False,
        data_dir=folder,
        shortcut="pad",
        blocks=2,
        channels=4,
        form="products",
        dtype="bfloat16",
        recipe=SteppedRecipe(batch_size=30, length=7, epochs=3),
    )
    words = "indrnn --data digits --order permuted --order-seed 3 --stack residual --features 8"
    words += " --epochs 2 --patience 200 --implementation parallel "
    assert settings(words + shared) == indrnn.Config(
        **both,
        data="digits",
        order="permuted",
        order_seed=3,
        stack="residual",
        features=8,
        implementation="parallel",
        recipe=PatientRecipe(batch_size=30, epochs=2, patience=200),
    )
    assert settings("indrnn --data digits --depth 2 --epochs 1").depth == 2
    with pytest.raises(ValueError, match="--both takes pairs of rates, got 3 numbers"):
        settings("indrnn --data digits --epochs 1 --both .1 .3 .5")


@pytest.mark.parametrize(
    "words",
    [
        "resnet --order permuted",
        "resnet --implementation scan",
        "indrnn --epochs 1 --form products",
        "indrnn --epochs 1 --length 3",
        "indrnn",
        "indrnn --epoch 1",
    ],
)
def test_what_an_experiment_does_not_have_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        bare.parser().parse_args([*words.split(), "--out", "x"])
    assert re.search("unrecognized arguments|required: --epochs", capsys.readouterr().err)


# -- the script

# Flax itself needs rich.
BLOCKED = "tyro matplotlib orbax sklearn tensorflow_datasets blackjax array_record".split()


def test_the_script_where_little_is_installed(pictures, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in BLOCKED)
    )
    paths = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    flags = compiler.with_flags("--xla_force_host_platform_device_count=1")
    environment = {"PYTHON": sys.executable, "DATA": str(pictures), "OUT": str(tmp_path / "out")}
    environment |= {"PYTHONPATH": paths, "XLA_FLAGS": flags, "BUDGET": "0"}
    refused = subprocess.run(
        [sys.executable, "-c", f"import {BLOCKED[0]}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert "ModuleNotFoundError" in refused.stderr
    ended = subprocess.run(
        ["bash", SCRIPT, "resnet", "5", *SMALL],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "| cifar10 | pcff | 0.3 |" in ended.stdout and "have not ended" in ended.stdout
    told = result(tmp_path / "out" / "resnet")
    assert told["settings"]["recipe"]["length"] == 5 and told["runs"][0]["epochs"] == 1


def test_the_script_carries_a_file_in_two_parts(tmp_path):
    content = np.random.default_rng(0).bytes(1001)
    (tmp_path / "here").mkdir()
    here = tmp_path / "here" / "a.zip"
    here.write_bytes(content)

    def script(command, path):
        environment = {"OUT": str(tmp_path / "out"), "KEEP": str(tmp_path / "kept")}
        return subprocess.run(
            ["bash", SCRIPT, command, path],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )

    assert script("split", here).returncode == 0
    parts = [here.with_name(f"a.zip.part{k}") for k in range(2)]
    assert max(part.stat().st_size for part in parts) == 501
    there = tmp_path / "there" / "a.zip"

    def carried(part):
        """The folder as the next call finds it."""
        there.parent.mkdir()
        for path in (here.with_name("a.zip.sha256"), part):
            (there.parent / path.name).write_bytes(path.read_bytes())
        ended = script("data", there)
        whole = there.read_bytes() if there.exists() else None
        for path in there.parent.iterdir():
            path.unlink()
        there.parent.rmdir()
        return ended, whole

    ended, whole = carried(parts[0])
    assert ended.returncode == 0 and "a.zip.part1 is still missing" in ended.stdout
    assert whole is None
    ended, whole = carried(parts[1])
    assert ended.returncode == 0 and "a.zip: OK" in ended.stdout and whole == content
    parts[1].write_bytes(b"-" + parts[1].read_bytes()[1:])
    ended, _ = carried(parts[1])
    assert ended.returncode != 0 and "FAILED" in ended.stdout
