"""Simulated examples: a density with known moments, the diagnostics, the files, the command."""

import dataclasses
import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import weights
from tests.train.made_up import left_behind
from train.data import uci
from train.observation_density import density, experiment, figure, training
from train.observation_density.__main__ import cli
from train.observation_density.density import Observation
from train.observation_density.settings import Config
from train.observation_density.training import Parameters, Trained

pytest.importorskip("blackjax")


def linear(params, x):
    return x @ params["w"]


def linear_model(variance=0.4, log_noise=-1.0):
    """A linear network with a Gaussian posterior, and two members."""
    w = jnp.array([0.8, -0.5])
    return Trained(
        linear,
        Parameters(weights.mean_field({"w": w}, variance), jnp.float32(log_noise)),
        Parameters({"w": jnp.array([[1.0, 0.2], [0.4, -0.6]])}, jnp.array([-1.0, -0.4])),
    )


ROOT = jnp.array([[1.0, 0.0], [0.6, 0.8]])


def exact_covariance(trained, name):
    """Of (x, y), by the precision that the target has by hand: all losses here are quadratic.

    moments: ((y - m x)^2 + x^T V x) / r.   ensemble: the mean over k of (y - w_k x)^2 / r_k.
    """
    precision = np.zeros((3, 3))
    precision[:2, :2] = np.linalg.inv(np.asarray(ROOT @ ROOT.T, np.float64))
    if name == "moments":
        terms = [(trained.posterior.network["w"].mean, float(trained.posterior.log_noise), 1.0)]
        spread = np.exp(-terms[0][1]) * np.diag(trained.posterior.network["w"].variance)
        precision[:2, :2] += spread
    else:
        count = 2 if name == "ensemble" else 1
        terms = [
            (trained.members.network["w"][k], float(trained.members.log_noise[k]), 1 / count)
            for k in range(count)
        ]
    for w, log_noise, share in terms:
        direction = np.append(-np.asarray(w, np.float64), 1.0)
        precision += share * np.exp(-log_noise) * np.outer(direction, direction)
    return np.linalg.inv(precision)


LINEAR = ("moments", "ensemble")


@pytest.fixture(scope="module")
def sampled():
    """The densities of two models as one of independent parts, so that one program samples both."""
    trained = linear_model()
    parts = {
        name: functools.partial(density.log_density, trained.model(name).expected_loss, ROOT)
        for name in LINEAR
    }
    start = {
        name: Observation(jax.random.normal(jax.random.key(5), (4, 2)), jnp.arange(4.0) - 1.5)
        for name in LINEAR
    }
    chains = density.hamiltonian(
        lambda o: parts["moments"](o["moments"]) + parts["ensemble"](o["ensemble"]),
        jax.random.key(0),
        start,
        warmup=300,
        draws=1000,
    )
    return trained, chains


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_network_has_the_density_of_algebra(sampled, name):
    """The whole way from posterior to samples: a Gaussian whose covariance is known."""
    trained, chains = sampled
    position = chains.positions[name]
    x = jnp.einsum("fg,cdg->cdf", ROOT, position.x)
    both = np.asarray(jnp.concatenate([x, position.y[..., None]], -1), np.float64)
    expected = exact_covariance(trained, name)
    found = density.diagnostics({str(i): jnp.asarray(both[..., i]) for i in range(3)})
    assert found["converged"] and found["largest R-hat"] < 1.02
    size = found["smallest effective sample size"]
    assert size > 1000 and not chains.divergent.any()
    flat = both.reshape(-1, 3)
    # Five standard errors: of means sqrt(v / n), of covariances at most v sqrt(2 / n), with the
    # effective n of the slowest column, halved for that of squares.
    deviation = np.sqrt(np.diag(expected))
    assert (np.abs(flat.mean(0)) < 5 * deviation / size**0.5).all()
    error = np.outer(deviation, deviation) * (2 / (size / 2)) ** 0.5
    assert (np.abs(np.cov(flat.T) - expected) < 5 * error).all()


def test_models_differ_in_their_densities():
    """What the previous test would not see if all were one: their covariances are far apart."""
    trained = linear_model()
    a, b, c = (exact_covariance(trained, name) for name in ("moments", "ensemble", "network"))
    assert abs(a - b).max() > 0.2 and abs(b - c).max() > 0.1


def test_one_network_is_the_first_member():
    trained = linear_model()
    x, y = jnp.array([0.3, -1.0]), jnp.float32(0.7)
    losses = {
        name: float(trained.model(name).expected_loss(x, y)) for name in ("ensemble", "network")
    }
    each = [
        0.5 * ((0.7 - (w @ np.array([0.3, -1.0]))) ** 2 / np.exp(s) + s + np.log(2 * np.pi))
        for w, s in zip(np.asarray(trained.members.network["w"]), (-1.0, -0.4), strict=True)
    ]
    # float32 rounding.
    np.testing.assert_allclose(losses["network"], each[0], rtol=1e-5)
    np.testing.assert_allclose(losses["ensemble"], np.mean(each), rtol=1e-5)


def test_chains_that_do_not_agree_are_told():
    draws = jax.random.normal(jax.random.key(0), (4, 200))
    apart = draws.at[0].add(2.0)
    wider = draws.at[0].multiply(4.0)
    stuck = jnp.ones((4, 200)) * jnp.arange(4.0)[:, None]
    columns = {"good": draws, "apart": apart, "wider": wider, "stuck": stuck}
    found = density.diagnostics(columns)
    ratios = found["R-hat"]
    # 1 and a little for independent draws; a chain that is two deviations away, or four times as
    # wide, or never moves, is far beyond the limit.
    assert ratios["good"] < 1.03 and min(ratios[name] for name in ("apart", "wider", "stuck")) > 1.1
    assert not found["converged"] and found["effective sample size"]["good"] > 400
    told = {"divergences": 0, "label - prediction": {"value": 1.0}}
    assert "NOT agree" in experiment.told("network", found | told)


# --- files ----------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(0)
ARRAYS = {
    "x": GENERATOR.normal(size=(30, 3)),
    "y": GENERATOR.normal(size=30),
    "train": np.stack([np.arange(27), np.arange(3, 30)]),
    "test": np.stack([np.arange(27, 30), np.arange(3)]),
}


def written(**changed) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **(ARRAYS | changed))
    return stream.getvalue()


def test_a_table_is_read_and_scaled_by_its_training_rows(tmp_path):
    (tmp_path / "bostonHousing.npz").write_bytes(written())
    table = uci.load_table("boston", tmp_path)
    examples = experiment.examples_of(table, 1)
    np.testing.assert_allclose(examples.train_x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(examples.train_x.std(0), 1, atol=1e-5)
    back = examples.mean + examples.scale * np.asarray(examples.test_y)
    np.testing.assert_allclose(back, ARRAYS["y"][:3], rtol=1e-5)
    with pytest.raises(ValueError, match="split is 2; expected 0 to 1"):
        experiment.examples_of(table, 2)
    narrow = table._replace(train=table.train[:, :3])
    with pytest.raises(ValueError, match="3 training rows have no covariance of 3 columns"):
        experiment.examples_of(narrow, 0)


@pytest.mark.parametrize("content", [None, b"", written(y=np.ones(29)), written()[:300]])
def test_files_that_are_missing_or_wrong_are_named(tmp_path, capsys, content):
    path = tmp_path / "bostonHousing.npz"
    if content is not None:
        path.write_bytes(content)
    assert cli(["--data", "boston", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ") and not list(tmp_path.glob("*.json"))


# --- the experiment -------------------------------------------------------------------------------

SHORT = "--hidden 4 --members 2 --epochs 3 --warmup 40 --draws 40 --kept 20 --models moments --out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole command, once."""
    out = tmp_path_factory.mktemp("observation_density") / "out"
    assert cli([*SHORT.split(), str(out)]) == 0
    return out


def test_the_command_leaves_a_result_and_a_figure(finished):
    result = left_behind(finished)
    assert result["machine"]["blackjax"] and result["sizes"]["training examples"] == 398
    assert list(result["models"]) == ["moments"]
    for found in result["models"].values():
        assert len(found["R-hat"]) == 10 + 3
        assert found["converged"] == (found["largest R-hat"] <= 1.05)
        # Rounded to four places.
        assert abs(found["largest R-hat"] - max(found["R-hat"].values())) < 1e-4
        assert 20 <= len(found["draws"]["label"]) <= 24 and len(found["step sizes"]) == 4
        assert 0.3 < found["acceptance"] <= 1
        # Labels are in original units, 25 to 346 in the data.
        assert 20 < found["test"]["rmse"] < 120 and 4 < found["test"]["nll"] < 8
        assert 10 < found["noise"] < 120


def test_another_result_is_not_overwritten(finished, capsys):
    before = (finished / "result.json").read_bytes()
    assert cli([*SHORT.replace("--draws 40", "--draws 50").split(), str(finished)]) == 1
    assert "draws: 40 there, 50 now" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


def test_the_label_is_as_far_from_the_prediction_as_the_noise(sampled):
    """What the docstring expects of a network with a Gaussian posterior."""
    trained, chains = sampled
    position = chains.positions["moments"]
    x = jnp.einsum("fg,cdg->cdf", ROOT, position.x)
    predicted = trained.model("moments").predictions(x.reshape(-1, 2))
    distance = position.y.reshape(-1) - predicted
    spread = float(trained.model("moments").noise)
    # Relative standard error of a deviation, sqrt(1 / 2n) for at least 1,000 effective draws.
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(distance**2)), spread, rtol=5 * (1 / 2000) ** 0.5)


def test_training_lowers_the_loss_of_the_noise():
    examples = experiment.examples_of(uci.load_table("diabetes"), 0)
    config = Config(hidden=4, members=2, epochs=20)
    trained = training.train(config, examples)
    # Below the unit variance that it begins with, and that the labels have around their mean.
    assert float(trained.posterior.log_noise) < -0.1 > float(trained.members.log_noise.max())
    first, second = jax.tree.map(np.asarray, trained.members.network["layers"][0]["kernel"][...])
    assert np.abs(first - second).max() > 0.1  # independently trained


def test_chains_start_near_training_examples():
    examples = experiment.examples_of(uci.load_table("diabetes"), 0)
    config = dataclasses.replace(Config(), perturbation=1e-3)
    root = density.covariance_root(examples)
    start = density.initial_observations(config, examples, root, jax.random.key(0))
    x = start.x @ root.T
    gaps = jnp.abs(x[:, None] - examples.train_x[None]).max(-1)
    assert x.shape == (4, 10) and (gaps.min(-1) < 0.01).all()
    assert len(set(gaps.argmin(-1).tolist())) == 4


def test_the_figure_says_where_chains_did_not_converge(finished, tmp_path):
    result = json.loads((finished / "result.json").read_text())
    result["models"]["moments"] |= {"converged": False, "largest R-hat": 1.5}
    agreeing = {"converged": True, "largest R-hat": 1.004}
    result["models"]["ensemble"] = result["models"]["moments"] | agreeing
    (tmp_path / "result.json").write_text(json.dumps(result))
    figure.draw([tmp_path / "result.json"], tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "NOT converged: R-hat 1.50" in drawn and "R-hat ≤ 1.004" in drawn


@pytest.mark.parametrize(
    "wrong",
    [
        {"chains": 3},
        {"draws": 1},
        {"members": 1},
        {"models": ()},
        {"perturbation": 0.0},
        {"split": -1},
        {"learning_rate": float("nan")},
    ],
)
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; expected"):
        Config(**wrong)


def test_bad_data_is_an_error_message_and_not_a_trace(tmp_path, capsys):
    assert cli(["--data", "boston", "--data-dir", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
