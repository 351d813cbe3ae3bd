"""One command draws the figure of every experiment, from its results."""

import json
import pathlib

import pytest

from tests.train.test_tables import BAD, result
from train import figure
from train.dense import figure as dense_figure

RESULTS = pathlib.Path(__file__).parents[2] / "results"


def test_the_figure_names_every_regulariser(tmp_path):
    """Also one that the first node family was not trained with."""
    made = result([0.01, 0.02])
    made["runs"][1] |= {"nodes": "relu", "regulariser": "both"}
    (tmp_path / "a.json").write_text(json.dumps(made))
    dense_figure.draw([tmp_path / "a.json"], tmp_path / "figure.svg")
    # Matplotlib draws text as paths, and writes the text beside them.
    drawn = (tmp_path / "figure.svg").read_text()
    assert "<!-- PCFF -->" in drawn and "<!-- dropout + PCFF -->" in drawn
    assert "<!-- none -->" not in drawn


@pytest.mark.parametrize("errors", [[0.01, 0.03], [0.01], [None, 0.02], [None, None]])
def test_the_figure_draws_whatever_there_is(tmp_path, errors):
    other = result(errors) | {"settings": {"data": "fashion_mnist"}}
    (tmp_path / "a.json").write_text(json.dumps(result(errors)))
    (tmp_path / "b.json").write_text(json.dumps(other))
    dense_figure.draw([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dense/mnist/seed0", "<!-- Fashion-MNIST -->"),
        ("resnet/cifar10-small", "<!-- PCFF -->"),
        ("gradient_variance/mnist", "<!-- MNIST, dense: trained posterior -->"),
        ("observation_density/boston", "<!-- trained by moments -->"),
    ],
)
def test_the_drawing_is_found_by_the_experiment(tmp_path, name, text):
    files = [str(RESULTS / name / "result.json")]
    if name.startswith("dense"):
        files.append(str(RESULTS / "dense/fashion_mnist/seed0/result.json"))
    out = tmp_path / "figure.svg"
    assert figure.cli([*files, "--out", str(out)]) == 0
    assert text in out.read_text() and "SHA-256 of the results" in out.read_text()


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_result_is_named(tmp_path, content, capsys):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    assert figure.cli([str(path), "--out", str(tmp_path / "figure.svg")]) == 1
    assert "other.json" in capsys.readouterr().err
    assert not (tmp_path / "figure.svg").exists()


def test_an_emptied_result_is_named(tmp_path, capsys):
    made = json.loads((RESULTS / "dense/mnist/seed0/result.json").read_text()) | {"runs": []}
    (tmp_path / "empty.json").write_text(json.dumps(made))
    assert figure.cli([str(tmp_path / "empty.json")]) == 1
    assert "empty.json is no result of an experiment with runs" in capsys.readouterr().err


@pytest.mark.parametrize("models", [None, {}, {"moments": {}}])
def test_a_result_without_what_is_drawn_is_named(tmp_path, models, capsys):
    known = json.loads((RESULTS / "observation_density/boston/result.json").read_text())
    made = {name: value for name, value in known.items() if name != "models"}
    (tmp_path / "part.json").write_text(
        json.dumps(made if models is None else made | {"models": models})
    )
    assert figure.cli([str(tmp_path / "part.json"), "--out", str(tmp_path / "x.svg")]) == 1
    assert "part.json: " in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said(tmp_path, capsys):
    def error(*words: str) -> str:
        assert figure.cli([*words, "--out", str(tmp_path / "figure.svg")]) == 1
        return capsys.readouterr().err

    dense, density, regression = (
        str(RESULTS / name)
        for name in (
            "dense/mnist/seed0/result.json",
            "observation_density/boston/result.json",
            "uci/boston/pcff-heteroscedastic.json",
        )
    )
    assert "is of 'regression on UCI tables', which has no figure" in error(regression)
    assert "are drawn in other ways" in error(dense, density)
    assert "has no learning curves" in error(dense, "--curves", str(tmp_path / "curves.svg"))
    assert "give one file" in error(density, density)
    assert "missing.json" in error(str(tmp_path / "missing.json"))
    assert figure.cli([]) == 1 and "no results" in capsys.readouterr().err
    assert figure.cli([dense, "--out", str(tmp_path / "figure.odd")]) == 1
    assert "odd" in capsys.readouterr().err


def test_a_picture_is_whole_or_absent_and_the_same_each_time(tmp_path, capsys):
    path = str(RESULTS / "resnet/cifar10-small/result.json")
    made = []
    for name in ("one.svg", "two.svg"):
        assert figure.cli([path, "--out", str(tmp_path / name)]) == 0
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    (tmp_path / "file").write_text("")
    assert figure.cli([path, "--out", str(tmp_path / "file" / "figure.svg")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "one.svg", "two.svg"]
