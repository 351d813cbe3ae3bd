"""Options, errors and interruptions are alike in all experiments."""

import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from train.engine.checkpoint import CheckpointError
from train.report import commandline
from train.resnet.settings import Config

ROOT = pathlib.Path(__file__).parents[2]
# Those whose settings are apart from what needs JAX.
EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("train/*/settings.py"))
EXPERIMENTS.remove("engine")
EXPERIMENTS.remove("report")
REFUSED = """
import importlib, sys

for name in sys.argv[1:]:
    cli = importlib.import_module(f"train.{name}.__main__").cli
    for option, status in (("--wrong", 2), ("--help", 0)):
        try:
            cli([option])
        except SystemExit as error:
            assert error.code == status, error.code
    assert not {"jax", "flax", "optax", "cgjax", "matplotlib"} & {*sys.modules}, name
"""


def test_options_are_read_before_jax_is_imported():
    assert {"dense", "indrnn", "resnet"} <= {*EXPERIMENTS}
    ended = subprocess.run(
        [sys.executable, "-c", REFUSED, *EXPERIMENTS], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("Unrecognized options: --wrong") == len(EXPERIMENTS)
    for name in EXPERIMENTS:
        assert f"example:\n    python -m train.{name}" in ended.stdout
    assert "(default:" in ended.stdout


def run(main, monkeypatch, continues="from its last checkpoint"):
    """The exit status of a program that does this."""
    name = "train.made_up.experiment"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(main=main))
    return commandline.run("train.made_up", Config, ["--seeds", "5"], continues=continues)


def test_settings_and_command_reach_the_experiment(monkeypatch):
    def main(config, command, console):
        assert config == Config(seeds=(5,))
        assert command == "python -m train.made_up --seeds 5"
        assert console.print

    assert run(main, monkeypatch) == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CheckpointError("no space"), "error: no space"),
        (ValueError("batch is 0"), "error: batch is 0"),
        (ImportError("No module named 'rich'"), "`pip install cgjax[train]`"),
    ],
)
def test_errors_that_a_user_can_mend_are_messages(error, told, monkeypatch, capsys):
    def main(*_):
        raise error

    assert run(main, monkeypatch) == 1
    assert told in capsys.readouterr().err


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("number", "status", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
@pytest.mark.parametrize("continues", ["with the next cell", None])
def test_signals_end_a_program_with_a_message(number, status, told, continues, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert run(lambda *_: os.kill(os.getpid(), number), monkeypatch, continues) == status
    end = f"; the same command continues {continues}" if continues else ""
    assert capsys.readouterr().err == f"{told}{end}\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_make_lists_the_experiments(tmp_path):
    for name in ("created", "installed-train"):
        (tmp_path / name).touch()
    ended = subprocess.run(
        ["make", "--directory", ROOT, "train", "EXPERIMENT=nosuch", f"VENV={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "There is no experiment 'nosuch'. Choose one of: " in ended.stdout
    assert {*EXPERIMENTS} <= {*ended.stdout.replace(".", "").split()}
