"""The benchmarks' command line: what it refuses, what it writes, and when."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command
from benchmarks.records import Ratio, Table

FOLDER = Path(command.__file__).parent
PROGRAMS = [p.stem for p in FOLDER.glob("*.py") if "\nOPTIONS = command" in p.read_text()]
TABLES = [Table("rows", "name {name} | ms {milliseconds:.2f} | ratio (quartiles) {ratio~2}")]
FORM = {"help": "which", "choices": ("a", "b")}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """In place of the repository's results."""
    monkeypatch.setattr(command, "FOLDER", tmp_path / "results")
    return command.FOLDER


def read(monkeypatch, *words, **options):
    monkeypatch.setattr(sys, "argv", ["/somewhere/made_up.py", *words])
    chosen = command.read("__main__", "Does it write?", command.FOLDER, **options)
    assert chosen is not None
    return chosen


def figures(slowness):
    ratio = Ratio(slowness, 0.99 * slowness, 1.01 * slowness, slowness)
    return {"rows": [{"name": "one", "milliseconds": 1.0, **ratio.figures()}]}


def test_figures_are_written_with_their_origin(monkeypatch, tmp_path, capsys):
    path = tmp_path / "deep" / "made_up.json"
    words = ("--quick", "--form", "b", "--python", "/x/python", "--output", str(path))
    options = read(monkeypatch, *words, form=FORM, python={"help": "a path", "required": True})

    def measure(quick, form, python):
        return figures(2.0) | {"quick": quick, "form": form, "python": python}

    result = command.run(options, measure, TABLES, lambda result: [f"form {result['form']}"])
    assert (result["quick"], result["form"], result["python"]) == (True, "b", "/x/python")
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert result["command"].startswith("python -m benchmarks.made_up --quick --form b --python ")
    assert "/x/python" not in result["command"]
    assert "matrix product precision" in result["machine"]
    out = capsys.readouterr().out
    assert "one   1.00   2.00 (1.98-2.02)\n\nform b" in out
    (line,) = (path.parent / "history" / "made_up.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["options"] == "--quick --form b"  # what changes the figures
    assert record["rows"] == {"rows: one": {"milliseconds": 1, "ratio": [2, 1.98, 2.02, 2]}}


def test_runs_are_compared_with_the_last_of_the_same_options(monkeypatch, folder, capsys):
    def run(slowness, *words):
        options = read(monkeypatch, *words, form=FORM)
        command.run(options, lambda quick, form: figures(slowness), TABLES)
        return capsys.readouterr().out

    path = folder / "history" / "made_up.jsonl"
    assert "No earlier run of these options on this kind of machine (" in run(1.0)
    assert "No earlier run" in run(2.0, "--form", "b")
    path.write_text(path.read_text() + "half a li")
    out = run(2.0, "--no-write")
    assert "SLOWER  rows: one: ratio 2.000 (1.980-2.020), was 1.000 (0.990-1.010)" in out
    assert f"{path}, line 3 is no record" in out
    # That was not added; the newest result is the last that was written, of any options.
    assert "0 of 1 ratios slower beyond noise, 0 faster" in run(1.0)
    assert json.loads((folder / "made_up.json").read_text())["rows"][0]["ratio"] == 1
    # Beside another output, and compared with the repository's own.
    other = folder.parent / "other" / "part.json"
    assert "SLOWER" in run(1.5, "--output", str(other))
    assert len((other.parent / "history" / "part.jsonl").read_text().splitlines()) == 1


def test_figures_so_far_are_written_and_left_behind(monkeypatch, folder):
    def measure(quick):
        assert not folder.exists()
        yield {"rows": [1]}
        assert json.loads((folder / "made_up.json").read_text())["rows"] == [1]
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError, match="cut short"):
        command.run(read(monkeypatch), measure, TABLES)
    assert json.loads((folder / "made_up.json").read_text())["rows"] == [1]
    assert [p.name for p in folder.iterdir()] == ["made_up.json"]


def test_a_folder_that_cannot_be_written_is_refused_before_measuring(monkeypatch, folder):
    folder.write_text("not a folder")
    options = read(monkeypatch, "--output", str(folder / "made_up.json"))
    with pytest.raises(SystemExit, match="error: .*results: results cannot be written there"):
        command.run(options, lambda quick: pytest.fail("measured"), TABLES)


def test_nothing_is_written_if_asked(monkeypatch, tmp_path):
    result = command.run(read(monkeypatch, "--no-write"), lambda quick: figures(1.0), TABLES)
    assert result["rows"] and not [*tmp_path.iterdir()]


def test_numbers_are_options_and_modules_that_are_imported_read_none(monkeypatch):
    rounds = {"help": "of the generator", "type": int, "nargs": "+", "default": [20, 13]}
    options = read(monkeypatch, "--rounds", "7", rounds=rounds)
    assert options.others == {"rounds": [7]} and options.kind == "--rounds 7"
    assert read(monkeypatch, rounds=rounds).others == {"rounds": [20, 13]}
    assert command.read("benchmarks.made_up", None) is None


REFUSED = """
import contextlib, io, re, runpy, sys, time
for name in sys.argv[1:]:
    for word in ("--quik", "--help"):
        sys.argv, text = ["", word], io.StringIO()
        try:
            with contextlib.redirect_stderr(text), contextlib.redirect_stdout(text):
                runpy.run_module("benchmarks." + name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            example = re.search(rf"\\n    .*python -m benchmarks.{name}\\b", text.getvalue())
            helped = word == "--quik" or bool(example and "(default: " in text.getvalue())
            print(name, end.code, "jax" in sys.modules, time.process_time() < 2, helped)
"""


def test_every_benchmark_refuses_mistyped_options_without_jax_and_helps():
    assert len(PROGRAMS) == 20
    call = [sys.executable, "-c", REFUSED, *PROGRAMS]
    done = subprocess.run(call, capture_output=True, text=True, cwd=FOLDER.parent, check=True)
    expected = [f"{name} {code} False True True" for name in PROGRAMS for code in (2, 0)]
    assert done.stdout.splitlines() == expected
