"""Autoencoders: images, bounds, figures of a trained network, and what results say of claims."""

import dataclasses
import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.made_up import left_behind, refused
from train import data
from train.data import Dataset
from train.engine.falling import CosineRecipe
from train.models.autoencoder import Shape, initial
from train.vae import claims, figure, table, testing, training
from train.vae.__main__ import cli
from train.vae.settings import Cell, Config

ELBO = Cell("gaussian", "pathwise", 1)
MANY = Cell("gaussian", "pathwise", 50)
SHORT = (
    "--seeds 0 1 --images 128 --epochs 4 --hidden 8 --latent-size 3 --samples 2 --kept 3 "
    "--gradients pathwise --test-samples 20 --test-images 40 --out"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("vae")
    assert cli([*SHORT.split(), str(out)]) == 0
    return out


def test_the_command_leaves_a_result_and_a_figure(finished):
    result = left_behind(finished)
    runs = result["runs"]
    names = "latent", "gradient", "samples", "seed"
    told = [tuple(run[name] for name in names) for run in runs]
    assert told == [("gaussian", "pathwise", 2, 0), ("gaussian", "pathwise", 2, 1)]
    for run in runs:
        losses = run["history"]["validation_loss"]
        assert set(run["history"]) == {"train_loss", "validation_loss", "learning_rate"}
        # Less than even chances for each of 64 pixels.
        assert losses[-1] < losses[0] and losses[-1] < 64 * np.log(2)
        test = run["test"]
        assert test["images"] == 40
        # The gap is the divergence of the guide from the posterior.
        assert test["elbo"] < test["log likelihood"] + 5 * test["log likelihood error"]
        assert 0 < test["kl"] and 0 <= test["active units"] <= 3
        assert (run["pictures"] is None) == (run["seed"] != 0)
    shown = runs[0]["pictures"]
    assert len(shown["samples"]) == len(shown["reconstructions"]) == 3
    images = np.array([figure.decoded(text) for text in shown["images"]])
    assert set(np.unique(images)) == {0.0, 1.0} and images.shape == (3, 8, 8)


def test_a_table_tells_what_is_missing(finished):
    result = left_behind(finished)
    two = Cell("gaussian", "pathwise", 2)
    lines = table.figures([result], [ELBO, two]).lines
    assert [line[1] for line in lines] == ["ELBO", "pathwise, K = 2"]
    assert [line[2] == table.MISSING for line in lines] == [True, False]
    with pytest.raises(ValueError, match="of seed 0"):
        table.by_data([result, result])


def test_the_best_model_is_shown_where_several_have_pictures():
    def run(seed, value):
        test = {"log likelihood": value}
        return {"seed": seed, "epochs": 1, "test": test, "pictures": {"seed": seed}}

    runs = {ELBO: [run(0, -88.0), run(1, -88.0)], MANY: [run(0, -89.0)]}
    ((cell, shown),) = figure._best(runs, "gaussian")
    assert cell == ELBO and shown == {"seed": 0} and figure._best(runs, "bernoulli") == []


def test_another_result_is_not_overwritten(finished, capsys):
    before = (finished / "result.json").read_bytes()
    assert cli([*SHORT.replace("--hidden 8", "--hidden 4").split(), str(finished)]) == 1
    assert "hidden: 8 there, 4 now" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


# --- images ---------------------------------------------------------------------------------------


def grey(level: int, images: int = 400) -> Dataset:
    """Images of 16 pixels of one level, of 16."""
    x, y = np.full((images, 16), level, np.uint8), np.arange(images) % 10
    return Dataset.of((x, y), (x, y), images // 2, "made up", largest=16)


def test_pixels_are_white_with_the_probability_of_their_level():
    fixed, dynamic = (Config(binarisation=way) for way in ("fixed", "dynamic"))
    for level in (0, 4, 16):
        made, other = (training.images_of(c, grey(level)) for c in (fixed, dynamic))
        p = level / 16
        for x in (made.train_x, made.validation_x, made.test_x):
            assert set(np.unique(x)) <= {0, 16}
            assert abs((x > 0).mean() - p) <= 5 * (p * (1 - p) / x.size) ** 0.5
        assert (other.train_x == level).all()
        # What bounds are compared by is the same for both.
        np.testing.assert_array_equal(made.test_x, other.test_x)
        np.testing.assert_array_equal(made.validation_x, other.validation_x)
    one = training.images_of(fixed, grey(4))
    other = training.images_of(dataclasses.replace(fixed, binarisation_seed=1), grey(4))
    assert (other.test_x != one.test_x).any()
    assert (one.train_x != one.test_x[:200]).any()  # each part has a draw of its own


def test_no_image_is_for_training_and_validation():
    known = data.load("digits")
    made = training.images_of(Config(images=20), known)
    np.testing.assert_array_equal(made.train_x, known.train_x[:20])
    assert len(made.validation_x) == len(known.validation_x)
    assert "the first 20 for training" in made.source and "test fixed by seed 0" in made.source


def test_dynamic_images_are_others_in_each_step():
    """The loss is that of black and white images: with a decoder that knows nothing of the latent
    nodes, it is a sum over pixels that are white or not."""
    shape = Shape(means=(0.25,) * 64, hidden=2, latent=2)
    learner = training.learner(shape, ELBO, dynamic=True)
    params = jax.tree.map(jnp.zeros_like, learner.init(jax.random.key(0)).params)
    params["pixels"]["bias"] += 1.0
    variables = learner.init(jax.random.key(0))._replace(params=params)
    x = jnp.full((100, 64), 0.25)
    loss = jax.jit(lambda key: learner.loss(variables, key, None, x, x)[0])
    values = np.array([loss(jax.random.key(k)) for k in range(4)])
    assert len(set(values.tolist())) == 4
    # -log p: log(1 + e) of a black pixel, one less of a white one.
    expected = 64 * (np.log1p(np.e) - 0.25)
    assert abs(values.mean() - expected) < 5 * (64 * 0.25 * 0.75 / 400) ** 0.5


# --- bounds and figures ---------------------------------------------------------------------------


def exact(params, x):
    """log p(x) of images by all states of three binary latent nodes."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    z = np.array([*itertools.product((0.0, 1.0), repeat=3)])
    h = z
    for name in ("decode_1", "decode_2"):
        h = np.tanh(h @ p[name]["kernel"] + p[name]["bias"])
    logits = h @ p["pixels"]["kernel"] + p["pixels"]["bias"]
    each = x @ logits.T - np.logaddexp(0, logits).sum(1)
    return np.logaddexp.reduce(each, axis=1) - np.log(8)


def test_figures_are_those_of_enumeration():
    shape = Shape(means=(0.4,) * 9, hidden=4, latent=3, binary=True)
    params = initial(shape, jax.random.key(0))
    params |= {
        name: {"kernel": 3 * params[name]["kernel"], "bias": jnp.ones(size)}
        for name, size in (("decode_1", 4), ("decode_2", 4), ("pixels", 9))
    }
    x = np.random.default_rng(0).integers(0, 2, (60, 9)).astype(np.float32)
    found = testing.figures(shape, params, jax.random.key(1), jnp.asarray(x), 60, 400)
    truth = exact(params, x)
    error = found.log_likelihood_error
    # 400 samples of a guide that is close: half of the relative variance is the bias of the log.
    assert abs(found.log_likelihood - truth.mean()) < 5 * error < 0.1
    some = testing.figures(shape, params, jax.random.key(1), jnp.asarray(x), 30, 400)
    assert error < some.log_likelihood_error
    assert abs(some.log_likelihood - truth.mean()) < 5 * some.log_likelihood_error
    assert found.elbo < truth.mean() and some.elbo == found.elbo
    assert abs(found.elbo_error - truth.std() / 60**0.5) < 0.5 * found.elbo_error


def test_the_log_likelihood_of_some_images_stands_for_all():
    generator = np.random.default_rng(0)
    bounds = generator.normal(-90, 20, 200)
    truth = bounds + generator.normal(2, 1, 200)
    none = np.zeros(200)
    everything = testing.log_likelihood(bounds, np.arange(200), truth, none)
    np.testing.assert_allclose(everything, (truth.mean(), 0), atol=1e-9)
    rows = np.array([generator.permutation(200)[:50] for _ in range(2000)])
    found = [testing.log_likelihood(bounds, some, truth[some], none[some]) for some in rows]
    values, errors = np.array(found).T
    # Five standard errors of a mean, and of a standard deviation, of 2,000 choices.
    assert abs(values.mean() - truth.mean()) < 5 * errors.mean() / 2000**0.5
    assert abs(values.std() / errors.mean() - 1) < 5 / (2 * 2000) ** 0.5
    _, noisy = testing.log_likelihood(bounds, np.arange(200), truth, none + 2.0)
    assert noisy == pytest.approx(2.0 / 200**0.5)


def test_cells_are_the_gradients_that_fit():
    cells = Config(samples=(1, 5)).cells
    assert [cell[:3] for cell in cells] == [
        ("gaussian", "pathwise", 1),
        ("gaussian", "pathwise", 5),
        ("gaussian", "doubly_reparameterised", 5),
        ("bernoulli", "straight_through", 1),
        ("bernoulli", "straight_through", 5),
        ("bernoulli", "vimco", 5),
    ]
    x = jnp.zeros((2, 16))
    for cell in cells:
        shape = training.shape_of(Config(), cell, grey(4))
        assert shape.means == (0.25,) * 16 and shape.binary == (cell.latent == "bernoulli")
        made = training.learner(shape, cell, dynamic=False)
        variables = jax.eval_shape(made.init, jax.random.key(0))
        value, _ = jax.eval_shape(made.loss, variables, jax.random.key(0), None, x, x)
        assert value.shape == () and made.log_probs is not None
        assert jax.eval_shape(made.log_probs, variables, x).shape == (2,)


@pytest.mark.parametrize(
    ("cell", "cheapest"),
    [
        (MANY._replace(samples=3), ELBO),
        (Cell("bernoulli", "vimco", 3), Cell("bernoulli", "vimco", 2)),
    ],
)
def test_first_epochs_are_by_the_cheapest_bound(cell, cheapest):
    shape = Shape(means=(0.25,) * 9, hidden=2, latent=3, binary=cell.latent == "bernoulli")
    made, own, cheap = (
        training.learner(shape, c, dynamic=True)
        for c in (cell._replace(first_epochs=2), cell, cheapest)
    )
    variables = made.init(jax.random.key(0))
    x = jnp.full((4, 9), 0.5)

    @jax.jit
    def losses(key):
        each = [made.of_epoch(1), cheap, made.of_epoch(2), own]
        return jnp.stack([one.loss(variables, key, None, x, x)[0] for one in each])

    one, other, two, another = losses(jax.random.key(1)).tolist()
    assert one == other != two == another
    # Epochs are compared by one bound.
    each: list[Any] = [made, own]
    found = [jax.jit(one.log_probs)(variables, x.round()) for one in each]
    np.testing.assert_array_equal(*found)


def test_runs_with_first_epochs_are_rows_of_their_own(tmp_path):
    config = Config(samples=(1, 2, 50), first_epochs=20)
    assert [cell.first_epochs for cell in config.cells] == [0, *[20] * 4, 0, *[20] * 2, 0, 20]
    assert config.facts()["first_epochs"] == 20
    without = dataclasses.replace(config, first_epochs=0)
    assert without.recipe == config.recipe
    names = {run.name for some in (config, without) for run in some.runs}
    assert len(names) == 3 * (10 + 7)
    first = MANY._replace(first_epochs=20)
    write(tmp_path, "first", {first: -86.0, ELBO: -88.0})
    old = json.loads((tmp_path / "vae/first/result.json").read_text())
    for run in old["runs"]:
        if not run["first_epochs"]:
            del run["first_epochs"]  # as before there were
    runs = table.by_data([old])["mnist", "dynamic"]
    assert [*runs] == [ELBO, first] and table.differences(runs) == {}
    (claim,) = (c for c in claims.claims(tmp_path) if "first 20 epochs by the ELBO" in c.text)
    assert claim.verdict == "holds" and claim.command.endswith("--samples 50 --first-epochs 20")
    many = [c for c in claims.claims(tmp_path) if c.text.startswith("pathwise, K = 50:")]
    assert [c.verdict for c in many] == ["not yet measured"]


def test_the_rate_falls_along_a_cosine():
    recipe = CosineRecipe(10, 1e-2, 1e-4, length=5)
    progress, rates = recipe.begin(), []
    for epoch in range(1, 7):
        rates.append(float(progress.learning_rate))
        losses = {"validation_loss": jnp.float32([3, 2, 4, 2, 1, 5][epoch - 1])}
        record = training_record(losses)
        progress, verdict = recipe.advance(progress, record, jnp.int32(epoch))
        assert bool(verdict.improved) == (epoch in (1, 2, 5))
    expected = 1e-4 + 0.0099 * (1 + np.cos(np.pi * np.arange(5) / 4)) / 2
    np.testing.assert_allclose(rates, [*expected, 1e-4], rtol=1e-4)
    assert recipe.last_epoch == 5 and dataclasses.replace(recipe, epochs=3).last_epoch == 3


def training_record(figures):
    from train.engine.loop import Record

    return Record(**dict.fromkeys(Record._fields, jnp.zeros(())) | figures)


# --- settings and claims --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--samples 1 --gradients vimco", "expected a gradient of these latent nodes"),
        ("--samples 0", "expected at least 1 each"),
        ("--data-dir .", "expected None for digits"),
        ("--test-samples 1", "expected at least 2"),
        ("--first-epochs 50", "expected fewer than the length"),
        ("--first-epochs 2 --samples 1", "0 where no bound has more samples"),
    ],
)
def test_bad_settings_say_what_was_wrong(words, message, tmp_path, capsys):
    assert message in refused(cli, words, tmp_path / "out", capsys)


def write(results, folder, values, settings=("mnist", "dynamic"), epochs=7):
    """A result with these log-likelihoods by cell, of three seeds."""
    runs = [
        {
            **cell._asdict(),
            "seed": seed,
            "epochs": epochs,
            "test": {"log likelihood": v + 0.01 * seed},
        }
        for cell, v in values.items()
        for seed in range(3)
    ]
    path = results / "vae" / folder / "result.json"
    path.parent.mkdir(parents=True)
    facts = dict(zip(("data", "binarisation"), settings, strict=True))
    path.write_text(json.dumps({"settings": facts, "runs": runs}))


def test_claims_count_differences(tmp_path):
    made = claims.claims(tmp_path)
    assert {claim.verdict for claim in made} == {"not yet measured"} and len(made) == 6
    five = Cell("bernoulli", "vimco", 5)
    # In two results, as several commands leave them.
    write(tmp_path, "mnist_1", {ELBO: -88.0, five: -90.0, five._replace(samples=50): -89.0})
    write(tmp_path, "mnist_50", {MANY: -87.0, five._replace(gradient="straight_through"): -89.0})
    more, elbo, _, many, doubly, vimco = claims.claims(tmp_path)
    assert more.verdict == "holds"
    assert "MNIST, dynamic: pathwise, K = 50 less ELBO +1.00 ± 0.00" in more.evidence
    assert doubly.verdict == "not yet measured"
    assert (
        vimco.verdict == "does not hold" and "less straight-through, K = 5 -1.00" in vimco.evidence
    )
    # -86.76 and -84.78 are printed.
    assert elbo.verdict == "holds" and "-1.23 ± 0.01 nats from it, after 7 epochs" in elbo.evidence
    assert many.verdict == "does not hold"
    # Of digits nothing is printed.
    write(tmp_path, "digits", {MANY: -24.0, ELBO: -24.0}, ("digits", "dynamic"))
    assert claims.claims(tmp_path)[0].verdict == "not decided"


def test_runs_of_other_lengths_are_not_compared(tmp_path):
    write(tmp_path, "mnist_1", {ELBO: -87.0})
    write(tmp_path, "mnist_50", {MANY: -90.0}, epochs=3)
    more, _, _, many, *_ = claims.claims(tmp_path)
    assert more.verdict == "not yet measured"
    assert "-5.21 ± 0.01 nats from it, after 3 epochs" in many.evidence
