"""The variance of gradients: its estimators against algebra, and the command on a tiny setting."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from flax import nnx

import cgjax as cg
from cgjax import weights
from tests.train.made_up import left_behind
from train import data
from train.engine.runs import Finished, Log
from train.gradient_variance import experiment, figure, training
from train.gradient_variance import noise as gradient_noise
from train.gradient_variance.__main__ import cli
from train.gradient_variance.settings import Config
from train.models.classifiers import SMALL, VGG, VGG16, Perceptron

HEAD = weights.GaussianHead(0.0)


# --- the estimators, on a linear model whose variances are known ----------------------------------


def linear(params, x):
    return x @ params["w"]


def gradient_by(procedure, posterior):
    def gradient(key, x, y):
        def loss(posterior):
            return HEAD.expected_nll(procedure(linear)(key, posterior, x), y).mean()

        return {"means": jax.grad(loss)(posterior)["w"].mean}

    return gradient


def linear_problem(examples=40, features=3):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (examples, features))
    posterior = weights.mean_field({"w": jnp.array([0.5, -1.0, 2.0])}, 0.3)
    return x, x.sum(-1) + jax.random.normal(keys[1], (examples,)), posterior


def exact(x, y, posterior, batch_size):
    """By hand. With residual r_n = x_n m - y_n the gradient of example n is x_n (r_n + x_n dw), dw
    the noise of the weights, of variance v. Weight sample: one dw for the batch, so that its part
    of the covariance is v E[A A] with A the batch's mean of x_n x_n^T. Local reparameterisation:
    noise of its own for each example, of variance v |x_n|^2, averaged over B examples."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean, v = np.asarray(posterior["w"].mean, np.float64), 0.3
    squares = (x**2).sum(-1)
    each = x * (x @ mean - y)[:, None]
    batch = ((each - each.mean(0)) ** 2).sum() / len(x) / batch_size
    # E tr A A for B examples drawn with replacement: tr E[x x^T]^2 (1 - 1/B) + E|x|^4 / B.
    second = x.T @ x / len(x)
    one = v * ((second**2).sum() * (1 - 1 / batch_size) + (squares**2).mean() / batch_size)
    local = v * (squares**2).mean() / batch_size
    return {
        "weights": (one, one + batch),
        "local": (local, local + batch),
        "moments": (0.0, batch),
    }


@pytest.mark.parametrize("name", ["weights", "local", "moments"])
def test_a_linear_model_has_the_variance_of_algebra(name):
    x, y, posterior = linear_problem()
    gradient = gradient_by(training.PROCEDURES[name], posterior)
    size = 5

    @jax.jit
    def measure(key):
        return gradient_noise.variance(gradient, key, x, y, batch_size=size, pairs=2000, draws=3)[
            "means"
        ]

    found = measure(jax.random.key(1))
    for values, expected in zip(found, exact(x, y, posterior, size)[name], strict=True):
        assert values.shape == (2000,)
        # Five standard errors of a mean of 2,000 independent estimates, below 6 % each; without
        # noise of weights they are exactly 0.
        error = 5 * float(values.std()) / 2000**0.5
        assert abs(float(values.mean()) - expected) <= error <= 0.3 * max(expected, 1e-30)


def test_a_distance_is_that_of_the_expectations():
    """Of a gradient that is off by a known vector, less than its own noise."""
    x, y, posterior = linear_problem(examples=6)
    # The second is exact for a linear model.
    true, exactly = (
        functools.partial(gradient_by(procedure, posterior), x=x, y=y)
        for procedure in (weights.weight_sample, weights.deterministic)
    )

    def shifted(key):
        return {"means": true(key)["means"] + jnp.array([0.1, 0.0, -0.2])}

    sources = {
        "shifted": gradient_noise.Source(shifted, True),
        "exact": gradient_noise.Source(exactly, False),
    }

    @jax.jit
    def measure(key):
        return gradient_noise.distances(sources, true, key, draws=4, groups=20_000)

    whole = float((exactly(None)["means"] ** 2).sum())
    found = measure(jax.random.key(2))
    # Five standard errors of a mean of 20,000 independent estimates, far below the noise that is
    # taken off: a quarter of the variance of a difference.
    for name, expected in (("shifted", 0.05), ("exact", 0.0)):
        difference, reference = found[name]["means"]
        error = 5 * float(difference.std()) / 20_000**0.5
        assert abs(float(difference.mean()) - expected) < error < 0.05
        error = 5 * float(reference.std()) / 20_000**0.5
        assert abs(float(reference.mean()) - whole) < error < 0.3 * whole


# --- the networks ---------------------------------------------------------------------------------


def test_vgg16_has_its_layers_and_parameters():
    net = nnx.eval_shape(lambda: VGG(VGG16, 32, 3, 10, nnx.Rngs(0)))
    count = sum(a.size for a in jax.tree.leaves(nnx.state(net, nnx.Param)))
    # Thirteen 3 x 3 convolutions with biases, 14,714,688, and 512 x 10 + 10.
    assert count == 14_719_818
    assert len(net.convolutions) == 13


def test_a_vgg_is_convolutions_relu_and_maxima():
    net = VGG(((2,), (3, 4)), 8, 3, 5, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 8 * 8 * 3))
    h = np.asarray(x).reshape(2, 8, 8, 3)
    for stage in ((0,), (1, 2)):
        for number in stage:
            layer = net.convolutions[number]
            padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
            kernel = np.asarray(layer.kernel[...])
            side = h.shape[1]
            h = sum(
                padded[:, i : i + side, j : j + side] @ kernel[i, j]
                for i in range(3)
                for j in range(3)
            )
            h = np.maximum(h, 0)
        h = h.reshape(2, h.shape[1] // 2, 2, h.shape[2] // 2, 2, -1).max((2, 4))
    expected = h.reshape(2, -1) @ np.asarray(net.output.kernel[...])
    # float32 sums in another order.
    np.testing.assert_allclose(net(x), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        VGG(SMALL, 20, 3, 10, nnx.Rngs(0))


def test_moments_go_through_pooling_and_convolutions():
    """Also where implicit rank promotion is forbidden, as it is in these tests."""
    f, params, state = cg.functional(VGG(((2,), (2,)), 4, 1, 2, nnx.Rngs(0)))
    posterior = weights.mean_field(params, {"*kernel": 0.05})
    x = jnp.ones((3, 16))
    output, _ = jax.eval_shape(weights.deterministic(f), None, posterior, state, x)
    assert output.mean.shape == output.variance.shape == (3, 2)


def test_a_perceptron_is_dense_layers_with_relu():
    net = Perceptron((3, 4, 2), nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (5, 3))
    first, second = (np.asarray(layer.kernel[...]) for layer in net.layers)
    np.testing.assert_allclose(net(x), np.maximum(np.asarray(x) @ first, 0) @ second, rtol=1e-5)


# --- the experiment -------------------------------------------------------------------------------

SHORT = (
    "--hidden 4 --epochs 2 --images 64 --evaluation-images 40 --batch-sizes 4 --pairs 6 "
    "--draws 2 --bias-draws 4 --samples 3 --rounds 1 --procedures weights plain "
    "--trained-by weights --out"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole command, once."""
    out = tmp_path_factory.mktemp("gradient_variance") / "out"
    assert cli([*SHORT.split(), str(out)]) == 0
    return out


def test_the_command_leaves_a_result_and_a_figure(finished):
    result = left_behind(finished)
    assert result["sizes"]["training images"] == 64
    assert result["sizes"]["uncertain weights"] == 64 * 4 + 4 * 4 + 4 * 10
    assert [run["procedure"] for run in result["runs"]] == ["weights", "plain"]
    for run in result["runs"]:
        assert len(run["history"]["validation_loss"]) == 2
        assert 0 < run["test"]["nll"] < 10
        assert (run["weight samples"] is None) == (run["procedure"] == "plain")
    assert len(result["variance"]) == 2 * 2
    for row in result["variance"]:
        procedure = row["procedure"]
        own, total = row["means"]["weights"]["value"], row["means"]["total"]["value"]
        assert total > 0 and (own > 0) == (procedure == "weights")
        # The plain network has no log-variances to learn.
        spread = row["log variances"]["total"]["value"]
        assert (spread > 0) == (procedure != "plain")
    assert [row["procedure"] for row in result["cost"]] == ["weights", "plain"]
    assert all(row["milliseconds"] > 0 for row in result["cost"])
    bias = {(row["procedure"], row["point"]): row for row in result["bias"]}
    assert len(bias) == 4
    # A gradient that knows of no noise has no gradient by variances at all.
    assert bias["plain", "initial"]["log variances"]["relative"] > 0.5


def test_the_same_command_continues_and_agrees(finished):
    before = json.loads((finished / "result.json").read_text())
    # The very settings, so that the programs are those of the command.
    config = tyro.cli(Config, args=[*SHORT.split(), str(finished)])
    dataset = experiment.restricted(config, data.load("digits"))
    runs = training.learn(config, dataset, finished / "checkpoint")
    for run, told in zip(runs, before["runs"], strict=True):
        found = [round(float(v), 6) for v in run.history[:, 2]]
        assert found == told["history"]["validation_loss"]


def test_another_result_is_not_overwritten(finished, capsys):
    before = (finished / "result.json").read_bytes()
    assert cli([*SHORT.replace("--draws 2", "--draws 3").split(), str(finished)]) == 1
    assert "draws: 2 there, 3 now" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


def test_a_training_that_diverged_leaves_nothing_to_measure_at():
    config = Config(procedures=("moments",))
    dataset = data.load("digits")
    run = Finished("moments 0", "diverged", 1, 0, None, np.zeros((1, 5)), Log())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="training by moments diverged"):
        experiment.posteriors(config, dataset, [run])
    told = training.tested(config, dataset, ("moments", 0), run)
    assert told["status"] == "diverged" and told["test"] is told["weight samples"] is None


def test_all_procedures_begin_with_the_same_means():
    config = Config(hidden=4)
    key = jax.random.key(3)
    learners = {name: training.learner(config, name, 64, 10) for name in ("moments", "plain")}
    posterior, plain = (learners[name].init(key).params for name in ("moments", "plain"))
    jax.tree.map(np.testing.assert_array_equal, weights.means(posterior), plain)
    (first, *_), prior = training.uncertain(posterior), 2 / 64
    # A tenth of the prior's variance, 2 / inputs.
    np.testing.assert_allclose(first.variance, 0.1 * prior, rtol=1e-5)


def test_the_figure_is_drawn_from_the_result_alone(finished, tmp_path):
    figure.draw([finished / "result.json", finished / "result.json"], tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    # Matplotlib draws text as paths, and writes the text beside them.
    for text in ("weight sample", "plain", "Digits, dense: trained posterior"):
        assert f"<!-- {text} -->" in drawn
    assert "<!-- flipout -->" not in drawn


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "vgg16"},
        {"hidden": 0},
        {"initial_variance": 0.0},
        {"prior_scale": float("nan")},
        {"prior_scale": float("inf")},
        {"temperature": -1.0},
        {"draws": 1},
        {"pairs": 1},
        {"batch_sizes": ()},
        {"batch_sizes": (0, 4)},
        {"procedures": ("moments", "moments")},
        {"procedures": ("local",)},
        {"trained_by": "plain"},
        {"seeds": (2**32,)},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    name = "trained_by" if wrong.get("procedures") == ("local",) else next(iter(wrong))
    with pytest.raises(ValueError, match=f"{name} is .*; expected"):
        Config(**wrong)


def test_settings_need_no_jax_and_the_experiment_neither_blackjax_nor_tfds():
    code = (
        "import sys; sys.modules['blackjax'] = sys.modules['tensorflow_datasets'] = None; "
        "import train.gradient_variance.settings, train.observation_density.settings; "
        "assert not {'jax', 'flax', 'optax', 'cgjax'} & sys.modules.keys(); "
        "import train.gradient_variance.experiment"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
