"""The experiments with residual and with recurrent networks, in a tiny setting."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.train.data.test_cifar import write_files
from train import data
from train.engine import loop, sweep
from train.engine.checkpoint import Checkpoints
from train.engine.progress import Display, Progress
from train.engine.recipes import PatientRecipe, SteppedRecipe
from train.engine.settings import Settings
from train.indrnn import experiment as indrnn
from train.indrnn.__main__ import cli as indrnn_cli
from train.models.resnet import ResNet
from train.report import sweep_figure
from train.report import tables as report
from train.resnet import experiment as resnet
from train.resnet.__main__ import cli as resnet_cli

RESNET = resnet.Config(
    none=False,
    dropout=(),
    pcff=(0.3,),
    seeds=(0,),
    blocks=1,
    channels=2,
    mode="sequential",
    save_seconds=0,
    recipe=SteppedRecipe(batch_size=30, length=5, epochs=2),
)
INDRNN = indrnn.Config(
    data="digits",
    seeds=(0,),
    depth=1,
    features=8,
    images=100,
    mode="vmap",
    save_seconds=0,
    recipe=PatientRecipe(batch_size=20, epochs=2),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with CIFAR-10 of two hundred images of noise."""
    folder = tmp_path_factory.mktemp("cifar")
    write_files(folder)
    return folder


@pytest.fixture
def one_stage(monkeypatch):
    """Residual networks of three channels have one stage (tests/train/models has more)."""
    monkeypatch.setattr(
        resnet, "ResNet", lambda *, widths, **other: ResNet(widths=widths[:1], **other)
    )


class Interrupting(Display):
    """Stands for a key pressed during the second epoch."""

    def update(self, progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt


def trained(config: Any, folder: Any, checkpoint: Path | None, display: Any = None) -> Any:
    if isinstance(config, resnet.Config):
        experiment = resnet.experiment(config, data.load("cifar10", folder))
    else:
        experiment = indrnn.experiment(config, data.load("digits"))
    return sweep.trained(experiment, checkpoint, display)


def ordered(**changes: Any) -> Any:
    return indrnn.in_order(dataclasses.replace(INDRNN, **changes), data.load("digits"))


def test_interrupted_it_ends_with_the_same_bits(tmp_path):
    whole = trained(INDRNN, None, None)
    assert [run.name for run in whole] == [run.name for run in INDRNN.runs]
    with pytest.raises(KeyboardInterrupt):
        trained(INDRNN, None, tmp_path, Interrupting())
    saved = Checkpoints(tmp_path).latest()
    assert saved is not None and saved.step == 1
    same_bits(whole, trained(INDRNN, None, tmp_path))


def same_bits(runs: Any, others: Any) -> None:
    for a, b in zip(runs, others, strict=True):
        assert a.status == b.status and a.epochs == b.epochs == 2
        np.testing.assert_array_equal(a.history, b.history)
        jax.tree.map(np.testing.assert_array_equal, a.best, b.best)


# Three runs: one device has one twice.
@pytest.mark.parametrize(("runs", "batch"), [(4, 1), (2, 2)])
def test_splitting_over_devices_changes_nothing_but_roundings(runs, batch):
    alone, split = (
        trained(dataclasses.replace(INDRNN, width=1, **split), None, None)
        for split in ({}, {"devices": runs, "batch_devices": batch})
    )
    # Ten updates by Adam, of which each may turn a rounding into another.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    for a, b in zip(alone, split, strict=True):
        close(a.history, b.history)
        jax.tree.map(close, a.best, b.best)
    assert abs(alone[0].history - alone[1].history)[:, 0].min() > 0.01  # other runs are other


def test_splitting_a_batch_of_pictures_changes_nothing_but_roundings(pictures, one_stage):
    # Mapped both: a run that knows its rates has other random numbers.
    recipe = dataclasses.replace(RESNET.recipe, epochs=1)
    config = dataclasses.replace(RESNET, channels=3, mode="vmap", recipe=recipe)
    (whole,) = trained(config, pictures, None)
    (split,) = trained(dataclasses.replace(config, batch_devices=2), pictures, None)
    np.testing.assert_allclose(whole.history, split.history, rtol=1e-4, atol=1e-5)


def test_what_the_command_for_residual_networks_leaves_behind(pictures, tmp_path, capsys):
    """In two calls, of which the first has no time for a second epoch, in two folders."""
    # The settings above, so that the program is compiled once.
    arguments = "--blocks 1 --channels 2 --mode sequential --no-none --dropout --pcff .3".split()
    arguments += "--seeds 0 --batch-size 30 --length 5 --epochs 2".split()
    arguments += ["--data-dir", str(pictures)]
    first, second = tmp_path / "first", tmp_path / "second"
    assert resnet_cli([*arguments, "--out", str(first), "--budget-seconds", "0"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 runs have not ended. The same command continues them, elsewhere with" in shown
    (run,) = json.loads((first / "result.json").read_text())["runs"]
    assert (run["status"], run["epochs"]) == ("running", 1) and run["test"] is not None
    for path in first.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert resnet_cli([*arguments, "--out", str(second), "--from", str(first)]) == 0
    shown = capsys.readouterr().out
    assert f"continuing after epoch 1 of {first}/checkpoint" in shown and "pcff" in shown
    result = json.loads((second / "result.json").read_text())
    (run,) = result["runs"]
    assert (run["regulariser"], run["rate"], run["seed"]) == ("pcff", 0.3, 0)
    assert 0 <= run["test"]["error"] <= 1 and run["epochs"] == 2
    assert len(run["history"]["train_loss"]) == 2
    assert result["settings"]["recipe"]["length"] == 5
    assert (second / "figure.png").read_bytes()[:4] == b"\x89PNG"
    whole = trained(RESNET, pictures, None)
    same_bits(whole, trained(RESNET, pictures, second / "checkpoint"))


def test_what_the_command_for_recurrent_networks_leaves_behind(tmp_path):
    arguments = "--data digits --depth 1 --features 8 --images 100 --mode vmap --seeds 0".split()
    arguments += ["--order", "permuted", "--batch-size", "20", "--epochs", "2"]
    assert indrnn_cli([*arguments, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [r["regulariser"] for r in result["runs"]] == ["none", "dropout", "pcff"]
    assert "permuted pixels" in result["data"]
    table = report.markdown([result])
    assert "| digits | dropout | 0.1 |" in table and "| regulariser | rate |" in table
    assert sweep_figure.title(result) == "digits, permuted"
    assert (tmp_path / "figure.png").exists()


def test_known_rates_are_the_program_without_what_is_off():
    """The loss of a run that knows its rates is that of one that is given them."""
    net = indrnn.network(indrnn.Shape("plain", 1, 4, 16))
    x = jax.random.uniform(jax.random.key(0), (6, 16))
    y = jnp.arange(6)
    recipe = PatientRecipe()
    given = indrnn.learner(net, recipe, None)
    taking = jax.jit(given.loss)
    variables = jax.jit(given.init)(jax.random.key(1))
    for rates in (sweep.Rates(0.0, 0.0), sweep.Rates(0.5, 0.0)):
        known = indrnn.learner(net, recipe, rates)
        a = jax.jit(known.loss)(variables, jax.random.key(2), None, x, y)
        b = taking(variables, jax.random.key(2), sweep.Rates(*map(np.float32, rates)), x, y)
        jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.parametrize("implementation", [None, "mosaic_gpu"])
def test_the_epoch_of_a_sweep_is_lowered_for_cuda(implementation):
    """With the kernel that was asked for, and no other."""
    net = indrnn.network(indrnn.Shape("plain", 1, 8, 64, implementation))
    learner = indrnn.learner(net, INDRNN.recipe, None)
    programs: Any = loop.programs(learner, INDRNN.recipe, "vmap")
    keys = jax.ShapeDtypeStruct((3, 2), jnp.uint32)
    init = functools.partial(loop.init_run, learner, INDRNN.recipe)
    state = jax.eval_shape(jax.vmap(init), keys)
    rates = sweep.Rates(*2 * [jax.ShapeDtypeStruct((3,), jnp.float32)])
    images: Any = jax.ShapeDtypeStruct((40, 64), jnp.uint8)
    classes: Any = jax.ShapeDtypeStruct((40,), jnp.int32)
    largest: Any = jax.ShapeDtypeStruct((), jnp.float32)
    given = loop.Data(images, classes, images, classes, largest)
    lowered = programs[1].trace(state, rates, given).lower(lowering_platforms=("cuda",))
    assert ("mosaic_gpu" in lowered.as_text()) == (implementation == "mosaic_gpu")


# -- images


def test_how_convolutions_are_computed_changes_roundings_alone(one_stage):
    """And their dtype more than that in training, nothing in evaluation, and no variable's type."""
    x = resnet.standardised(jax.random.uniform(jax.random.key(0), (4, 3072)))
    base = resnet.Shape("convolution", 1, 3)
    shapes = base, base._replace(form="products"), base._replace(dtype="bfloat16")
    plain, form, dtype = map(resnet.network, shapes)
    variables = plain.init(jax.random.key(1))
    trained, products, half = (
        jax.jit(net.training)(*variables, x, None) for net in (plain, form, dtype)
    )
    # Sums of float32 in another order, through three convolutions.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, products, trained)
    text = str(jax.make_jaxpr(form.training)(*variables, x, None))
    assert "conv_general_dilated" not in text
    assert "conv_general_dilated" not in str(jax.make_jaxpr(form.evaluation)(*variables, x, None))
    # Eight bits of mantissa.
    gap = abs(half[0] - trained[0]).max()
    assert 1e-4 < gap < 0.1
    assert {leaf.dtype for leaf in jax.tree.leaves((half, dtype.init(jax.random.key(1))))} == {
        jnp.dtype(jnp.float32)
    }
    programs = [str(jax.make_jaxpr(net.evaluation)(*variables, x, None)) for net in (plain, dtype)]
    assert programs[0] == programs[1] and "bf16" not in programs[0]
    assert "bf16" in str(jax.make_jaxpr(dtype.training)(*variables, x, None))


@pytest.mark.parametrize("chosen", [{"form": "products"}, {"dtype": "bfloat16"}])
def test_how_convolutions_are_computed_is_among_the_facts(chosen):
    (name,) = chosen
    assert resnet.Config().facts()[name] != resnet.Config(**chosen).facts()[name] == chosen[name]


def test_images_are_standardised():
    x = jax.random.uniform(jax.random.key(0), (2, 3072))
    images = np.asarray(x).reshape(2, 32, 32, 3)
    expected = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(resnet.standardised(x), expected, rtol=1e-5, atol=1e-5)


def test_flips_and_crops_of_padded_images():
    """Each result is a crop of the image or its mirror image, with black around it."""
    n = 400
    x = jax.random.uniform(jax.random.key(0), (1, 3072))
    image = np.asarray(resnet.standardised(x))
    got = np.asarray(jax.jit(resnet.augmented)(jax.random.key(1), np.repeat(image, n, axis=0)))
    black = np.asarray(resnet.standardised(jnp.zeros((1, 3072))))[0, 0, 0]
    found = set()
    padded = np.broadcast_to(black, (40, 40, 3)).copy()
    crops = {}
    for flip in (False, True):
        padded[4:36, 4:36] = image[0, :, ::-1] if flip else image[0]
        for row in range(9):
            for column in range(9):
                crop = padded[row : row + 32, column : column + 32]
                crops[np.round(crop, 4).tobytes()] = flip, row, column
    for picture in got:
        found.add(crops[np.round(picture, 4).tobytes()])
    # Of 162 equally likely outcomes 400 draws miss each with probability 0.08: some 148 are seen.
    assert len(found) > 120
    assert {flip for flip, _, _ in found} == {False, True}
    assert {row for _, row, _ in found} == {column for _, _, column in found} == set(range(9))


# -- sequences


def test_pixels_become_sequences_in_one_order():
    plain = ordered(images=None)
    permuted = ordered(images=None, order="permuted")
    same = ordered(images=None, order="permuted")
    other = ordered(images=None, order="permuted", order_seed=1)
    np.testing.assert_array_equal(permuted.train_x, same.train_x)
    assert (permuted.train_x != other.train_x).any()
    # One permutation for all images. (Pixels that are black in all are interchangeable.)
    columns = {plain.train_x[:, j].tobytes(): j for j in range(64)}
    order = [columns[permuted.train_x[:, j].tobytes()] for j in range(64)]
    assert len(set(order)) > 40 and order != sorted(order)
    used = np.asarray(plain.train_x.any(0))[order]
    for a, b in ((plain.validation_x, permuted.validation_x), (plain.test_x, permuted.test_x)):
        np.testing.assert_array_equal(a[:, order][:, used], b[:, used])
    np.testing.assert_array_equal(plain.train_y, permuted.train_y)
    known = data.load("digits")
    assert len(plain.validation_x) == (len(known.train_x) + len(known.validation_x)) // 20
    values = indrnn.sequences(jnp.array([[0.0, 1.0]]))
    np.testing.assert_allclose(values, [[[-1.0], [255 / 128 - 1]]], rtol=1e-6)


def test_statistics_are_estimated_anew_on_validation_images():
    """Nothing of the old ones is left, also where there are few images for the recipe's batch."""
    dataset = ordered()
    dataset = dataset._replace(validation_x=dataset.validation_x[:60])
    net = indrnn.network(indrnn.Shape("plain", 2, 8, 64))
    variables = net.init(jax.random.key(0))
    absurd = variables._replace(state=jax.tree.map(lambda a: a + 50.0, variables.state))
    got, other = (indrnn.reestimated(net, 20, dataset, v) for v in (variables, absurd))
    jax.tree.map(np.testing.assert_array_equal, got.params, variables.params)
    # A rest of 1e-4 of 50 at most, and float32's rounding of what was 50.
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1.01e-4 * 50)
    jax.tree.map(close, got.state, other.state)
    # The first layer's are averages of those of the three batches.
    x = indrnn.sequences(jnp.asarray(dataset.validation_x / np.float32(dataset.largest)))
    _, nodes = cg.with_nodes(cg.pcff(net.training, 0.0))(jax.random.key(0), *variables, x, None)
    means = nodes["layer_0"].reshape(64, 3, 20, 8).mean((0, 2))
    assert (means.min(0) < means.max(0)).any()
    mean = got.state["layers"][0]["norm"]["mean"][...]
    rest = 1e-4 * abs(means).max() + 1e-6
    assert (means.min(0) - rest <= mean).all() and (mean <= means.max(0) + rest).all()


def test_what_does_not_decay():
    net = indrnn.network(indrnn.Shape("plain", 2, 8, 64))
    optimiser = indrnn.learner(net, PatientRecipe(weight_decay=1.0), None).optimiser
    assert optimiser is not None
    params = net.init(jax.random.key(0)).params
    zero = jax.tree.map(jnp.zeros_like, params)
    change, _ = optimiser.update(zero, optimiser.init(params), params)
    still = {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for path, leaf in jax.tree_util.tree_leaves_with_path(change)
        if not leaf.any()
    }
    every = {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    # Biases are zero in any case, so that it is the recurrent weights that tell.
    assert still == {name for name in every if name.endswith(("bias", "recurrent"))}
    assert any(name.endswith("scale") for name in every - still)


# -- settings


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dropout": (0.1, 0.1)}, "dropout"),
        ({"pcff": (1.5,)}, "pcff"),
        ({"none": False}, "none"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"images": 0}, "images"),
    ],
)
def test_impossible_settings_are_named(wrong, named):
    with pytest.raises(ValueError, match=f"^{named} is .*; expected"):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stack": "dense", "dropout": (0.1, 0.6)}, "dropout is .*0.6.* at most 0.5 for a dense"),
        ({"stack": "dense", "both": ((0.6, 0.1),)}, "both is .*0.6.* at most 0.5 for a dense"),
        ({"stack": "residual", "depth": 4}, "depth is 4; .*plain stack only"),
    ],
)
def test_what_a_stack_does_not_have_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        indrnn.Config(**wrong)
    indrnn.Config(stack="dense", dropout=(0.5,))


def test_runs_and_their_rates():
    settings = Settings(dropout=(0.1,), pcff=(0.3, 1.0), seeds=(5, 6))
    assert [run.name for run in settings.runs][:3] == ["none 0 5", "none 0 6", "dropout 0.1 5"]
    assert [run.rates for run in settings.runs][2:6:2] == [(0.1, 0.0), (0.0, 0.3)]
    assert [run.told_rate for run in settings.runs][::2] == [0.0, 0.1, 0.3, 1.0]
    assert "width" not in settings.facts() and settings.facts()["pcff"] == [0.3, 1.0]


def test_modules_are_trained_with_batch_and_tested_with_running_statistics():
    net = sweep.network(lambda rngs: _Normalised(rngs))
    variables = net.init(jax.random.key(0))
    x = 3 + jax.random.normal(jax.random.key(1), (50, 2))
    trained, state = net.training(*variables, x, None)
    assert abs(float(trained.mean())) < 1e-5
    tested, same = net.evaluation(*variables, x, None)
    np.testing.assert_allclose(tested, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, same, variables.state)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (state, same)), strict=True))


class _Normalised(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x, drop_rate):
        return self.norm(x)
