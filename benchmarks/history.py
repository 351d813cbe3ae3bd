"""The history of a benchmark: one line of JSON a run, and what has become slower since the last.

Runs are compared if benchmark, options, kind of device and number of threads are the same. Seconds
of two days are not comparable, so rows are compared by their ratios to the baseline that was
measured in the same rounds. A row is slower (or faster) if the quartiles of its ratio do not
overlap with the last run's, and the medians differ by more than `MARGIN`.

Nothing here imports JAX.
"""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import Ratio, Table
from train.report.files import write_atomic

# What is smaller is nobody's concern; noise is what quartiles are for: of 40 ratios in two runs of
# `benchmarks.moments`, half an hour apart, 7 differ by more than this, and the quartiles of none.
MARGIN = 1.05
ENTRIES = {*"benchmark options machine date command commit versions rows".split()}
VERSIONS = ("python", "jax", "jaxlib", "flax")

Record = dict[str, Any]


def record(
    benchmark: str, options: str, tables: Sequence[Table], result: Record, date: str = ""
) -> Record:
    """What the history keeps of a result, with those options that change what is measured: by table
    and row the figures in four digits, those of a ratio as [median, low, high, of the fastest]."""
    machine, rows = result["machine"], {}
    versions = {name: machine[name] for name in VERSIONS} | {"torch": result.get("torch")}
    for table in tables:
        for name, row in table.rows(result).items():
            known = {key: _rounded(value) for key, value in table.figures(row).items()}
            rows |= {f"{table.key}: {name}": known} if known else {}
    return {
        "benchmark": benchmark,
        "options": options,
        "machine": {name: machine[name] for name in ("device kind", "threads")},
        "date": date or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": result["command"],
        "commit": result["commit"],
        "versions": versions,
        "rows": rows,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, Ratio):
        return [*map(_rounded, value)]
    return value if value is None else float(f"{value:.4g}")


def read(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a file, and a sentence about each line that is none.

    Example:
        >>> read(Path("nowhere.jsonl"))
        ([], [])
    """
    records, wrong = [], []
    for number, line in enumerate(_lines(path), 1):
        try:
            found = json.loads(line or "{}")
        except ValueError:
            found = {}
        if isinstance(found, dict) and found.keys() >= ENTRIES:
            records.append(found)
        elif line:
            wrong.append(f"{path}, line {number} is no record of a run and left out: restore it.")
    return records, wrong


def append(path: Path, new: Record) -> None:
    """Adds a record: the file is whole before and after, and what it held stays as it was. Raises
    a DataFileError that names it if it cannot be written."""
    lines = [*filter(None, _lines(path)), json.dumps(new, separators=(",", ":")).encode()]
    write_atomic(path, b"".join(line + b"\n" for line in lines))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n") if path.exists() else []


def last(records: Sequence[Record], new: Record) -> Record | None:
    """The newest record with which another may be compared; none if there is none."""
    same = ("benchmark", "options", "machine")
    alike = [r for r in records if all(r.get(name) == new[name] for name in same)]
    return max(alike, key=lambda r: r["date"], default=None)


def compared(tables: Sequence[Table], before: Record, now: Record) -> list[str]:
    """What has changed since a record: sentences, those about slower rows first."""
    told: dict[int, list[str]] = {1: [], 0: [], -1: []}
    day = []
    for name, row in now["rows"].items():
        old = before["rows"].get(name, {})
        signs = next(table.faster for table in tables if table.key == name.partition(": ")[0])
        for key in (key for key in row if key in old):
            if isinstance(row[key], list) and isinstance(old[key], list):
                was, found = Ratio(*old[key]), Ratio(*row[key])
                larger = (found.low > was.high) - (found.high < was.low)  # beyond quartiles
                larger *= max(found.median / was.median, was.median / found.median) > MARGIN
                told[-larger if key in signs else larger].append(
                    f"{name}: {key} {found.told(3)}, was {was.told(3)}"
                )
            elif "second" in key and row[key] and old[key]:
                day.append((row[key] / old[key]) ** (-1 if "per_second" in key else 1))
    slower, faster, judged = told[1], told[-1], sum(map(len, told.values()))
    noise = f"quartiles apart, and medians more than {100 * (MARGIN - 1):.0f} %"
    then = before["versions"]
    origin = [f"{before['date'][:10]}, commit {before['commit'][:12]}"]
    origin += [f"{n} {then.get(n)} -> {v}" for n, v in now["versions"].items() if then.get(n) != v]
    lines = [f"Compared with the last run here ({', '.join(origin)}):"]
    lines += [f"  SLOWER  {text}" for text in slower] + [f"  faster  {text}" for text in faster]
    lines.append(
        f"  {len(slower)} of {judged} ratios slower beyond noise, {len(faster)} faster ({noise})."
    )
    if day:
        low, median, high = np.percentile(day, [25, 50, 75])
        times = Ratio(median, low, high).told()
        lines.append(f"  Times, which depend on the day: {times} of the last run's.")
    return lines
