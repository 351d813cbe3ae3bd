"""The dense experiment: its network and recipe, and the whole command on a tiny setting."""

import dataclasses
import functools
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from train import data
from train.dense import experiment as dense
from train.dense.__main__ import cli
from train.dense.settings import Config
from train.engine import loop, sweep
from train.engine.checkpoint import CheckpointError
from train.engine.recipes import PlateauRecipe
from train.engine.settings import Rates, Regulariser, Run
from train.models.dense import Dense
from train.report import files

TINY = Config(hidden=8, seeds=(0, 1), samples=4, recipe=PlateauRecipe(epochs=2))


def network(family=None, hidden=1024):
    return Dense(family or cg.nodes.ReLU(), 784, hidden, 10, nnx.Rngs(0))


def leaf(params: Any, layer: str, kind: str) -> jax.Array:
    return params[layer][kind][...]


def test_it_is_the_network_of_the_paper():
    params = nnx.state(network(), nnx.Param)
    assert sum(array.size for array in jax.tree.leaves(params)) == 1_862_665
    # PyTorch's default: weights and biases uniform within 1 / sqrt(inputs). The variance of such
    # numbers is bound^2 / 3; its estimate from n of them has a relative standard error of
    # sqrt((9/5 - 1) / n).
    for name, inputs in (("first", 784), ("second", 1024), ("output", 1024)):
        for kind in ("kernel", "bias"):
            scaled = leaf(params, name, kind) * np.sqrt(inputs)
            assert np.abs(scaled).max() <= 1 + 1e-6
            assert np.abs(scaled).max() > 1 - 10 / scaled.size
            assert abs(scaled.var() * 3 - 1) < 5 * np.sqrt(0.8 / scaled.size)


def test_the_last_logit_is_zero_and_the_others_are_those_of_a_plain_network():
    net = network(cg.nodes.Spin(), hidden=16)
    x = jax.random.uniform(jax.random.key(0), (5, 784))
    params = nnx.state(net, nnx.Param)
    h = x
    for name in ("first", "second"):
        h = jnp.tanh(h @ leaf(params, name, "kernel") + leaf(params, name, "bias")[None])
    expected = h @ leaf(params, "output", "kernel") + leaf(params, "output", "bias")[None]
    logits = net(x)
    # One float32 rounding apart, as products may be split otherwise.
    np.testing.assert_allclose(logits[:, :9], expected, rtol=1e-5, atol=1e-6)
    assert logits.shape == (5, 10) and (logits[:, 9] == 0).all()


def test_its_gradient_is_that_of_a_plain_matrix_product():
    net = network(hidden=16)
    f, params, state = cg.functional(net)
    x = jax.random.uniform(jax.random.key(0), (5, 784))

    def plain(params, x):
        h = x
        for name in ("first", "second"):
            h = nnx.relu(h @ leaf(params, name, "kernel") + leaf(params, name, "bias")[None])
        z = h @ leaf(params, "output", "kernel") + leaf(params, "output", "bias")[None]
        return jnp.pad(z, ((0, 0), (0, 1)))

    def summed(function):
        return jax.grad(lambda p, x: (function(p, x) ** 2).sum(), argnums=(0, 1))

    ours = summed(lambda p, x: f(p, state, x)[0])(params, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        ours,
        summed(plain)(params, x),
    )


def test_feed_forward_marginalises_dropout_and_pcff_samples_it():
    net = network(hidden=64)
    x = jax.random.uniform(jax.random.key(0), (5, 784))
    np.testing.assert_array_equal(net(x, 0.5), net(x))
    assert set(cg.with_nodes(cg.feed_forward(net))(x, 0.5)[1]) == {
        "hidden_1",
        "dropout_1",
        "hidden_2",
        "dropout_2",
    }
    assert (cg.pcff(net, 0.0)(jax.random.key(1), x, 0.5) != net(x)).any()
    np.testing.assert_array_equal(cg.pcff(net, 0.0)(jax.random.key(1), x), net(x))


def test_the_settings_are_those_of_the_paper():
    config = Config(data="mnist")
    assert config.hidden_nodes == 1024
    assert dataclasses.asdict(config.recipe) == {
        "batch_size": 32,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "plateau_factor": 0.1,
        "plateau_patience": 10,
        "plateau_threshold": 1e-4,
        "stop_patience": 20,
        "epochs": None,
    }
    every = {
        (run.nodes, run.regulariser): run.rates
        for run in dataclasses.replace(config, regularisers=REGULAR, seeds=(0,)).runs
    }
    assert every == {
        ("tanh", "none"): Rates(0.0, 0.0),
        ("tanh", "dropout"): Rates(0.5, 0.0),
        ("tanh", "pcff"): Rates(0.0, 0.4),
        ("tanh", "both"): Rates(0.5, 0.4),
        ("relu", "none"): Rates(0.0, 0.0),
        ("relu", "dropout"): Rates(0.5, 0.0),
        ("relu", "pcff"): Rates(0.0, 1.0),
        ("relu", "both"): Rates(0.5, 1.0),
    }


REGULAR: tuple[Regulariser, ...] = ("none", "dropout", "pcff", "both")


@functools.cache
def differentiated(known):
    """The loss and the gradient of a learner that knows its rates, or that takes them."""
    learner = sweep.learner(dense.network("tanh", 20, 8), dense.rows, known)

    @jax.jit
    def found(hyper, key, x, y):
        variables = learner.init(jax.random.key(1))

        def loss(params):
            value, (wrong, _) = learner.loss(variables._replace(params=params), key, hyper, x, y)
            return value, wrong

        return jax.value_and_grad(loss, has_aux=True)(variables.params)

    return found


@pytest.mark.parametrize("known", [Rates(0.0, 0.0), Rates(0.5, 0.0), Rates(0.5, 0.4)])
def test_a_rate_of_zero_is_the_program_without_it(known):
    """Rates handed in give the loss and gradient of the program that was compiled for them."""
    data = jax.random.key(3), np.random.default_rng(0).random((4, 20), np.float32)
    data = *data, np.array([0, 3, 9, 9])
    ours = differentiated(None)(Rates(*map(np.float32, known)), *data)
    theirs = differentiated(known)(None, *data)
    # The same numbers in another order of rounding.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def experiment(config, dataset=None):
    return dense.experiment(config, data.load("digits") if dataset is None else dataset)


def test_a_family_is_one_program_and_a_run_alone_is_its_own():
    together = experiment(dataclasses.replace(TINY, mode="vmap")).groups()
    assert [g.name for g in together] == ["tanh", "relu"]
    assert together[0].runs == tuple(f"tanh {r} {s}" for r in REGULAR[:3] for s in (0, 1))
    assert together[0].hyper.drop.tolist() == [0, 0, 0.5, 0.5, 0, 0]
    np.testing.assert_allclose(together[0].hyper.pcff, [0, 0, 0, 0, 0.4, 0.4])
    alone = experiment(dataclasses.replace(TINY, mode="sequential")).groups()
    assert len(alone) == 12
    # Seeds share a program.
    assert len({g.learner for g in alone}) == 6
    # The same seed has the same key everywhere, so that regularisers are compared from the same
    # initial weights, on the same batches.
    assert {tuple(g.keys[0]) for g in alone} == {tuple(k) for k in together[1].keys}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole command, once."""
    out = tmp_path_factory.mktemp("dense") / "out"
    arguments = "--hidden 8 --seeds 0 1 --epochs 2 --samples 4 --save-seconds 0 --out"
    command = [*arguments.split(), str(out)]
    assert cli(command) == 0
    return out, command


def test_the_command_leaves_a_result_and_a_figure(finished, capsys):
    out, command = finished
    result = json.loads((out / "result.json").read_text())
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(result["runs"]) == 12
    for run in result["runs"]:
        assert run["status"] == "reached the last epoch" and run["epochs"] == 2
        assert 0 <= run["test"]["error"] < 0.9 and 0 < run["test"]["nll"] < 2.5
        assert (run["monte carlo"] is None) == (run["regulariser"] == "none")
    assert {"command", "commit", "machine", "settings", "data"} <= result.keys()
    assert " ".join(command[:4]) in result["command"]
    assert result["settings"]["recipe"]["epochs"] == 2 and result["settings"]["seeds"] == [0, 1]
    assert result["machine"]["jax"] == jax.__version__ and result["machine"]["threads"] >= 1


def test_the_same_command_again_gives_the_same_result_and_a_table(finished, capsys):
    out, command = finished
    before = json.loads((out / "result.json").read_text())
    (out / "result.json").unlink()
    assert cli(command) == 0
    assert json.loads((out / "result.json").read_text()) == before
    shown = capsys.readouterr().out
    assert "continuing after epoch 2" in shown
    for word in ("tanh", "relu", "none", "dropout", "pcff", "error %", "NLL", "ECE", "±"):
        assert word in shown


def test_another_command_in_the_same_folder_is_refused(finished, capsys):
    out, command = finished
    before = (out / "result.json").read_bytes()
    assert cli([*command, "--drop-rate", "0.3"]) == 1
    assert "drop_rate: 0.5 there, 0.3 now" in capsys.readouterr().err
    assert (out / "result.json").read_bytes() == before


def test_the_folder_of_another_experiment_or_process_is_refused(finished, capsys):
    out, command = finished
    with files.held(out):
        assert cli(command) == 1
    assert "another process writes here" in capsys.readouterr().err
    before = (out / "result.json").read_bytes()
    (out / "result.json").write_bytes(before.replace(b"dense networks", b"sparse networks"))
    assert cli(command) == 1
    assert "it holds 'sparse networks on images', not 'dense" in capsys.readouterr().err
    (out / "result.json").write_bytes(before)


def test_splitting_the_runs_over_devices_changes_no_bit():
    config = dataclasses.replace(TINY, nodes=("relu",), width=2)
    expected = sweep.trained(experiment(config), None)
    split = sweep.trained(experiment(dataclasses.replace(config, devices=4)), None)
    for a, b in zip(expected, split, strict=True):
        np.testing.assert_array_equal(a.history, b.history)
        jax.tree.map(np.testing.assert_array_equal, a.best, b.best)


def test_monte_carlo_figures_are_those_of_the_average_prediction():
    digits = data.load("digits")._replace(test_x=np.zeros((3, 64), np.uint8) + 5)
    digits = digits._replace(test_y=np.array([1, 2, 9], np.int32))
    one = dataclasses.replace(
        TINY, samples=500, nodes=("tanh",), regularisers=("both",), seeds=(0,)
    )
    (run,) = one.runs
    assert run == Run("both", Rates(0.5, 0.4), 0, "tanh")
    tried = experiment(one, digits)
    (made,) = sweep.trained(tried, None)
    told = tried.test(run, made)

    def probs(variables, x):
        return jax.nn.softmax(tried.networks["tanh"].evaluation(*variables, x, 0.5)[0])

    x = jnp.asarray(digits.test_x / np.float32(16))
    estimate = cg.monte_carlo(cg.pcff(probs, 0.4), 5000)(
        jax.random.key(9), jax.tree.map(jnp.asarray, made.best), x
    )
    rows = jnp.arange(3)
    expected = -jnp.log(estimate.mean[rows, digits.test_y]).mean()
    # 500 samples have sqrt(10) times the standard error of 5,000; five of both together.
    relative = estimate.standard_error[rows, digits.test_y] / estimate.mean[rows, digits.test_y]
    bound = 5 * np.sqrt(11) * float(relative.mean())
    assert abs(told["monte carlo"]["nll"] - float(expected)) < bound < 0.4
    assert told["test"]["nll"] != told["monte carlo"]["nll"]


def test_a_run_that_never_had_a_loss_has_no_figures():
    config = dataclasses.replace(
        TINY,
        nodes=("relu",),
        regularisers=("none",),
        seeds=(0,),
        recipe=PlateauRecipe(learning_rate=1e30, epochs=2),
    )
    tried = experiment(config)
    (made,) = sweep.trained(tried, None)
    told = tried.test(config.runs[0], made)
    assert made.status == "diverged" and told["test"] is None
    json.dumps(told, allow_nan=False)


def test_bad_data_is_an_error_message_and_not_a_trace(tmp_path):
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path),
        "TFDS_DATA_DIR": str(tmp_path),
        # A proxy that refuses: a machine without a network.
        **{f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")},
        "no_proxy": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "train.dense", "--data", "mnist", "--out", tmp_path / "out"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: mnist is not on this machine")
    assert done.stderr.count("--data-dir FOLDER") == 2
    assert not (tmp_path / "out").exists()


def test_an_impossible_folder_is_an_error_message(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert cli(["--out", str(tmp_path / "taken"), "--epochs", "1"]) == 1
    assert "taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": (0, 1, 0)},
        {"seeds": ()},
        {"data_dir": pathlib.Path("folder")},
        {"seeds": (-1,)},
        {"seeds": (2**32,)},
        {"nodes": ("relu", "relu")},
        {"nodes": ()},
        {"regularisers": ("pcff", "none", "pcff")},
        {"regularisers": ()},
        {"drop_rate": -0.1},
        {"tanh_rate": 1.5},
        {"relu_rate": float("nan")},
        {"hidden": 0},
        {"samples": 1},
        {"devices": 0},
        {"width": -1},
        {"save_seconds": -1.0},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is .*; expected"):
        Config(**wrong)


@pytest.mark.parametrize("option", ["--seeds 3 3", "--epochs 0", "--drop-rate 2", "--batch-size 0"])
def test_the_command_says_what_is_wrong_with_a_setting(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli([*option.split(), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert option.split()[0].strip("-").replace("-", "_") in shown.out + shown.err
    assert not (tmp_path / "out").exists()


def test_odd_names_and_encodings_are_no_trouble(tmp_path, monkeypatch):
    out = tmp_path / "with blanks and {*} ?"
    short = "--nodes tanh --regularisers none --seeds 0 --hidden 8 --epochs 2 --out"
    told = io.BytesIO()
    # As in a process with PYTHONIOENCODING=ascii: what it cannot write is an error.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, "ascii", errors="strict"))
    assert cli([*short.split(), str(out)]) == 0
    sys.stdout.flush()
    shown = told.getvalue().decode("ascii")
    assert f"{out}/result.json, {out}/figure.png" in shown.splitlines()
    assert "epoch 1 0/1 ended loss" in shown and "epoch 2 1/1 ended loss" in shown
    # Nothing is random without dropout and PCFF.
    assert "feed-forward" in shown and "average of samples" not in shown


def test_the_mode_is_chosen_by_width():
    assert Config().how == "vmap" and Config().mapped == 3
    assert Config(data="mnist").how == "sequential"
    assert Config(data="mnist", mode="vmap").how == "vmap"
    assert loop.STATUS[loop.RUNNING] == "running"


def test_a_damaged_checkpoint_is_reported(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out / "checkpoint", tmp_path / "checkpoint")
    step = max((tmp_path / "checkpoint").iterdir(), key=lambda p: int(p.name))
    (step / "facts" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        sweep.trained(experiment(TINY), tmp_path / "checkpoint")
