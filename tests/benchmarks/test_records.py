"""Ratios as JSON has them, and tables of rows."""

import numpy as np
import pytest

from benchmarks.records import Ratio, Table, Timing

RATIO_OF = Ratio(1.05, 1.02, 1.07, 1.04)


@pytest.mark.parametrize(
    "row",
    [{"over": RATIO_OF._asdict()}, RATIO_OF.figures("over"), {"over": None}, {"other": 1.0}],
)
def test_ratios_are_read_in_every_form_that_results_have(row):
    found = Ratio.read(row, "over")
    assert found == (RATIO_OF if row.get("over") else None)


def test_older_results_have_no_ratio_of_the_fastest():
    row = {"speedup": 2.0, "speedup_low": 1.5, "speedup_high": 2.5}
    assert Ratio.read(row, "speedup") == (2, 1.5, 2.5, None)


def test_a_timing_is_a_row():
    seconds = np.array([1.0, 2.0, 3.0])
    row = Timing(2 * seconds).figures(Timing(seconds), steps=4, images=10)
    exact = {"milliseconds": 1000, "ratio": 2, "ratio_low": 2, "ratio_high": 2}
    assert row == exact | {"ratio_of_fastest": 2, "images_per_second": 2.5}


def test_a_table_shows_what_is_known():
    made = Table(
        "steps",
        "size {size} | name {name} | ms {milliseconds:.2f} | ratio (quartiles) {ratio~3} | "
        "of the fastest {ratio_of_fastest:.3f} | compile s {compile_seconds:.2f} | "
        "+temporary MB {temporary_bytes/1e6:.1f} | error {part[error]:.1f} | "
        "never measured {never~2} | twice {twice:.0f} of {part[of]:}",
        title="a title",
        more=lambda row: {**row, "twice": 2 * row["milliseconds"]},
    )
    rows = [
        {"size": [3, 4], "name": "b", "milliseconds": 1.0, "temporary_bytes": 2_000_000},
        {"size": 0.5, "name": "", "milliseconds": 20.0, **RATIO_OF.figures()},
    ]
    rows[0]["part"] = {"error": 0.5, "of": "c"}
    lines = made.told({"steps": rows}).splitlines()
    assert lines[0] == "a title"
    assert "never" not in lines[1] and "compile s" not in lines[1]
    assert "  temporary MB  " in lines[1]
    assert [line.split() for line in lines[2:]] == [
        ["[3,", "4]", "b", "1.00", "2.0", "0.5", "2", "of", "c"],
        ["0.5", "20.00", "1.050", "(1.020-1.070)", "1.040"],
    ]
    named = made.rows({"steps": rows})
    assert list(named) == ["[3, 4], b", "0.5"]
    numbers = {"milliseconds": 1.0, "temporary_bytes": 2_000_000, "part[error]": 0.5, "twice": 2}
    assert made.figures(named["[3, 4], b"]) == numbers
    assert made.figures(named["0.5"])["ratio"] == RATIO_OF
    assert made.told({}) == ""
    assert list(made._replace(names="part[of] size").rows({"steps": rows})) == ["c, [3, 4]", "0.5"]


def test_a_result_may_be_the_only_row():
    assert Table("", "hits {hits:.2f}").told({"hits": 1.0}) == "hits\n1.00"
