"""What is drawn of sweeps."""

import json
from pathlib import Path

import numpy as np
import pytest

from train import data, figure
from train.indrnn import experiment as indrnn
from train.indrnn.published import LOGS, PAPER
from train.report import sweep_figure
from train.report.figures import digest
from train.report.sweep_figure import TRAINING_IMAGES
from train.resnet import experiment as resnet


def test_updates_of_an_epoch():
    def updates(config):
        return sweep_figure.updates({"settings": config.facts()})

    assert updates(resnet.Config()) == 351  # 45,000 images in whole batches of 128
    assert updates(resnet.Config(images=4500)) == 35
    assert updates(indrnn.Config()) == 1700  # 1,781, rounded down to hundreds
    assert updates(indrnn.Config(images=6400)) == 200
    assert updates(indrnn.Config(images=100_000)) == 1700
    digits = indrnn.Config(data="digits")
    ordered = indrnn.in_order(digits, data.load("digits"))
    assert len(ordered.train_x) == TRAINING_IMAGES["digits"]
    assert updates(digits) == 42


def test_means_of_histories_end_with_the_first_run():
    runs = [{"history": {"train_error": values}} for values in ([0.4, 0.2, None], [0.6, None])]
    np.testing.assert_array_equal(sweep_figure.history(runs, "train_error"), [0.5, np.nan])


def test_published_points():
    assert {order: set(accuracies) for order, accuracies in PAPER.items()} == {
        order: {"none", "dropout", "pcff"} for order in LOGS
    }
    for log in LOGS.values():
        # The last point is of the last epoch, and the rounded test accuracy near its validation's.
        assert log.points[-1].updates == 1700 * log.epochs
        validation = log.points[-1].validation
        assert validation is not None and abs(log.test - validation) < 0.005
        # Training gets better; the first epoch's mean is over its windows.
        windows, epochs = ([p for p in log.points if p.span == span] for span in (100, 1700))
        for points in (windows, epochs):
            accuracies = [point.training for point in points]
            assert accuracies == sorted(accuracies) and len(set(accuracies)) == len(accuracies)
        assert windows[0].training < epochs[0].training < windows[-1].training


def test_of_two_logged_means_the_one_like_ours():
    log = LOGS["sequential"]
    hundreds = sweep_figure._logged(log, "train", 200, 5100)
    assert hundreds[1000] == 0.664 and hundreds[1700] == 0.742 and max(hundreds) == 5100
    assert sweep_figure._logged(log, "train", 1700, 5100)[1700] == 0.603
    validation = sweep_figure._logged(log, "validation", 200, 5100)
    assert validation == {1700: 0.777, 3400: 0.851, 5100: 0.897}


def test_shades_of_rates():
    from matplotlib import colors

    light, middle, full = (
        sweep_figure._shade("#4477aa", r, [0.5, 0.1, 1.0]) for r in (0.1, 0.5, 1)
    )
    assert full == pytest.approx(colors.to_rgb("#4477aa"))
    assert all(1 > a > b > c for a, b, c in zip(light, middle, full, strict=True))
    assert sweep_figure._shade("#4477aa", 0.3, [0.3]) == pytest.approx(full)


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_curves_and_errors_are_drawn(tmp_path, monkeypatch, suffix):
    """Of committed results; a picture says of which."""
    folder = Path(__file__).parent.parent.parent / "results"
    results = [folder / "indrnn/sequential-small/result.json"]
    errors, curves = tmp_path / f"errors.{suffix}", tmp_path / f"curves.{suffix}"
    assert figure.cli([str(results[0]), "--out", str(errors)]) == 0
    assert errors.exists() and not curves.exists()
    monkeypatch.chdir(tmp_path)
    assert figure.cli([str(results[0]), "--curves", str(curves)]) == 0
    assert (tmp_path / "figure.png").exists()
    for picture in (errors, curves):
        written = picture.read_bytes()
        assert len(written) > 5000
        assert (digest(results).encode() in written) == (suffix != "pdf")
    if suffix == "svg":
        text = curves.read_text()
        for label in ("dropout 0.1", "PCFF 0.1", "authors of IndRNN, dropout 0.1", "updates"):
            assert f"<!-- {label} -->" in text
        assert "authors of IndRNN" not in errors.read_text()


def test_no_points_beside_another_network(tmp_path):
    folder = Path(__file__).parent.parent.parent / "results"
    result = json.loads((folder / "indrnn/sequential-small/result.json").read_text())
    result["settings"]["features"] = 16
    (tmp_path / "result.json").write_text(json.dumps(result))
    sweep_figure.draw_curves([tmp_path / "result.json"], tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert "<!-- PCFF 0.1 -->" in text and "authors" not in text
