"""Generators and critics: figures against what is known, and what the command leaves behind."""

import json
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import cgjax as cg
from tests.train.made_up import left_behind, refused
from train import data
from train.gan import claims, figure, training
from train.gan.__main__ import cli
from train.gan.scores import Judge, frechet_distance, of_ring
from train.gan.settings import Config, Divergence
from train.gan.training import CENTRES, DEVIATION
from train.models import adversarial
from train.models.adversarial import Sizes
from train.report.pixels import decoded

SHORT = "--seeds 0 1 --updates 8 --batch-size 16 --hidden 8 --samples 100 --kept 50"


def test_modes_of_true_points_are_covered():
    noise = DEVIATION * np.random.default_rng(0).normal(size=(4000, 2))
    points = CENTRES[np.arange(4000) % 8] + noise
    found = of_ring(points)
    assert found["modes"] == 8
    share = 1 - np.exp(-4.5)  # of a Gaussian in the plane, within three deviations
    assert abs(found["within"] - share) < 5 * (share * (1 - share) / 4000) ** 0.5
    assert found["least"] > 0.95
    some = np.where((np.arange(4000) % 8 < 6)[:, None], points, CENTRES[0])
    assert of_ring(some)["modes"] == 6 and of_ring(some)["least"] == 0
    assert of_ring(points + [10 * DEVIATION, 0])["within"] < 0.01


def test_distances_of_laws():
    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=(5, 5)) for _ in range(2))
    one, other = ((a[0], a @ a.T), (b[0], b @ b.T))
    root: Any = linalg.sqrtm(one[1] @ other[1])
    expected = ((a[0] - b[0]) ** 2).sum() + np.trace(one[1] + other[1] - 2 * root.real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-8)
    x, y = (generator.normal(size=(n, 3)).astype(np.float32) for n in (30, 20))
    y += 1
    between, of_x, of_y = (
        np.linalg.norm(p[:, None] - q, axis=-1) for p, q in ((x, y), (x, x), (y, y))
    )
    expected = 2 * between.mean() - of_x.sum() / (30 * 29) - of_y.sum() / (20 * 19)
    found = training.energy_distance(jnp.asarray(x), jnp.asarray(y))
    assert float(found) == pytest.approx(expected, abs=1e-3)


def test_the_penalty_is_the_squared_slope():
    kernel = jnp.array([[3.0], [4.0]])
    x = jax.random.normal(jax.random.key(0), (5, 2))
    found = training.squared_slope(lambda x: (x @ kernel)[:, 0], x)
    np.testing.assert_allclose(found, 25, rtol=1e-6)


def test_both_networks_learn_from_one_gradient():
    """Each by its own loss, and the critic's penalty, at rates of their own."""
    sizes = Sizes(latent=2, hidden=4, features=2, bounded=False)
    recipe = training.Recipe(3.0, 0.1, 0.5, 0.9, steps=100, batch_size=16)
    learner = training.learner_of("wasserstein", sizes, recipe)
    variables = learner.init(jax.random.key(0))
    rows = jnp.arange(16.0)[:, None] % 8

    @jax.jit
    def losses(weights):
        def loss(weights):
            changed = variables._replace(params=weights)
            return learner.loss(changed, jax.random.key(1), (), rows, rows)

        return jax.value_and_grad(loss, has_aux=True)(weights)

    (before, (_, state)), slopes = losses(variables.params)
    # Of this divergence the generator's loss is -E[v].
    *below, last = variables.params.critic
    raised = (*below, last._replace(bias=last.bias + 1))
    (after, _), _ = losses(variables.params._replace(critic=raised))
    # The critic's loss does not change with a constant, the generator's falls by it.
    assert float(after - before) == pytest.approx(-1, abs=1e-5)
    assert slopes.critic[-1].bias == pytest.approx(0, abs=1e-6)
    assert all(float(jnp.abs(layer.kernel).max()) > 0 for side in slopes for layer in side)
    optimiser = training.optimiser(3.0)
    update: Any = optimiser.update(slopes, optimiser.init(variables.params))[0]
    assert np.abs(update.critic[0].kernel).max() == pytest.approx(3, rel=1e-3)
    assert np.abs(update.generator[0].kernel).max() == pytest.approx(1, rel=1e-3)
    assert int(state.step) == 1


def test_the_average_follows_the_generator():
    sizes = Sizes(latent=2, hidden=4, features=2, bounded=False)
    learner = training.learner_of("gan", sizes, training.Recipe(1.0, 0.0, 0.0, 0.75, 10, 16))
    variables = learner.init(jax.random.key(0))
    moved = jax.tree.map(lambda a: a + 1, variables.params)
    rows = jnp.zeros((16, 1))
    args = variables._replace(params=moved), jax.random.key(0), (), rows, rows
    average = learner.loss(*args)[1][1].average
    start = variables.params.generator[0].kernel
    np.testing.assert_allclose(average[0].kernel, start + 0.25, rtol=1e-5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("gan")
    words = [*SHORT.split(), "--divergences", "gan", "--length", "3"]
    assert cli([*words, "--out", str(out / "ring")]) == 0
    assert cli([*words, "--data", "digits", "--out", str(out / "digits")]) == 0
    return out


def test_the_command_leaves_a_ring(finished):
    result = left_behind(finished / "ring")
    first, second = result["runs"]
    assert first["epochs"] == first["best epoch"] == 3
    assert np.shape(first["samples"]) == (50, 2) and "samples" not in second
    assert set(first["test"]) == {"modes", "within", "least", "distance"}
    (line,) = figure.table(result).lines
    assert line[0] == "GAN" and line[-2:] == ["0", "2"]


def test_the_command_leaves_digits(finished):
    result = left_behind(finished / "digits")
    (picture,) = result["runs"][0]["samples"]
    assert decoded(picture).shape == (8, 8)
    real, made = result["runs"][0]["real"], result["runs"][0]["test"]
    assert real["classes"] == 10 and real["error"] < 0.1 and real["entropy"] > 2.25
    assert made["frechet"] > 10 * real["frechet"] and made["entropy"] < real["entropy"]
    assert figure.table(result).lines[-1][0] == "test images"


def test_a_judge_sees_what_is_missing():
    dataset = data.load("digits")
    judge = Judge.of(dataset, 0)
    images = dataset.train_x[dataset.train_y < 5] / dataset.largest
    found = judge.scores(images.astype(np.float32))
    assert found["classes"] == 5 and abs(found["entropy"] - np.log(5)) < 0.05


def test_generated_images_are_bounded():
    sizes = Sizes(latent=2, hidden=32, features=6, bounded=True)
    weights = adversarial.initial(jax.random.key(0), sizes)
    made = training.generated(sizes, 20, weights.generator, jax.random.key(1))
    assert made.shape == (20, 6) and 0 < made.min() < made.max() < 1
    assert len(np.unique(made, axis=0)) == 20


def test_every_divergence_is_a_setting():
    with pytest.raises(ValueError, match=f"is one of {', '.join(get_args(Divergence))}; got"):
        cg.adversarial(lambda: jnp.zeros(2), lambda x: x.sum(), "other")  # pyright: ignore


def test_runs_side_by_side_are_a_program_for_each_divergence():
    config = Config(seeds=(0, 1), mode="vmap", divergences=("gan", "kl"))
    made = training.groups(config, training.dataset_of(config, None))
    assert [group.runs for group in made] == [("gan 0", "gan 1"), ("kl 0", "kl 1")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data-dir .", "expected None for ring, which is drawn"),
        ("--critic-rate 0", "critic_rate is 0.0; expected more than 0"),
    ],
)
def test_bad_settings_say_what_was_wrong(words, message, tmp_path, capsys):
    assert message in refused(cli, words, tmp_path / "out", capsys)


def test_claims_count_modes_and_shares(tmp_path):
    assert {claim.verdict for claim in claims.expected(tmp_path)} == {"not yet measured"}
    levels = {"gan": (8, 0.85, 0.2), "non_saturating": (8, 0.95, 0.1), "pearson": (7, 0.5, 0.9)}
    runs = [
        {"divergence": name, "seed": seed}
        | {"test": {"modes": modes, "within": within + 0.001 * seed, "distance": far}}
        for name, (modes, within, far) in levels.items()
        for seed in range(3)
    ]
    runs[-1]["test"] = None  # never was a number
    path = tmp_path / "gan" / "ring" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"runs": runs}))
    found = claims.expected(tmp_path)
    assert [claim.verdict for claim in found] == [
        *("holds", "does not hold", "holds", "does not hold", "holds")
    ]
    assert "Pearson 0 of 3 runs" in found[0].evidence
