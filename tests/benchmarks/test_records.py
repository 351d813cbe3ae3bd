"""Ratios as JSON has them, and tables of rows."""

import numpy as np
import pytest

from benchmarks.records import (
    COMPILED,
    MILLISECONDS,
    RATIO,
    Figure,
    Quartiles,
    Ratio,
    Timing,
    table,
)

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
    assert str(Ratio.read(row, "speedup")) == "2.00 (1.50-2.50)"
    assert Ratio(1, 2, 3).times(2) == (2, 4, 6, None)


def test_a_timing_is_a_row():
    seconds = np.array([1.0, 2.0, 3.0])
    row = Timing(2 * seconds).figures(Timing(seconds), steps=4, images=10)
    exact = {"milliseconds": 1000, "ratio": 2, "ratio_low": 2, "ratio_high": 2}
    assert row == exact | {"ratio_of_fastest": 2, "images_per_second": 2.5}


def test_a_table_shows_what_is_known():
    made = table(
        "steps",
        *("size", "name", MILLISECONDS, RATIO, *COMPILED),
        Figure("part.error", "error (worst)", ".1f", 10.0),
        Figure("values", "values (worst)", ".1f", worst=max),
        Quartiles("never", "never measured"),
        title="steps",
    )
    rows = [
        {"size": [3, 4], "name": "b", "milliseconds": 1.0, "temporary_bytes": 2_000_000},
        {"size": 0.5, "name": "", "milliseconds": 20.0, **RATIO_OF.figures(), "values": [1, 3]},
    ]
    rows[0]["values"], rows[0]["part"] = [2.0, 2.0], {"error": 0.5}
    lines = made.told({"steps": rows}).splitlines()
    assert lines[0] == "steps"
    assert "never" not in lines[1] and "compile s" not in lines[1]
    assert [line.split() for line in lines[2:]] == [
        ["3", "x", "4", "b", "1.00", "2.0", "5.0", "2.0", "(2.0)"],
        ["0.5", "20.00", "1.05", "(1.02-1.07)", "1.04", "2.0", "(3.0)"],
    ]
    assert len({len(line) for line in lines[1:]}) == 1
    assert list(made.rows({"steps": rows})) == ["3 x 4, b", "0.5"]
    assert made.told({}) == ""


def test_a_result_may_be_the_only_row():
    made = table("", Figure("hits", "hits"))
    assert made.told({"hits": 1.0}) == "hits\n1.00"
