"""Trainings that are split over devices, of one process or of several."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import compiler
from train import data
from train.engine import devices, sweep
from train.engine.checkpoint import Checkpoints
from train.engine.loop import Record
from train.engine.recipes import PatientRecipe
from train.indrnn import experiment as indrnn


def test_a_mesh_has_an_axis_for_runs_and_one_for_batches():
    assert devices.mesh(1) is None
    runs, both = devices.mesh(4), devices.mesh(2, 2)
    assert runs is not None and both is not None
    assert dict(runs.shape) == {"runs": 4}
    assert dict(both.shape) == {"runs": 2, "batch": 2}
    assert devices.size(both, "batch") == 2
    assert devices.size(runs, "batch") == devices.size(None, "runs") == 1


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match="6 devices were asked for, found"):
        devices.mesh(3, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_devices": 0}, "batch_devices is 0"),
        ({"processes": 2}, "processes is 2; expected .* coordinator"),
        ({"coordinator": "localhost:1", "processes": 2, "process": 2}, "process is 2"),
    ],
)
def test_settings_without_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        indrnn.Config(**settings)


def free_port() -> int:
    with socket.socket() as open_socket:
        open_socket.bind(("localhost", 0))
        return open_socket.getsockname()[1]


def test_two_processes_compute_what_one_does(tmp_path):
    """The command itself, for two runs and two halves of each batch on four devices."""
    config = indrnn.Config(
        data="digits",
        depth=1,
        features=4,
        images=40,
        recipe=PatientRecipe(batch_size=20, epochs=2),
        dropout=(),
        seeds=(0,),
        mode="vmap",
        devices=2,
        batch_devices=2,
    )
    words = "--data digits --depth 1 --features 4 --images 40 --batch-size 20 --epochs 2 --dropout"
    words += " --seeds 0 --mode vmap --devices 2 --batch-devices 2 --processes 2"
    command = [sys.executable, "-m", "train.indrnn", *words.split(), "--out", str(tmp_path)]
    command += ["--coordinator", f"localhost:{free_port()}", "--process"]
    flags = compiler.with_flags("--xla_force_host_platform_device_count=2")
    processes = [
        subprocess.Popen(
            [*command, str(number)],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert "regulariser" in outputs[0] and "regulariser" not in outputs[1]  # told once
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["machine"]["processes"] == 2
    alone = sweep.trained(indrnn.experiment(config, data.load("digits")), None)
    for run, expected in zip(result["runs"], alone, strict=True):
        history = np.stack([run["history"][name] for name in Record._fields], axis=1)
        np.testing.assert_allclose(history, expected.history, rtol=1e-4, atol=1e-5)
    assert Checkpoints(tmp_path / "checkpoint").latest() is not None


def test_processes_that_do_not_come_together(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("nobody listens")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(ValueError, match="process 1 of 2 .* localhost:1: nobody listens"):
        devices.join("localhost:1", 2, 1)
