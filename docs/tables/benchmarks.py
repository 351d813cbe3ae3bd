"""Tables of the benchmarks.

Recurrent and residual networks are measured on GPUs too. What was measured there lies in
`results/benchmarks/gpu/`, in as many files of a benchmark as it was made in parts, all of which
begin with its name. Their rows are merged, device by device.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks import (
    chains,
    deterministic_bound,
    estimators,
    evidence,
    kept_memory,
    moments,
    moments_elements,
    moments_positions,
    pcff_overhead,
    recurrence,
    resnet_cost,
    structured_throughput,
    sweep,
    training_throughput,
)
from benchmarks.moments_accuracy import summary
from docs.tables.parts import (
    Parts,
    beside,
    bullets,
    columns,
    from_file,
    laid_out,
    of,
    origin,
    read_all,
)
from train.report.tables import Result

Rows = list[dict[str, Any]]
WHAT = "network {network} | activation {activation}"
OVERHEAD = "benchmarks/pcff_overhead.json"


@from_file(OVERHEAD)
def overhead_ratios(result: Result) -> str:
    """Times of a training step relative to the plain network's, one column a batch size."""
    steps = pcff_overhead.STEPS.listed(result)
    sizes = dict.fromkeys(step["batch_size"] for step in steps)
    cells = (f"batch {size} {{{size}[ratio]:.2f}}" for size in sizes)
    return columns(beside(steps, ["step"], "batch_size"), "training step {step}", *cells)


@from_file(OVERHEAD)
def overhead_figures(result: Result) -> Parts:
    """Everything that the benchmark of PCFF's cost measured."""
    yield laid_out(pcff_overhead.STEPS, result)
    yield "Time to trace, lower and compile a network of 100 layers:"
    yield laid_out(pcff_overhead.COMPILATION, result)
    yield "One layer of 32 x 1024 nodes, forwards and backwards, without the matrix products:"
    yield laid_out(pcff_overhead.PARTS, result)


# The first tables of these benchmarks, as they are.
AS_IN_A_TERMINAL: dict[str, Any] = {
    "training-throughput": training_throughput,
    "moments-cost": moments,
    "moments-elements": moments_elements,
    "kept-memory": kept_memory,
    "chains": chains,
    "evidence": evidence,
    "estimators": estimators,
}


def _name(benchmark: Any) -> str:
    return benchmark.__name__.rpartition(".")[2]


for name, benchmark in AS_IN_A_TERMINAL.items():
    file = f"benchmarks/{_name(benchmark)}.json"
    from_file(file, name)(functools.partial(laid_out, benchmark.TABLES[0]))


@from_file("benchmarks/pytagi_comparison.json")
def pytagi_comparison(result: Result) -> str:
    """A training step on means and variances here, and in pyTAGI."""
    one = {"ratio": 1, "ratio_low": 1, "ratio_high": 1, "ratio_of_fastest": 1}
    names = {"cgjax": ("cgjax", one), "pyTAGI": (f"pyTAGI {result['pytagi']}", result)}
    return columns(
        [
            ratio | {"name": name, "ms": result["milliseconds"][library]}
            for library, (name, ratio) in names.items()
        ],
        "training step {name} | ms {ms:.1f} | ratio (quartiles) {ratio~1}",
        "of the fastest {ratio_of_fastest:.1f}",
    )


@from_file("benchmarks/moments_accuracy.json")
def moments_accuracy(result: Result) -> Parts:
    """Errors of the moments of dense networks, and how many cells are within given bounds."""
    cells = result["cells"]
    counts = [
        _count(cells, "mean_error", "the error of the mean is below 0.02", lambda x: x < 0.02),
        _count(cells, "variance_ratio", "the variance is within 3 %", lambda x: abs(x - 1) <= 0.03),
    ]
    mean = "{@[mean_error_mean]:.3f} ({@[mean_error_most]:.3f})"
    return [_by_share(cells, mean=mean, variance=VARIANCE), bullets(counts)]


@from_file("benchmarks/moments_positions.json", "moments-positions")
def moments_of_positions(result: Result) -> Parts:
    """Variances of convolutional networks, with what positions share and without; the cost."""
    cells = result["cells"]
    counts = [
        _count(cells, "variance_ratio", "the variance is within 10 %", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "diagonal_ratio", "that of the diagonal is", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "mean_error", "the error of the mean is below 0.05", lambda x: x < 0.05),
    ]
    figures = _by_share(cells, variance=VARIANCE, diagonal="{@[diagonal_ratio_mean]:.2f}")
    said = "CPU time with what positions share, relative to that without:"
    return [
        figures,
        bullets(counts),
        said,
        laid_out(moments_positions.TABLES[1], result),
    ]


VARIANCE = (
    "{@[variance_ratio_mean]:.2f} ({@[variance_ratio_least]:.2f}-{@[variance_ratio_most]:.2f})"
)


def _by_share(cells: Rows, **figures: str) -> str:
    """A row for each network and activation; for each share the figures of its cell, by templates
    in which "@" is the cell."""
    given = [
        f"{what}, {share:g} {template.replace('@', str(share))}"
        for share in dict.fromkeys(cell["share"] for cell in cells)
        for what, template in figures.items()
    ]
    return columns(beside(map(summary, cells), ["network", "activation"], "share"), WHAT, *given)


def _count(cells: Rows, figure: str, said: str, within: Callable[[float], bool]) -> str:
    """In how many cells something holds on average over networks, and for how many networks."""
    means = [within(sum(c[figure]) / len(c[figure])) for c in cells]
    each = [within(x) for c in cells for x in c[figure]]
    return (
        f"On average over a cell's networks {said} in {sum(means)} of {len(means)} cells; "
        f"network by network in {sum(each)} of {len(each)} cases."
    )


NOT_ON_A_GPU = "*Not yet measured on a GPU.*"

Results = list[Result]


# What is measured on several devices: the benchmark, and which of its programs failed.
BY_DEVICE: dict[str, tuple[Any, str]] = {
    # Implementations of the independent recurrence, relative to the plain scan.
    "recurrence": (recurrence, "{told}, {dtype}, {noise}: {implementation}"),
    # Training steps of ResNet20 with PCFF and with parts of it, relative to the plain step.
    "residual-cost": (resnet_cost, "{training}"),
    # Forms of many small convolutions: training steps of runs side by side.
    "sweep-forms": (sweep, "{form}, {dtype}, {told}, {runs} runs"),
}


def by_device(benchmark: Any, program: str, results: pathlib.Path) -> Parts:
    """What a benchmark measured on each device."""
    folder, name = results / "benchmarks", _name(benchmark)
    for result in read_all(folder, f"{name}.json"):
        yield from (*_of_device(benchmark, program, [result], False), origin(result))
    devices: dict[str, Results] = {}
    for result in read_all(folder, f"gpu/{name}*.json"):
        devices.setdefault(result["machine"]["device kind"], []).append(result)
    for device, found in devices.items():
        lines = [*map(origin, found), *dict.fromkeys(map(_precision, found))]
        figures = _of_device(benchmark, program, found, True)
        yield from (f"On {device}:", *figures, bullets(lines))
    yield "" if devices else NOT_ON_A_GPU


def _of_device(benchmark: Any, program: str, found: Results, gpu: bool) -> Parts:
    """Of all results; on a GPU whether targets are reached; what could not be compiled or run."""
    table, parts = benchmark.TABLES
    rows, failed = (
        [row for result in found for row in result.get(key, [])] for key in (table.key, "failed")
    )
    yield laid_out(table, *found)
    lines = benchmark.reached(rows) if gpu else []
    text = f"{program} failed: {{message}}"
    yield bullets(lines + [text.format_map(table.more(row)) for row in failed])
    if "place" in found[0]:
        place = " x ".join(map(str, found[0]["place"]))
        yield f"One place of {place} nodes, forwards and backwards:"
        yield laid_out(parts, found[0])


for name, (benchmark, program) in BY_DEVICE.items():
    of(name=name)(functools.partial(by_device, benchmark, program))


def _precision(result: Result) -> str:
    """What float32 stands for on a GPU."""
    asked = result["machine"]["matrix product precision"]
    if asked in (None, "default"):
        return (
            "Products and convolutions of float32 at JAX's default precision, for which a GPU may "
            "round their factors to TF32."
        )
    return f"Products and convolutions of float32 at JAX's precision `{asked}`."


@from_file("benchmarks/deterministic_bound.json", "deterministic-bound")
def bound_without_samples(result: Result) -> Parts:
    """Biases and gradients of the ELBO by moments, and times of training steps."""
    return [laid_out(table, result) for table in deterministic_bound.TABLES]


@from_file("benchmarks/structured_throughput.json", "structured-throughput")
def structured(result: Result) -> Parts:
    """Images per second of recurrent and residual networks, of plain scans, and in PyTorch."""
    lines = ["{rounds} rounds of {steps} training steps.".format_map(result["sizes"])]
    for name, said, bound in (("plain_scan", "a plain scan", 1.1), ("torch", "PyTorch", 1.0)):
        rows = [row for row in result["trainings"] if f"over_{name}" in row]
        if rows:
            reached = sum(row[f"over_{name}"]["median"] >= bound for row in rows)
            lines.append(
                f"At least {bound:g} times as fast as {said}: {reached} of {len(rows)} trainings."
            )
    return [laid_out(structured_throughput.TABLES[0], result), bullets(lines)]
