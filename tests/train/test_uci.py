"""The regression experiment: its figures, its protocol, and the whole command on a tiny setting."""

import dataclasses
import functools
import itertools
import json
import math
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
from rich.console import Console
from scipy import stats

import cgjax as cg
from train.data.uci import Table, load_table, scaled
from train.engine.checkpoint import CheckpointError
from train.models.regression import initial, network
from train.report.files import DataFileError
from train.uci import experiment as uci
from train.uci import published as uci_published
from train.uci import rows as uci_rows
from train.uci import table as uci_table
from train.uci import trials as uci_trials
from train.uci.__main__ import cli
from train.uci.methods import METHODS
from train.uci.settings import CANDIDATES, Cell, Config, Hyper
from train.uci.training import Scores, Shape, at_once, scored, trained

TINY = Config(splits=2, epochs=2, hidden=4, samples=3)
CELL = Cell("diabetes", "moments_adam", "heteroscedastic")
DIABETES = load_table("diabetes")


def test_every_method_has_candidates():
    assert METHODS.keys() == CANDIDATES.keys() == set(Config().methods)


@pytest.mark.parametrize("method", CANDIDATES)
def test_every_method_chooses_between_the_same_five_things(method):
    centre, *others = CANDIDATES[method]
    changed = [
        {name for name, value in other._asdict().items() if value != getattr(centre, name)}
        for other in others
    ]
    priors = {"output_prior"}, {"output_prior", "prior"}
    assert changed == [{"first_noise"}, *priors, {"learning_rate"}]


def test_the_network_is_an_ordinary_one():
    params = initial(jax.random.key(0), 3, 5, 2)
    x = jax.random.normal(jax.random.key(1), (4, 3))
    h = np.maximum(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None], 0)
    expected = h @ params["output"]["kernel"] + params["output"]["bias"][None]
    np.testing.assert_allclose(network(params, x), expected, rtol=1e-6)  # one rounding apart
    np.testing.assert_array_equal(network(params, x, 0.5), network(params, x))  # marginalised


@pytest.mark.parametrize(
    "name, noise",
    # Each method once, to save compiling; the two kinds differ in the heads alone.
    list(zip(METHODS, itertools.cycle(["heteroscedastic", "homoscedastic"]), strict=False)),
)
def test_predictions_are_mixtures_of_gaussians_and_losses_can_be_descended(name, noise):
    method = METHODS[name]
    params = method.init(jax.random.key(0), 3, 4, noise, Hyper(0.01, -0.5))
    x, y = jax.random.normal(jax.random.key(1), (6, 3)), jnp.linspace(-1.0, 1.0, 6)
    hyper = Hyper(0.01, rate=0.5)

    @jax.jit
    def both(params):
        output = method.predict(params, jax.random.key(2), hyper, 7, x)
        return output, jax.grad(method.loss)(params, jax.random.key(3), hyper, 60, x, y)

    output, gradient = both(params)
    components = {"moments_natural": 1, "moments_adam": 1, "ensemble": 5}.get(name, 7)
    assert output.mean.shape == output.variance.shape == (components, 6)
    assert (output.variance > 0).all()
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() for leaf in leaves) and any(leaf.any() for leaf in leaves)
    # The components of what samples, or has members, differ; at the noise's rate 0 none would.
    assert components == 1 or np.ptp(output.mean, axis=0).max() > 1e-3


def test_the_loss_of_a_single_network_is_its_log_posterior():
    method, hyper = METHODS["pcff"], Hyper(0.01, prior=2.0, output_prior=0.5)
    params = method.init(jax.random.key(0), 3, 4, "homoscedastic", hyper)
    x, y = jax.random.normal(jax.random.key(1), (6, 3)), jnp.linspace(-1.0, 1.0, 6)
    noise = math.exp(params["log_noise"])
    outputs = np.asarray(network(params["network"], x))[:, 0]
    nll = -stats.norm.logpdf(y, outputs, noise**0.5).mean()
    deviations = {"hidden": {"kernel": 2, "bias": 2}, "output": {"kernel": 0.5, "bias": 2}}
    log_priors = jax.tree.map(
        lambda w, s: (stats.norm.logpdf(w, 0, s) - stats.norm.logpdf(0, 0, s)).sum(),
        params["network"],
        deviations,
    )
    log_prior = sum(jax.tree.leaves(log_priors))
    loss = method.loss(params, jax.random.key(2), hyper, 60, x, y)
    np.testing.assert_allclose(loss, nll - log_prior / 60, rtol=1e-5)  # float32


def test_moments_and_samples_of_a_posterior_predict_alike():
    """The same posterior by `moments` and by sampling: mean and variance of a target agree."""
    params = METHODS["moments_adam"].init(jax.random.key(0), 3, 4, "homoscedastic", Hyper(0.01))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    samples = 4000

    def predicted(name: str) -> cg.Belief:
        return METHODS[name].predict(params, jax.random.key(2), Hyper(0.01), samples, x)

    exact, drawn = predicted("moments_adam"), predicted("weight_sample")
    spread = np.sqrt(exact.variance[0])
    # Five standard errors of a mean of samples; the noise is no part of their spread.
    assert (np.abs(drawn.mean.mean(0) - exact.mean[0]) < 5 * spread / samples**0.5).all()
    total = drawn.mean.var(0) + drawn.variance.mean(0)
    # Of a variance: sqrt(2 / samples); a product of two Gaussian layers has heavier tails.
    assert (np.abs(total / exact.variance[0] - 1) < 5 * (4 / samples) ** 0.5).all()


def table_with(rows: np.ndarray) -> Table:
    """Diabetes with other numbers in some rows."""
    changed = DIABETES._replace(x=DIABETES.x.copy(), y=DIABETES.y.copy())
    changed.x[rows] *= 3
    changed.y[rows] += 500
    return changed


@functools.lru_cache
def fitted(changed: str = "nothing") -> Any:
    rows = {
        "nothing": np.array([], int),
        "test": DIABETES.test[0],
        "train": DIABETES.train[0][:1],
    }[changed]
    one, other = (uci.problem(TINY, CELL, table) for table in (table_with(rows), DIABETES))
    of_each = {
        name: tuple(
            np.stack([a[0], b[1]])
            for a, b in zip(getattr(one, name), getattr(other, name), strict=True)
        )
        for name in ("train", "test")
    }
    return uci.fitted(one._replace(**of_each), CANDIDATES[CELL.method], 2)


def test_test_rows_influence_nothing_but_the_test():
    fit, other = fitted(), fitted("test")
    jax.tree.map(
        np.testing.assert_array_equal,
        (fit.hyper, fit.nlls, fit.params),
        (other.hyper, other.nlls, other.params),
    )
    # The changed rows are what is tested; those of the other split are not.
    assert (fit.scores.level[0] != other.scores.level[0]).any()
    np.testing.assert_array_equal(fit.scores.nll[1], other.scores.nll[1])
    leaves = zip(jax.tree.leaves(fit.params), jax.tree.leaves(fitted("train").params), strict=True)
    assert all((a[0] != b[0]).any() for a, b in leaves)  # so the comparison could have failed


def test_the_preferred_candidate_is_chosen_for_each_split():
    fit = fitted()
    assert len(fit.nlls) == len(CANDIDATES["moments_adam"])
    best = uci.preferred(fit.nlls)
    for split in range(2):
        chosen = [value[split] for value in fit.hyper]
        expected = CANDIDATES["moments_adam"][best[split]]
        np.testing.assert_array_equal(chosen, np.array(list(expected), np.float32))


@pytest.mark.parametrize(
    "others, best",
    [
        ([[-0.1] * 4], 1),  # better in every row
        ([[0.1] * 4], 0),
        ([[-1.0, 0.1, 0.1, 0.1]], 0),  # better on average, by one row's luck: 0.17 +- 0.24
        ([[-1.0, -1.0, -1.0, 1.0], [-2.0] * 4], 2),  # the choice so far is what is compared
        ([[-2.0] * 4, [-1.9] * 4], 1),
        ([[float("nan")] * 4, [-np.inf, -1.0, -1.0, -1.0]], 0),
    ],
)
def test_a_bolder_candidate_must_be_better_by_a_standard_error(others, best):
    nlls = np.array([[0.0] * 4, *others])
    one, two = nlls[:, None], np.stack([nlls, np.zeros_like(nlls)], axis=1)
    assert uci.preferred(one) == [best]
    np.testing.assert_array_equal(uci.preferred(two), [best, 0])


def test_what_is_no_number_is_left_for_what_is():
    nlls = np.array([[np.nan, 1.0], [5.0, 9.0], [np.inf, 0.0]])[:, None]
    assert uci.preferred(nlls) == [1]


def test_rows_beyond_the_examples_are_not_trained_on():
    x = jax.random.normal(jax.random.key(1), (20, 3))
    y = x[:, 0]
    shape = Shape("moments_adam", "homoscedastic", 4, 8, 1)
    run = jax.jit(functools.partial(trained, shape))
    args = 2, jax.random.key(0), Hyper(jnp.float32(0.1)), 13
    params = run(*args, x, y)
    others = run(*args, x.at[13:].set(9.0), y.at[13:].set(jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, params, others)
    within = run(*args, x.at[12].set(9.0), y)  # 16 draws a pass: each of the 13 is drawn
    assert all(
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(jax.tree.leaves(within), jax.tree.leaves(params), strict=True)
    )


def test_splits_at_once_are_splits_one_by_one():
    shape = Shape("pcff", "heteroscedastic", 4, 16, 3)
    splits = [scaled(DIABETES, i) for i in range(3)]
    keys = jax.random.split(jax.random.key(5), 3)
    # Each split with hyperparameters and a number of rows of its own.
    factors = np.linspace(0.5, 1, 3, dtype=np.float32)
    hyper = Hyper(*(factors * value for value in Hyper(0.05, rate=0.5)))
    examples = np.array([300, 398, 350], np.int32)
    x, y = np.stack([s.train_x for s in splits]), np.stack([s.train_y for s in splits])
    together = at_once(trained, shape)(2, keys, hyper, examples, x, y)
    one = jax.jit(functools.partial(trained, shape))
    for i in range(3):
        alone = one(2, keys[i], Hyper(*(v[i] for v in hyper)), examples[i], x[i], y[i])
        jax.tree.map(
            # 48 steps in float32, in which sums are split otherwise.
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4),
            together,
            alone,
        )


def test_figures_are_those_of_numpy_in_original_units():
    """From the trained parameters alone, in float64 and in the units of the file."""
    cell = Cell("diabetes", "ensemble", "heteroscedastic")
    given = uci.problem(TINY, cell, DIABETES)
    fit = uci.fitted(given, CANDIDATES[cell.method], 2)
    params = fit.params
    for i, figures in enumerate(given.figures(fit.scores, given.test[1])):
        train, test = DIABETES.train[i], DIABETES.test[i]
        x = (DIABETES.x[test] - DIABETES.x[train].mean(0)) / DIABETES.x[train].std(0)
        mean, deviation = DIABETES.y[train].mean(), DIABETES.y[train].std()
        densities, levels, predictions = [], [], []
        for member in range(5):
            w = jax.tree.map(lambda a, i=i, m=member: np.float64(a[i, m]), params)["network"]
            h = np.maximum(x @ w["hidden"]["kernel"] + w["hidden"]["bias"], 0)
            f, s = (h @ w["output"]["kernel"] + w["output"]["bias"]).T
            predictions.append(mean + deviation * f)
            noise = deviation * np.sqrt(np.exp(s) + 1e-6)
            densities.append(stats.norm.pdf(DIABETES.y[test], predictions[-1], noise))
            levels.append(stats.norm.cdf(DIABETES.y[test], predictions[-1], noise))
        likelihood = np.log(np.mean(densities, 0)).mean()
        rmse = np.sqrt(np.mean((np.mean(predictions, 0) - DIABETES.y[test]) ** 2))
        # float32 against float64, and log(77) is near 4.3.
        np.testing.assert_allclose(figures["log likelihood"], likelihood, atol=1e-4)
        np.testing.assert_allclose(figures["rmse"], rmse, rtol=1e-5)
        inside = np.abs(np.mean(levels, 0) - 0.5) < 0.475
        assert figures["coverage"] == inside.mean()
        assert likelihood < -5  # in the units of the file, where the deviation is 77


def test_a_posterior_s_figures_are_those_of_its_closed_form_gaussian():
    params = METHODS["moments_adam"].init(jax.random.key(0), 3, 4, "homoscedastic", Hyper(0.01))
    x, y = jax.random.normal(jax.random.key(1), (6, 3)), jnp.linspace(-1.0, 1.0, 6)
    belief = cg.weights.deterministic(network)(None, params["network"], x)
    mean = np.float64(belief.mean[:, 0])
    variance = np.float64(belief.variance[:, 0]) + math.exp(params["log_noise"])
    shape = Shape("moments_adam", "homoscedastic", 4, 6, 1)
    scores = scored(shape, params, jax.random.key(2), Hyper(0.01), x, y)
    gaussian = mean, np.sqrt(variance)
    np.testing.assert_allclose(scores.nll, -stats.norm.logpdf(y, *gaussian), rtol=1e-5)  # float32
    np.testing.assert_allclose(scores.level, stats.norm.cdf(y, *gaussian), rtol=1e-4)
    np.testing.assert_allclose(scores.mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores.deviation, np.sqrt(variance), rtol=1e-5)


def test_coverage_is_the_share_of_rows_in_the_central_interval():
    given = uci.problem(dataclasses.replace(TINY, splits=1), CELL, DIABETES)
    level = np.array([[0.01, 0.03, 0.5, 0.97, 0.98]])
    scores = Scores(np.zeros((1, 5)), np.ones((1, 5)), np.ones((1, 5)), level)
    assert given.figures(scores, np.zeros((1, 5)))[0]["coverage"] == 0.6
    level[0, 0] = np.nan
    assert given.figures(scores, np.zeros((1, 5)))[0]["coverage"] is None


def test_the_cost_of_weights_rises_from_nothing(monkeypatch):
    """The loss is told of more examples at first: so many that the cost's share is as planned."""
    told = []
    method = METHODS["moments_adam"]

    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Any, y: Any) -> Any:
        jax.debug.callback(lambda e: told.append(float(e)), examples)
        return method.loss(params, key, hyper, examples, x, y)

    monkeypatch.setitem(METHODS, "moments_adam", method._replace(loss=loss))
    x = jax.random.normal(jax.random.key(1), (20, 3))
    shape = Shape("moments_adam", "homoscedastic", 4, 5, 1)
    for warm_up, shares in ((0.5, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]), (0.0, [1] * 8)):
        told.clear()
        trained(shape, 2, jax.random.key(0), Hyper(0.01, warm_up=warm_up), 20, x, x[:, 0])
        jax.effects_barrier()
        np.testing.assert_allclose(sorted(20 / np.array(told)), sorted(shares), rtol=1e-6)


# -- the command

QUIET = functools.partial(Console, quiet=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> pathlib.Path:
    """Two methods in a tiny setting, by the command of a user, in a process of its own."""
    out = tmp_path_factory.mktemp("uci")
    run = subprocess.run(
        [sys.executable, "-m", "train.uci", "--splits", "2", "--epochs", "2", "--hidden", "4"]
        + ["--samples", "3", "--methods", "moments_natural", "dropout"]
        + ["--noise", "heteroscedastic", "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "COLUMNS": "200"},
    )
    assert run.returncode == 0, run.stderr
    assert "1/2 diabetes moments_natural heteroscedastic: LL -" in run.stdout
    return out


SETTINGS = dataclasses.replace(
    TINY, methods=("moments_natural", "dropout"), noise=("heteroscedastic",)
)


def test_what_the_command_leaves_behind(results):
    names = {path.relative_to(results).as_posix() for path in results.rglob("*.*")}
    cells = {f"diabetes/{method}-heteroscedastic.json" for method in SETTINGS.methods}
    assert names == cells | {"table.md"}
    result = uci_table.read(results / "diabetes/dropout-heteroscedastic.json")
    assert result["command"].startswith("python -m train.uci --splits 2")
    assert result["machine"]["jax"] == jax.__version__ and result["settings"]["seed"] == 0
    assert result["seconds"].keys() == {"compilation", "search", "training", "test"}
    for split in result["splits"]:
        assert 40 < split["rmse"] < 120 and -8 < split["log likelihood"] < -5
        assert len(split["validation nll"]) == len(CANDIDATES["dropout"])
        assert 0 <= split["coverage"] <= 1 and split["hyperparameters"].keys() == set(Hyper._fields)


def test_finished_cells_are_skipped_and_missing_ones_made_again(results, tmp_path, monkeypatch):
    for path in (results / "diabetes").iterdir():
        (tmp_path / "diabetes").mkdir(exist_ok=True)
        (tmp_path / "diabetes" / path.name).write_bytes(path.read_bytes())
    missing = tmp_path / "diabetes/dropout-heteroscedastic.json"
    before = uci_table.read(missing)
    missing.unlink()
    made = []
    monkeypatch.setattr(
        uci,
        "run",
        lambda config, cell, table, command: (
            made.append(cell.method),
            {**before, "command": command},
        )[1],
    )
    config = dataclasses.replace(SETTINGS, out=tmp_path)
    uci.main(config, "again", QUIET())
    assert made == ["dropout"] and uci_table.read(missing)["command"] == "again"
    uci.main(config, "again", QUIET())
    assert made == ["dropout"]
    assert (tmp_path / "table.md").read_text() == uci_table.markdown(uci_table.read_all(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [({"seed": 1}, "seed: 0 there, 1 now"), ({"epochs": 3}, "epochs: 2 there, 3 now")],
)
def test_results_of_other_settings_are_not_mixed(results, change, message):
    config = dataclasses.replace(SETTINGS, out=results, **change)
    with pytest.raises(CheckpointError, match=message):
        uci.main(config, "", QUIET())


def test_a_result_does_not_depend_on_the_process_or_on_other_cells(results):
    cell = Cell("diabetes", "moments_natural", "heteroscedastic")
    again = uci.run(SETTINGS, cell, DIABETES, "again")
    expected = uci_table.read(results / cell.file)
    assert again["splits"] == expected["splits"] and again["settings"] == expected["settings"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"splits": [{}]}', b'{"splits": []}', b"[1]", b"\xff"]
)
def test_a_bad_result_is_named(tmp_path, content):
    path = tmp_path / "diabetes/x.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="x.json is no result of `python -m train.uci`"):
        uci_table.read_all(tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "yacht"], "yacht is not part of any package"),
        (["--data", "yacht", "--data-dir", "nowhere"], "cannot read nowhere/yacht.npz"),
        (["--splits", "21"], "splits is 21; expected at most 20, the splits of diabetes"),
    ],
)
def test_mistakes_end_the_command_with_one_line(arguments, message, capsys):
    assert cli(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"samples": 0}, "samples is 0; expected at least 1"),
        ({"methods": ("pcff", "pcff")}, "expected at least one, and none twice"),
        ({"noise": ()}, "expected at least one, and none twice"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        Config(**wrong)


# -- the tables


def made_up(data: str, method: str, noise: str, likelihoods: Any, rmses: Any) -> dict[str, Any]:
    return {
        "settings": {"data": data, "method": method, "noise": noise},
        "seconds": {"compilation": 3.0, "training": 1.0},
        "splits": [
            {"log likelihood": a, "rmse": b, "coverage": 0.5}
            for a, b in zip(likelihoods, rmses, strict=True)
        ],
    }


def tables_of(*results: dict[str, Any]) -> str:
    return uci_table.markdown({uci_table.name_of(result): result for result in results})


def test_the_published_columns_are_whole():
    for column in (*uci_published.PAPER, *uci_published.ANCHORS):
        assert column.source and "LL" in column.figures and {"LL", "RMSE"} >= set(column.figures)
        for texts in column.figures.values():
            assert len(texts) == 9, column.title
            assert all(np.isfinite(uci_published.number(text)) for text in texts)


def test_tables_from_results():
    text = tables_of(
        made_up("yacht", "moments_adam", "heteroscedastic", [-0.4, -0.6], [1.0, 1.2]),
        made_up("boston", "moments_adam", "heteroscedastic", [-2.44, -2.48], [3.2, 3.6]),
        made_up("boston", "pcff", "heteroscedastic", [-2.5, None], [3.2, None]),
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["data", "moments, Adam", "PCFF"] in rows
    assert ["boston", "-2.460 ± 0.020", "nan"] in rows  # a split that is not a number shows
    assert ["yacht", "-0.500 ± 0.100", "-"] in rows
    assert ["yacht", "1.100 ± 0.100", "-"] in rows
    assert ["boston", "heteroscedastic", "2.00", "2.00"] in rows
    for printed in ("-2.6±0.4", "-2.57±.09"):  # of [B], and of others
        beside = next(row for row in rows if row[:1] == ["boston"] and printed in row)
        assert beside[1] == "-2.460 ± 0.020" and ("-2.42" in beside) == (printed == "-2.57±.09")
    reached = [row for row in rows if row and row[-1] in ("better", "level", "worse")]
    # Sets in the order of the paper. Against [B]: -2.5, -2.6 and 3.3, 3.5; -2.5, -2.8 and 4.1, 64.
    assert reached == [
        ["boston", "level", "better", "worse", "better", "worse"],
        ["yacht", "better", "better", "better", "better", "level"],
    ]


@pytest.mark.parametrize(
    "value, figure, data, best, bp",
    [
        (-2.5499, "log likelihood", "boston", "level", "better"),
        (-2.5501, "log likelihood", "boston", "worse", "level"),
        (4.0, "log likelihood", "naval", "worse", "level"),
        (0.04, "rmse", "naval", "level", "level"),
        (0.06, "rmse", "naval", "worse", "worse"),
        (4.2, "rmse", "yacht", "worse", "better"),
        (float("nan"), "rmse", "yacht", "worse", "worse"),
    ],
)
def test_comparison_with_the_paper(value, figure, data, best, bp):
    figures = {"log likelihood": [0.0], "rmse": [0.0]} | {figure: [value]}
    cell = made_up(data, "pcff", "homoscedastic", *figures.values())
    short = uci_published.SHORT[figure]
    standing = uci_table.standing(cell)
    assert (standing[f"{short}: best of [B]"], standing[f"{short}: BP"]) == (best, bp)


def test_comparison_with_diagonal_dvi():
    for value, expected in ((-0.36, "better"), (-0.38, "level"), (-0.56, "level"), (-0.6, "worse")):
        # -0.47 in print; our standard error is 0.1.
        cell = made_up("yacht", "pcff", "homoscedastic", [value - 0.1, value + 0.1], [1.0, 1.0])
        assert uci_table.standing(cell)["LL: dDVI"] == expected


def test_two_results_of_a_cell_are_refused(tmp_path):
    one = made_up("yacht", "pcff", "heteroscedastic", [1.0], [1.0])
    (tmp_path / "yacht").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "yacht" / name).write_text(json.dumps(one))
    with pytest.raises(DataFileError, match="b.json is another result of yacht pcff hetero"):
        uci_table.read_all(tmp_path)


def test_the_tables_command(results, tmp_path, capsys):
    uci_table.main([str(results)])
    assert capsys.readouterr().out == (results / "table.md").read_text()
    for words, message in (([str(tmp_path)], "holds no results"), ([], "usage: ")):
        with pytest.raises(SystemExit, match=message):
            uci_table.main(words)


# -- row by row


def rows_of(results: pathlib.Path) -> Any:
    config = dataclasses.replace(SETTINGS, methods=("dropout",), trial="rows", out=results)
    return uci.main(config, "again", QUIET())


def test_a_cell_row_by_row_is_the_cell(results, tmp_path):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    (made,) = rows_of(tmp_path)
    (cell,) = made["cells"]
    before = uci_table.read(results / "diabetes/dropout-heteroscedastic.json")["splits"]
    for split, expected in zip(cell["splits"], before, strict=True):
        # The same bits, of which means are taken in float64 and in float32.
        for name in ("rmse", "log likelihood"):
            np.testing.assert_allclose(split[name], expected[name], rtol=1e-6)
        assert split["distance"] < 1e-6
        assert (split["training rows"], split["test rows"]) == (398, 44)
    line = uci_rows.grid([made]).lines[1]
    assert line[:3] == ["MC dropout", "2", f"{before[1]['rmse']:.2f}"]
    with pytest.raises(DataFileError, match="dropout-heteroscedastic.json is no result"):
        rows_of(tmp_path / "elsewhere")


def test_what_rows_contribute():
    split = scaled(DIABETES, 0)
    split = split._replace(test_x=split.test_x.copy(), test_y=np.zeros(44, np.float32))
    split.test_x[7, 3] = -12.0
    numbers = np.ones((3, 44))  # errors, deviations and NLLs of 1
    numbers[:, 7] = 5.0, 11.0, 45.0
    found = uci_rows.described(split, numbers, np.arange(100, 144))
    unit = math.log(split.scale)
    assert found["log likelihood"] == pytest.approx(-2 - unit)
    assert found["without the worst row"] == pytest.approx(-1 - unit)
    assert found["rmse without unsure rows"] == pytest.approx(split.scale)
    assert found["rmse without the largest errors"] == pytest.approx(split.scale)
    assert found["rmse"] == pytest.approx(split.scale * (1 + 24 / 44) ** 0.5)
    assert found["worst row"] == {
        "number": 107,
        "nll": 45.0,
        "predicted deviation": 11.0,
        "error": 5.0,
        "largest input": 12.0,
        "column": 3,
    }
    assert (found["unsure rows"], found["far test rows"], found["far training rows"]) == (1, 1, 0)


def test_a_cell_of_another_recipe_is_not_made_again(results, tmp_path):
    result = uci_table.read(results / "diabetes/dropout-heteroscedastic.json")
    result["settings"]["candidates"] = [[0.01, 1.0, 0.0]]
    path = tmp_path / "diabetes/dropout-heteroscedastic.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result))
    with pytest.raises(CheckpointError, match="made with other settings. candidates: "):
        rows_of(tmp_path)


# -- where trainings end


def ends(**figures: Any) -> dict[str, Any]:
    """A made-up result: bound and log-likelihood of starts, in three splits that hardly differ."""
    made = {name: (0.0, 0.0) for name in uci_trials.STARTS} | {
        getattr(uci_trials, name.upper()): both for name, both in figures.items()
    }
    return {
        "settings": {"data": "yacht", "noise": "homoscedastic"},
        "starts": {
            name: [
                {"bound": b + e, "log likelihood": ll + e, "rmse": 1.0, "coverage": 1.0}
                for e in (0.0, 0.01 * (name in (uci_trials.RECIPE, uci_trials.SETTLED)), 0.02)
            ]
            for name, (b, ll) in made.items()
        },
    }


@pytest.mark.parametrize(
    "figures, expected",
    [
        ({"recipe": (1.0, 0.0)}, "no difference that counts"),
        ({"recipe": (-0.5, 1.0), "settled": (0.5, 1.0)}, "a poor optimum"),
        ({"recipe": (-0.5, 1.0), "longer": (0.5, 0.8)}, "slow convergence"),
        ({"recipe": (-0.5, 1.0), "longer": (0.5, 0.2)}, "the bound prefers the worse prediction"),
    ],
)
def test_what_is_wrong_with_a_start(figures, expected):
    assert uci_trials.verdict(ends(**figures)["starts"]) == expected
    assert uci_trials.starts_table([ends(**figures)]).lines[0][-1] == expected


def trial(name: Any, out: pathlib.Path, *methods: Any) -> tuple[Any, Any]:
    """What a trial of some methods returns, and what it writes but for the JSONs."""
    config = dataclasses.replace(
        TINY, methods=methods, noise=("homoscedastic",), trial=name, out=out
    )
    made = uci.main(config, "again", QUIET())
    files = {path.name: path.read_text() for path in out.iterdir()}
    for result in made:
        cell = "-".join(uci_table.name_of(result))
        assert json.loads(files.pop(f"{name}-{cell}.json")) == result
    assert files.keys() == {f"{name}.md"}
    return made, files[f"{name}.md"]


def test_the_trial_of_starts(tmp_path):
    (made,), _ = trial("starts", tmp_path, "moments_adam", "dropout")
    assert made["starts"].keys() == uci_trials.STARTS.keys()
    first, second = made["starts"]["recipe"], made["starts"]["full cost at once, small noise"]
    assert first[0]["bound"] > second[0]["bound"] + 1  # after two epochs the noise is still small


def test_the_trial_of_searches(tmp_path):
    (made,), text = trial("search", tmp_path, "moments_adam")
    found = made["search"]
    assert len(found) == 2 * len(uci_trials.LENGTHS)
    first, other = (found[f"{rate} rate, the whole"] for rate in ("first", "other"))
    gains = [b["log likelihood"] - a["log likelihood"] for a, b in zip(first, other, strict=True)]
    assert gains[0] != 0 and f"{np.mean(gains):+.3f} ± " in text.splitlines()[-1]
    assert "| diabetes | moments, Adam, homoscedastic | 0.02 for 0.01 |" in text


def test_the_trial_of_speed(tmp_path):
    (made,), text = trial("speed", tmp_path, "moments_adam")
    each = made["speed"]["seconds"] / made["speed"]["splits"]
    assert each > 0 and made["speed"]["splits"] == made["settings"]["splits"]
    name = "moments, Adam, homoscedastic"
    assert text.splitlines()[-1] == f"| diabetes | {name} | {each:.3f} | - | - |"
    told = made | {"settings": made["settings"] | {"data": "wine"}}
    (line,) = uci_trials.speed_table([told]).lines
    assert line[-2:] == ["0.214", f"{each / 0.214:.2f}"]
