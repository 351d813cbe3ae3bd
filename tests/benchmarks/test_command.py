"""The benchmarks' command line: what it writes, and when."""

import json
import sys

import pytest

from benchmarks import command


def run(monkeypatch, measure, *arguments, **options):
    shown = []
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    command.run("made_up", "Does it write?", measure, shown.append, **options)
    (result,) = shown
    return result


def test_figures_are_written_with_their_origin(monkeypatch, tmp_path):
    path = tmp_path / "deep" / "made_up.json"
    result = run(
        monkeypatch,
        lambda quick, form: {"quick": quick, "form": form},
        *("--quick", "--form", "b", "--output", str(path)),
        choices={"form": ("a", "b")},
    )
    assert (result["quick"], result["form"]) == (True, "b")
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert result["command"].startswith("python -m benchmarks.made_up --quick --form b")
    assert "matrix product precision" in result["machine"]


def test_figures_so_far_are_written_and_left_behind(monkeypatch, tmp_path):
    path = tmp_path / "made_up.json"

    def measure(quick):
        assert not path.exists()
        yield {"rows": [1]}
        assert json.loads(path.read_text())["rows"] == [1]
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError, match="cut short"):
        run(monkeypatch, measure, "--output", str(path))
    assert json.loads(path.read_text())["rows"] == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["made_up.json"]


def test_nothing_is_written_if_asked(monkeypatch, tmp_path):
    path = tmp_path / "made_up.json"
    result = run(monkeypatch, lambda quick: {"rows": []}, "--no-write", "--output", str(path))
    assert result["rows"] == [] and not path.exists()
