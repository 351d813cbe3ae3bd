"""Tables of the benchmarks of recurrent and residual networks, which are measured on GPUs too.

What was measured on a GPU lies in `results/benchmarks/gpu/`, in as many files of a benchmark as it
was made in parts, all of which begin with its name. Their rows are merged, device by device.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import targets
from docs.tables.parts import bullets, from_file, of_ratio, origin, table, with_quartiles

NOT_ON_A_GPU = "*Not yet measured on a GPU.*"

Results = list[dict[str, Any]]


def _by_device(results: pathlib.Path, name: str, function: Callable[[Results, bool], str]) -> str:
    """A table for each device.

    Args:
        results: the folder of results.
        name: of the benchmark.
        function: makes a table of all results of one device, and whether that is a GPU.
    """
    folder = results / "benchmarks"
    parts = [
        f"{function([result], False)}\n\n{origin(result)}"
        for result in _read([folder / f"{name}.json"])
    ]
    devices: dict[str, Results] = {}
    for result in _read(sorted((folder / "gpu").glob(f"{name}*.json"))):
        devices.setdefault(result["machine"]["device kind"], []).append(result)
    for device, found in devices.items():
        lines = [origin(result) for result in found]
        lines += dict.fromkeys(map(_precision, found))
        parts.append(f"On {device}:\n\n{function(found, True)}\n\n{bullets(lines)}")
    return "\n\n".join(parts if devices else [*parts, NOT_ON_A_GPU])


def _read(paths: list[pathlib.Path]) -> Results:
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _precision(result: dict[str, Any]) -> str:
    """What float32 stands for on a GPU."""
    asked = result["machine"]["matrix product precision"]
    if asked in (None, "default"):
        return (
            "Products and convolutions of float32 at JAX's default precision, for which a GPU may "
            "round their factors to TF32."
        )
    return f"Products and convolutions of float32 at JAX's precision `{asked}`."


def _merged(found: Results, name: str) -> list[dict[str, Any]]:
    """The rows of all results."""
    return [row for result in found for row in result.get(name, [])]


def _with_lines(text: str, lines: list[str]) -> str:
    return f"{text}\n\n{bullets(lines)}" if lines else text


def _or_dash(value: Any, pattern: str) -> str:
    return "-" if value is None else format(value, pattern)


@from_file("benchmarks/structured_throughput.json")
def structured_throughput(result: dict[str, Any]) -> str:
    """Images per second of recurrent and residual networks, of plain scans, and in PyTorch."""
    rows = []
    for row in result["trainings"]:
        cells = [row["network"], _regulariser(row), f"{row['images_per_second']:.1f}"]
        for name in ("plain_scan", "torch"):
            if f"over_{name}" not in row:
                cells += ["-", "-", "-"]
                continue
            ratio = row[f"over_{name}"]
            cells.append(f"{row[f'{name}_images_per_second']:.1f}")
            cells.append(of_ratio(ratio))
            cells.append(f"{ratio['fastest']:.2f}")
        errors = (row.get(f"{name}_error") for name in ("plain_scan", "torch"))
        rows.append(cells + ["-" if error is None else f"{error:.1g}" for error in errors])
    headings = ["network", "regulariser", "images/s"]
    headings += ["plain scan", "ratio (quartiles)", "of the fastest"]
    headings += ["PyTorch", "ratio (quartiles)", "of the fastest", "error, scan", "error, PyTorch"]
    sizes = result["sizes"]
    lines = [f"{sizes['rounds']} rounds of {sizes['steps']} training steps."]
    for name, said, bound in (("plain_scan", "a plain scan", 1.1), ("torch", "PyTorch", 1.0)):
        key = f"over_{name}"
        ratios = [row[key]["median"] for row in result["trainings"] if key in row]
        if ratios:
            reached = sum(ratio >= bound for ratio in ratios)
            lines.append(
                f"At least {bound:g} times as fast as {said}: {reached} of {len(ratios)} trainings."
            )
    return f"{table(headings, rows)}\n\n{bullets(lines)}"


def _regulariser(row: dict[str, Any]) -> str:
    name = "PCFF" if row["regulariser"] == "pcff" else row["regulariser"]
    return f"{name} {row['rate']:g}" if row["rate"] else name


def recurrence(results: pathlib.Path) -> str:
    """Implementations of the independent recurrence, relative to the plain scan."""
    return _by_device(results, "recurrence", _recurrence)


def _recurrence(found: Results, gpu: bool) -> str:
    measured = _merged(found, "rows")
    rows = [
        [
            _size(row),
            row.get("dtype", "float32"),
            row["noise"],
            row["part"],
            row["implementation"],
            f"{row['milliseconds']:.2f}",
            "-" if row["speedup"] is None else with_quartiles(row, "speedup"),
            _or_dash(row["share_of_bound"], ".1%"),
            f"{row['compile_seconds']:.2f}",
            _or_dash(row["error"], ".1g"),
        ]
        for row in measured
    ]
    headings = ["time x batch x units", "dtype", "noise", "part", "implementation", "ms"]
    headings += ["speed-up (quartiles)", "of the bound", "compile s", "error"]
    lines = targets.recurrence(measured) if gpu else []
    lines += _failures(
        found, lambda r: f"{_size(r)}, {r['dtype']}, {r['noise']}: {r['implementation']}"
    )
    return _with_lines(table(headings, rows), lines)


def _failures(found: Results, what: Callable[[dict[str, Any]], str]) -> list[str]:
    """What could not be compiled or run, and why."""
    return [f"{what(row)} failed: {row['message']}" for row in _merged(found, "failed")]


def _size(row: dict[str, Any]) -> str:
    return " x ".join(map(str, row["size"]))


def residual_cost(results: pathlib.Path) -> str:
    """Training steps of ResNet20 with PCFF and with parts of it, relative to the plain step."""
    return _by_device(results, "resnet_cost", _residual_cost)


def _residual_cost(found: Results, gpu: bool) -> str:
    measured = _merged(found, "steps")
    rows = [
        [
            row["training"],
            row["dtype"],
            f"{row['milliseconds']:.2f}",
            with_quartiles(row, "ratio", 3),
            f"{row['ratio_of_fastest']:.3f}",
            "-" if row["beside"] is None else f"{with_quartiles(row, 'part', 3)}: {row['beside']}",
        ]
        for row in measured
    ]
    headings = ["training step", "dtype", "ms", "ratio (quartiles)", "of the fastest"]
    headings.append("ms (quartiles) more than")
    parts = [[row["part"], f"{row['microseconds']:.1f}"] for row in found[0]["parts"]]
    return "\n\n".join(
        [
            _with_lines(table(headings, rows), targets.cost(measured) if gpu else []),
            f"One place of {' x '.join(map(str, found[0]['place']))} nodes, forwards and "
            "backwards:",
            table(["what", "microseconds"], parts),
        ]
    )


def sweep_forms(results: pathlib.Path) -> str:
    """Forms of many small convolutions: training steps of runs side by side."""
    return _by_device(results, "sweep", _sweep_forms)


def _sweep_forms(found: Results, gpu: bool) -> str:
    measured = _merged(found, "steps")
    rows = [
        [
            step["form"],
            step["dtype"],
            _procedure(step),
            str(step["runs"]),
            f"{step['milliseconds']:.1f}",
            f"{step['images_per_second']:.0f}",
            f"{step['images_per_second_of_a_run']:.0f}",
            with_quartiles(step, "speed_up") if "speed_up" in step else "-",
            with_quartiles(step, "over_plain") if "over_plain" in step else "-",
            f"{step['arithmetic_bound_milliseconds']:.1f}",
            f"{step['memory_bound_milliseconds']:.1f}",
            f"{step['share_of_memory_bound']:.1%}",
            f"{step['compile_seconds']:.1f}",
            f"{step['error']:.1g}",
        ]
        for step in measured
    ]
    headings = ["form", "dtype", "training", "runs", "ms", "images/s", "of a run"]
    headings += ["runs' worth (quartiles)", "over plain (quartiles)", "arithmetic bound, ms"]
    headings += ["memory bound, ms", "share of it", "compile s", "error"]
    lines = targets.sweep(measured) if gpu else []
    lines += _failures(
        found, lambda r: f"{r['form']}, {r['dtype']}, {_procedure(r)}, {r['runs']} runs"
    )
    return _with_lines(table(headings, rows), lines)


def _procedure(row: dict[str, Any]) -> str:
    return "PCFF .3" if row["procedure"] == "pcff" else row["procedure"]


TABLES = [structured_throughput, recurrence, residual_cost, sweep_forms]
