"""Tables of the benchmarks of recurrent and residual networks, which are measured on GPUs too.

What was measured on a GPU lies in `results/benchmarks/gpu/`, in as many files of a benchmark as it
was made in parts, all of which begin with its name. Their rows are merged, device by device.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import targets
from docs.tables.parts import Table, bullets, columns, from_file, origin, read_all, shown
from train.report.tables import Result

NOT_ON_A_GPU = "*Not yet measured on a GPU.*"

Results = list[Result]


def by_device(name: str) -> Callable[[Callable[[Results, bool], str]], Table]:
    """Makes a function of all results of one device, and of whether that is a GPU, a table of a
    benchmark for each device."""

    def decorate(function: Callable[[Results, bool], str]) -> Table:
        @functools.wraps(function)
        def made(results: pathlib.Path) -> str:
            own = read_all(results / "benchmarks", f"{name}.json")
            parts = [f"{function([result], False)}\n\n{origin(result)}" for result in own]
            devices: dict[str, Results] = {}
            for result in read_all(results / "benchmarks", f"gpu/{name}*.json"):
                devices.setdefault(result["machine"]["device kind"], []).append(result)
            for device, found in devices.items():
                lines = [*map(origin, found), *dict.fromkeys(map(_precision, found))]
                parts.append(f"On {device}:\n\n{function(found, True)}\n\n{bullets(lines)}")
            return "\n\n".join(parts if devices else [*parts, NOT_ON_A_GPU])

        return shown(made)

    return decorate


def _precision(result: Result) -> str:
    """What float32 stands for on a GPU."""
    asked = result["machine"]["matrix product precision"]
    if asked in (None, "default"):
        return (
            "Products and convolutions of float32 at JAX's default precision, for which a GPU may "
            "round their factors to TF32."
        )
    return f"Products and convolutions of float32 at JAX's precision `{asked}`."


def _merged(found: Results, name: str, told: Callable[[Any], str] = str) -> list[dict[str, Any]]:
    """The rows of all results, and what is told of each."""
    return [row | {"told": told(row)} for result in found for row in result.get(name, [])]


def _with_lines(text: str, lines: list[str], failed: list[dict[str, Any]]) -> str:
    """A table; below it lines, and what could not be compiled or run, and why."""
    lines = lines + [f"{row['told']} failed: {row['message']}" for row in failed]
    return f"{text}\n\n{bullets(lines)}" if lines else text


@from_file("benchmarks/structured_throughput.json")
def structured_throughput(result: Result) -> str:
    """Images per second of recurrent and residual networks, of plain scans, and in PyTorch."""
    rows = []
    for row in result["trainings"]:
        name = "PCFF" if row["regulariser"] == "pcff" else row["regulariser"]
        rows.append(row | {"told": f"{name} {row['rate']:g}" if row["rate"] else name})
    lines = ["{rounds} rounds of {steps} training steps.".format_map(result["sizes"])]
    for name, said, bound in (("plain_scan", "a plain scan", 1.1), ("torch", "PyTorch", 1.0)):
        ratios = [row[f"over_{name}"]["median"] for row in rows if f"over_{name}" in row]
        if ratios:
            reached = sum(ratio >= bound for ratio in ratios)
            lines.append(
                f"At least {bound:g} times as fast as {said}: {reached} of {len(ratios)} trainings."
            )
    figures = columns(
        rows,
        "network {network} | regulariser {told} | images/s {images_per_second:.1f}",
        "plain scan {plain_scan_images_per_second:.1f} | ratio (quartiles) {over_plain_scan~2}",
        "of the fastest {over_plain_scan[fastest]:.2f}",
        "PyTorch {torch_images_per_second:.1f} | ratio (quartiles) {over_torch~2}",
        "of the fastest {over_torch[fastest]:.2f}",
        "error, scan {plain_scan_error:.1g} | error, PyTorch {torch_error:.1g}",
    )
    return f"{figures}\n\n{bullets(lines)}"


@by_device("recurrence")
def recurrence(found: Results, gpu: bool) -> str:
    """Implementations of the independent recurrence, relative to the plain scan."""

    def size(row: dict[str, Any]) -> str:
        return " x ".join(map(str, row["size"]))

    def program(row: dict[str, Any]) -> str:
        return f"{size(row)}, {row['dtype']}, {row['noise']}: {row['implementation']}"

    measured = _merged(found, "rows", size)
    figures = columns(
        ({"dtype": "float32"} | row for row in measured),
        "time x batch x units {told} | dtype {dtype} | noise {noise} | part {part}",
        "implementation {implementation} | ms {milliseconds:.2f}",
        "speed-up (quartiles) {speedup~2} | of the bound {share_of_bound:.1%}",
        "compile s {compile_seconds:.2f} | error {error:.1g}",
    )
    lines = targets.recurrence(measured) if gpu else []
    return _with_lines(figures, lines, _merged(found, "failed", program))


@by_device("resnet_cost")
def residual_cost(found: Results, gpu: bool) -> str:
    """Training steps of ResNet20 with PCFF and with parts of it, relative to the plain step."""
    measured, first = _merged(found, "steps"), found[0]
    figures = columns(
        measured,
        "training step {training} | dtype {dtype} | ms {milliseconds:.2f}",
        "ratio (quartiles) {ratio~3} | of the fastest {ratio_of_fastest:.3f}",
        "ms (quartiles) more than {part~3}: {beside}",
    )
    return (
        f"{_with_lines(figures, targets.cost(measured) if gpu else [], [])}\n\n"
        f"One place of {' x '.join(map(str, first['place']))} nodes, forwards and backwards:\n\n"
        f"{columns(first['parts'], 'what {part} | microseconds {microseconds:.1f}')}"
    )


@by_device("sweep")
def sweep_forms(found: Results, gpu: bool) -> str:
    """Forms of many small convolutions: training steps of runs side by side."""

    def procedure(row: dict[str, Any]) -> str:
        return "PCFF .3" if row["procedure"] == "pcff" else row["procedure"]

    def program(row: dict[str, Any]) -> str:
        return f"{row['form']}, {row['dtype']}, {procedure(row)}, {row['runs']} runs"

    measured = _merged(found, "steps", procedure)
    figures = columns(
        measured,
        "form {form} | dtype {dtype} | training {told} | runs {runs} | ms {milliseconds:.1f}",
        "images/s {images_per_second:.0f} | of a run {images_per_second_of_a_run:.0f}",
        "runs' worth (quartiles) {speed_up~2} | over plain (quartiles) {over_plain~2}",
        "arithmetic bound, ms {arithmetic_bound_milliseconds:.1f}",
        "memory bound, ms {memory_bound_milliseconds:.1f}",
        "share of it {share_of_memory_bound:.1%} | compile s {compile_seconds:.1f}",
        "error {error:.1g}",
    )
    lines = targets.sweep(measured) if gpu else []
    return _with_lines(figures, lines, _merged(found, "failed", program))
