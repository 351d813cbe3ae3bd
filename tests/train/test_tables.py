"""What is said about results: means, paired differences, tables; and files that are no results."""

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from train.report import tables as report
from train.report.files import DataFileError
from train.report.statistics import Mean

ROOT = pathlib.Path(__file__).parents[2]


def result(errors):
    """A made-up result of one (nodes, regulariser)."""
    figures = [
        None if e is None else {"error": e, "nll": 10 * e, "ece": e / 2, "brier": e} for e in errors
    ]
    return {
        "settings": {"data": "mnist"},
        "runs": [
            {
                "nodes": "tanh",
                "regulariser": "pcff",
                "seed": i,
                "epochs": 3,
                "test": figure,
                "monte carlo": None,
            }
            for i, figure in enumerate(figures)
        ],
    }


def test_means_and_standard_errors_by_hand():
    runs = result([0.01, 0.03, None])["runs"]
    found = report.over_seeds(runs, "test", "error")
    # Variance of (1, 3): 2; standard error of the mean of two: sqrt(2 / 2) = 1.
    assert found.number == 2
    np.testing.assert_allclose((found.value, found.standard_error), (0.02, 0.01))
    assert np.isnan(report.over_seeds(runs[:1], "test", "error").standard_error)
    assert report.over_seeds(runs[2:], "test", "error").number == 0


def test_seeds_that_were_trained_apart_are_put_together():
    first, second = result([0.01]), result([0.03])
    second["runs"][0]["seed"] = 7
    (whole,) = report.merged([first, second])
    assert [run["seed"] for run in whole["runs"]] == [0, 7]
    assert len(first["runs"]) == 1
    line = report.markdown([first, second]).splitlines()[-1]
    assert line == (
        "| mnist | tanh | pcff | 2.00 ± 1.00 | 0.2000 ± 0.1000 | 1.00 ± 0.50 | - | - | - | 2 |"
    )
    with pytest.raises(ValueError, match="the same run"):
        report.merged([first, first])
    with pytest.raises(ValueError, match="differ in the setting 'hidden'"):
        report.merged([first | {"settings": {"data": "mnist", "hidden": 3}}, second])
    # The last epoch may have been moved; its runs tell their status.
    ended = {"settings": first["settings"] | {"recipe": {"epochs": 9, "batch_size": 32}}}
    open_end = {"settings": first["settings"] | {"recipe": {"epochs": None, "batch_size": 32}}}
    assert len(report.merged([first | ended, second | open_end])) == 1
    other = {"settings": first["settings"] | {"recipe": {"epochs": None, "batch_size": 64}}}
    with pytest.raises(ValueError, match="differ in the setting 'recipe'"):
        report.merged([first | ended, second | other])


def shown(result, capsys) -> str:
    """What `make train` ends with."""
    Console(width=120).print(*report.tables(result))
    return capsys.readouterr().out


def against_none(seeds, **errors):
    """A result of tanh nodes with each regulariser, and errors of so many percent, by seed."""
    made = result([None] * seeds)
    given = {"none": [2.0 + 0.5 * seed for seed in range(seeds)], **errors}
    made["runs"] = [
        made["runs"][seed]
        | {"regulariser": name, "test": {"error": error / 100, "nll": 1.0, "ece": 0.1}}
        for name, of_seeds in given.items()
        for seed, error in enumerate(of_seeds)
    ]
    return made


def test_the_table_ends_with_paired_differences_and_what_they_mean(capsys):
    # Seeds differ by far more than what the regularisers change of each.
    made = against_none(3, pcff=[1.5, 1.98, 2.52], dropout=[2.1, 2.3, 3.2])
    assert report.differences(made)["PCFF (tanh)"].told(2, signed=True) == "-0.50 ± 0.01"
    lines = [" ".join(line.split()) for line in shown(made, capsys).splitlines()]
    # Student's t of two degrees of freedom: 4.303 standard errors.
    assert "PCFF (tanh) -0.50 ± 0.01 -0.55 to -0.45 3" in lines
    assert "dropout (tanh) +0.03 ± 0.12 -0.48 to +0.55 3" in lines
    assert lines[-2:] == [
        "Compared with none, the test error is lower by 0.50 points with PCFF (tanh). No other "
        "difference counts: its 95 %",
        "interval holds 0.",
    ]
    made = against_none(3, dropout=[2.1, 2.3, 3.2])
    assert shown(made, capsys).splitlines()[-1] == (
        "No difference counts: each one's 95 % interval holds 0."
    )
    made = against_none(3, dropout=[3.0, 3.52, 3.98])
    assert shown(made, capsys).splitlines()[-1] == (
        "Compared with none, the test error is higher by 1.00 points with dropout (tanh)."
    )


def test_one_seed_decides_nothing(capsys):
    text = shown(against_none(1, pcff=[1.0]), capsys)
    assert text.endswith("With one seed nothing can be decided, whatever the differences.\n")
    assert [" ".join(line.split()) for line in text.splitlines()].count(
        "PCFF (tanh) -1.00 - 1"
    ) == 1


def test_without_none_there_is_nothing_to_compare(capsys):
    text = shown(result([0.01, 0.02]), capsys)
    assert text.splitlines()[-1].startswith("There are no runs with and without a regulariser")


def test_differences_of_a_sweep_are_told_by_rate():
    made = report.merged(report.read_all(ROOT / "results" / "indrnn" / "permuted-small"))[0]
    found = report.differences(made)
    assert list(found) == ["dropout 0.1", "PCFF 0.1"]
    assert found["PCFF 0.1"].number == 1 and found["PCFF 0.1"].sign == 0


@pytest.mark.parametrize(
    ("values", "sign"),
    [([1.0, 1.2, 1.1], 1), ([-1.0, -1.2, -1.1], -1), ([1.0, -0.2, 0.9], 0), ([1.0], 0), ([], 0)],
)
def test_a_difference_counts_when_its_interval_leaves_out_0(values, sign):
    from scipy import stats

    found = report.mean(values)
    assert found.sign == sign
    if len(values) > 1:
        test: Any = stats.ttest_1samp(values, 0)
        np.testing.assert_allclose(found.interval, test.confidence_interval(0.95), rtol=1e-12)
        assert bool(sign) == (test.pvalue < 0.05)


def test_figures_of_many_sizes_are_told_by_digits():
    assert Mean(0.00123, 0.000456, 16).told(2, style="g") == "0.0012 ± 0.00046"


BAD = [
    b"",
    b"{",
    b"[1]",
    b"\xff",
    b"{}",
    b'{"settings": {"data": "mnist"}, "runs": []}',
    b'{"settings": {"data": "mnist"}, "runs": [{}]}',
    b'{"settings": {"data": "mnist"}, "runs": 3}',
]


@pytest.mark.parametrize("content", BAD)
def test_a_file_that_is_no_result_is_named(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="result.json is no result of an experiment"):
        report.read(path)
    with pytest.raises(DataFileError, match="missing.json"):
        report.read(tmp_path / "missing.json")


def test_the_tables_command_names_a_bad_file(tmp_path):
    whole = (ROOT / "results/dense/mnist/seed0/result.json").read_bytes()
    (tmp_path / "result.json").write_bytes(whole[: len(whole) // 2])
    run = subprocess.run(
        [sys.executable, "-m", "train.report", str(tmp_path / "result.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(f"error: {tmp_path}/result.json is no result")
    assert "Traceback" not in run.stderr
