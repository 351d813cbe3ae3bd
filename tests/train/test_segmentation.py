"""Noisy pictures: what is trained, what the command leaves behind, and what it says of claims."""

import json

import numpy as np
import pytest

from tests.train.made_up import left_behind, refused
from train import data
from train.segmentation import claims, figure
from train.segmentation.__main__ import cli
from train.segmentation.settings import Config
from train.segmentation.training import Images, images_of, train

SHORT = "--seeds 0 1 --images 64 --epochs 3 --batch-size 16 --iterations 2 --rows 4 --kept 2 --out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("segmentation")
    assert cli([*SHORT.split(), str(out)]) == 0
    return out


def test_the_command_leaves_a_result_and_a_figure(finished):
    result = left_behind(finished)
    assert result["sizes"] == {
        "training images": 64,
        "test images": 64,
        "height": 4,
        "width": 8,
    }
    models = result["models"]
    assert list(models) == ["unary", "mean_field", "belief_propagation", "exact"]
    for found in models.values():
        assert set(found["error"]) == set(found["nll"]) == {"0", "1"}
        assert all(0.05 < error < 0.45 for error in found["error"].values())
        assert np.shape(found["white"]) == (2, 4, 8)
    assert np.abs(models["unary"]["couplings"]).max() == 0
    assert np.abs(models["belief_propagation"]["couplings"]).max() > 0.01
    # With these weak couplings belief propagation is as good as exact, and mean field is not.
    exact, near = models["exact"]["white"], models["belief_propagation"]["white"]
    assert models["exact"]["couplings"] == models["belief_propagation"]["couplings"]
    assert np.abs(np.subtract(exact, near)).max() < 0.005
    table = figure.errors(result)
    assert [line[0] for line in table.lines] == [figure.NAMES[name] for name in models]


def test_another_result_is_not_overwritten(finished, capsys):
    before = (finished / "result.json").read_bytes()
    assert cli([*SHORT.replace("--batch-size 16", "--batch-size 8").split(), str(finished)]) == 1
    assert "batch_size: 16 there, 8 now" in capsys.readouterr().err
    assert (finished / "result.json").read_bytes() == before


def test_noise_flips_the_share_that_is_asked_for():
    config = Config(seeds=(0, 1), flipped=0.2)
    training, testing = images_of(config, data.load("digits"))
    for images in (training, testing):
        flips = images.true != images.noisy
        assert abs(flips.mean() - 0.2) < 5 * 0.4 / flips.size**0.5
        assert (flips[0] != flips[1]).any()  # each seed has noise of its own
        np.testing.assert_array_equal(images.true[0], images.true[1])


def test_learning_finds_that_neighbours_are_alike():
    """Stripes four pixels wide: rows are alike, so labels below each other attract."""
    white = np.tile((np.arange(8) // 4 % 2).astype(np.uint8), (64, 4, 1))
    flips = np.random.default_rng(0).random(white.shape) < 0.3
    images = Images(white[None], (white ^ flips.astype(np.uint8))[None])
    config = Config(seeds=(0,), epochs=30, batch_size=16, iterations=2, models=("mean_field",))
    down, right = np.asarray(train(config, "mean_field", images).couplings[0])
    for couplings in (down, right):
        assert couplings[0, 0] + couplings[1, 1] > couplings[0, 1] + couplings[1, 0] + 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--flipped 0.5", "flipped is 0.5; expected below 0.5"),
        ("--models exact", "expected belief_propagation beside exact"),
        ("--data-dir .", "expected None for digits"),
        ("--rows 9", "rows is 9; expected at most 8"),
    ],
)
def test_bad_settings_say_what_was_wrong(words, message, tmp_path, capsys):
    assert message in refused(cli, words, tmp_path / "out", capsys)


def test_claims_count_differences(tmp_path):
    assert {claim.verdict for claim in claims.claims(tmp_path)} == {"not yet measured"}
    path = tmp_path / "segmentation" / "digits" / "result.json"
    path.parent.mkdir(parents=True)
    seeds = {str(seed): 0.1 + 0.01 * seed for seed in range(3)}
    better = {seed: value - 0.02 - 0.001 * value for seed, value in seeds.items()}
    models = {
        "unary": {"error": seeds, "nll": seeds},
        "mean_field": {"error": better, "nll": better},
        "belief_propagation": {"error": better, "nll": better},
    }
    result = {"settings": {"data": "digits"}, "sizes": {"height": 8}, "models": models}
    path.write_text(json.dumps(result))
    beneficial, matters = claims.claims(tmp_path)
    assert beneficial.verdict == "holds" and "digits of 8 rows -2.01 ± 0.00" in beneficial.evidence
    assert matters.verdict == "not decided"
