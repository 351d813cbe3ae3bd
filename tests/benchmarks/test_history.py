"""A benchmark's history: what a new run is compared with, what is told, and damaged files."""

import json
import pathlib
import re

import pytest

from benchmarks import history
from benchmarks.records import Ratio, Table

TABLES = [
    Table("steps", "network {network} | {rate} | ms {milliseconds:.2f} | ratio {ratio~2}"),
    Table("speeds", "name {name} | {images_per_second:.0f} | gain {gain~2}", ("gain",)),
]
MACHINE = {"device kind": "CPU A", "threads": 2} | dict.fromkeys(history.VERSIONS, "0.10")


def recorded(ratio, *, gain=None, options="", milliseconds=2.0, date="2026-01-02", machine=None):
    gain = gain or Ratio(3, 2.9, 3.1, 3)
    step = {"network": "dense", "rate": 0.5, "milliseconds": milliseconds, **ratio.figures()}
    result = {
        "command": "python -m benchmarks.made_up",
        "commit": "0123456789abcdef",
        "machine": MACHINE | (machine or {}),
        "steps": [step],
        "speeds": [{"name": "one", "images_per_second": 100.0, "gain": gain._asdict()}],
    }
    return history.record("made_up", options, TABLES, result, date)


BEFORE = recorded(Ratio(2, 1.9, 2.1, 2))


def told(now, before=BEFORE):
    return history.compared(TABLES, before, now)


def test_a_record_holds_medians_and_quartiles_by_row():
    rows = recorded(Ratio(2.00004, 1.9, 2.1, None))["rows"]
    assert rows["steps: dense, 0.5"] == {"milliseconds": 2, "ratio": [2, 1.9, 2.1, None]}
    assert rows["speeds: one"] == {"images_per_second": 100, "gain": [3, 2.9, 3.1, 3]}


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Ratio(2, 1.9, 2.1, 2), None),
        (Ratio(2.5, 2.09, 2.6, 2), None),  # quartiles overlap
        (Ratio(2.09, 2.105, 2.2, 2), None),  # within the margin
        (Ratio(2.2, 2.11, 2.3, 2), "SLOWER"),
        (Ratio(1.8, 1.7, 1.89, 2), "faster"),
    ],
)
def test_a_row_is_slower_beyond_quartiles_and_margin(ratio, verdict):
    lines = told(recorded(ratio))
    found = [line for line in lines if "SLOWER" in line or "faster  " in line]
    assert len(found) == (verdict is not None)
    if verdict:
        assert re.match(f"  {verdict}  steps: dense, 0.5: ratio .*, was 2.000", found[0])
    counts = f"{verdict == 'SLOWER':d} of 2 ratios slower beyond noise, {verdict == 'faster':d} f"
    assert any(counts in line for line in lines)


def test_speeds_are_worse_if_smaller_and_those_slower_come_first():
    lines = told(recorded(Ratio(1.5, 1.4, 1.6, 1.5), gain=Ratio(2, 1.9, 2.1, 2)))
    assert lines[1].startswith("  SLOWER  speeds: one: gain 2.000")
    assert lines[2].startswith("  faster  steps: dense, 0.5")


def test_seconds_and_versions_are_told_and_not_judged():
    lines = told(recorded(Ratio(2, 1.9, 2.1, 2), milliseconds=20.0, machine={"jax": "0.11"}))
    assert "2026-01-02, commit 0123456789ab, jax 0.10 -> 0.11" in lines[0]
    assert lines[1].startswith("  0 of 2 ratios slower")
    # Of 10 and 1: times that depend on the day.
    assert "5.50 (3.25-7.75) of the last run's" in lines[2]


def test_rows_that_are_new_or_gone_are_not_compared():
    before = recorded(Ratio(2, 1.9, 2.1, 2))
    del before["rows"]["steps: dense, 0.5"]
    assert "0 of 1 ratios" in told(recorded(Ratio(9, 8, 10, 9)), before)[1]


def test_the_last_run_is_of_the_same_machine_options_and_threads():
    now = recorded(Ratio(2, 1.9, 2.1, 2), date="2026-03-01")
    others = [
        recorded(Ratio(1, 1, 1, 1), machine={"device kind": "CPU B"}),
        recorded(Ratio(1, 1, 1, 1), machine={"threads": 1}),
        recorded(Ratio(1, 1, 1, 1), options="--quick"),
        recorded(Ratio(1, 1, 1, 1)) | {"benchmark": "another"},
    ]
    assert history.last([], now) is None
    assert history.last(others, now) is None
    own = [recorded(Ratio(1, 1, 1, 1), date=f"2026-0{month}-01") for month in (1, 2, 1)]
    assert history.last([*others, *own], now) is own[1]


def test_a_file_keeps_what_it_had_and_corrupt_lines_are_named(tmp_path):
    path = tmp_path / "new" / "made_up.jsonl"
    assert history.read(path) == ([], [])
    history.append(path, BEFORE)
    whole = path.read_bytes()
    # As a process leaves it that was killed while it wrote, and as an editor may.
    path.write_bytes(b"{}\n" + whole + b'\xff\n\n["x"]\n' + whole[:50])
    history.append(path, BEFORE)
    records, wrong = history.read(path)
    assert records == [json.loads(json.dumps(BEFORE))] * 2
    for number, sentence in zip((1, 3, 4, 5), wrong, strict=True):
        assert sentence.startswith(f"{path}, line {number} is no record of a run and left out")
    assert path.read_bytes().count(whole) == 2 and whole[:50] + b"\n" in path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["made_up.jsonl"]


def test_the_histories_of_the_repository_are_whole_and_their_rows_apart():
    root = pathlib.Path(__file__).parents[2]
    found = sorted((root / "results" / "benchmarks" / "history").iterdir())
    assert len(found) >= 10
    for path in found:
        records, wrong = history.read(path)
        assert records and not wrong
        for record in records:
            assert record["benchmark"] == path.stem and record["rows"]
