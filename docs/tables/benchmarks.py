"""Tables of the benchmarks; those of recurrent and residual networks are in `structured`."""

from collections.abc import Callable
from typing import Any

from benchmarks.moments_accuracy import summary
from docs.tables.parts import beside, bullets, columns, from_file
from train.report.tables import Result

Rows = list[dict[str, Any]]
WHAT = "network {network} | activation {activation}"
OVERHEAD = "benchmarks/pcff_overhead.json"


def _named(steps: Rows) -> Rows:
    prefix = {"torch": "PyTorch: "}
    return [s | {"step": prefix.get(s["library"], "") + s["procedure"]} for s in steps]


@from_file(OVERHEAD)
def overhead_ratios(result: Result) -> str:
    """Times of a training step relative to the plain network's, one column a batch size."""
    steps = _named(result["steps"])
    sizes = dict.fromkeys(step["batch_size"] for step in steps)
    cells = (f"batch {size} {{{size}[ratio]:.2f}}" for size in sizes)
    return columns(beside(steps, ["step"], "batch_size"), "training step {step}", *cells)


@from_file(OVERHEAD)
def overhead_figures(result: Result) -> str:
    """Everything that the benchmark of PCFF's cost measured."""
    steps = _named(result["steps"])
    for step in steps:
        step["megabytes"] = step["temporary_bytes"] / 1e6 if "temporary_bytes" in step else None
    figures = columns(
        steps,
        "batch {batch_size} | training step {step} | ms {milliseconds:.2f}",
        "ratio (quartiles) {ratio~3} | of the fastest {ratio_of_fastest:.3f}",
        "images/s {images_per_second:.0f} | compile s {compile_seconds:.2f}",
        "temporary MB {megabytes:.2f} | sampled {sampled:.3f}",
    )
    compilation = "network {procedure} | of {what} | seconds {seconds:.2f}"
    return (
        f"{figures}\n\nTime to trace, lower and compile a network of 100 layers:\n\n"
        f"{columns(result['compilation'], compilation)}\n\n"
        "One layer of 32 x 1024 nodes, forwards and backwards, without the matrix products:\n\n"
        f"{columns(result['parts'], 'what {part} | microseconds {microseconds:.1f}')}"
    )


@from_file("benchmarks/training_throughput.json")
def training_throughput(result: Result) -> str:
    """Images per second of the training program and of the loop in PyTorch."""
    return columns(
        result["trainings"],
        "training {training} | images/s {images_per_second:.0f}",
        "products alone {products_images_per_second:.0f} | PyTorch {torch_images_per_second:.0f}",
        "ratio (quartiles) {ratio~2} | of the fastest {ratio_of_fastest:.2f}",
    )


@from_file("benchmarks/moments.json")
def moments_cost(result: Result) -> str:
    """Training steps of the procedures for uncertain weights, relative to the plain network's."""
    return columns(
        [step | {"mb": (step["temporary_bytes"] or 0) / 1e6} for step in result["steps"]],
        WHAT,
        "training step {procedure} | ms {milliseconds:.1f} | ratio (quartiles) {ratio~2}",
        "of the fastest {ratio_of_fastest:.2f} | compile s {compile_seconds:.2f}",
        "temporary MB {mb:.1f} | variance {variance_ratio:.2f}",
    )


@from_file("benchmarks/kept_memory.json")
def kept_memory(result: Result) -> str:
    """What the first access to memory costs, by the size of an array."""
    return columns(
        result["sizes"],
        "array {megabytes} MB",
        "given back: ms (pages) {return[milliseconds]:.1f} ({return[pages]:.0f})",
        "kept: ms (pages) {keep[milliseconds]:.1f} ({keep[pages]:.0f})",
    )


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
def moments_accuracy(result: Result) -> str:
    """Errors of the moments of dense networks, and how many cells are within given bounds."""
    cells = result["cells"]
    counts = [
        _count(cells, "mean_error", "the error of the mean is below 0.02", lambda x: x < 0.02),
        _count(cells, "variance_ratio", "the variance is within 3 %", lambda x: abs(x - 1) <= 0.03),
    ]
    mean = "{@[mean_error_mean]:.3f} ({@[mean_error_most]:.3f})"
    return f"{_by_share(cells, mean=mean, variance=VARIANCE)}\n\n{bullets(counts)}"


@from_file("benchmarks/moments_positions.json")
def moments_positions(result: Result) -> str:
    """Variances of convolutional networks, with what positions share and without; the cost."""
    cells = result["cells"]
    counts = [
        _count(cells, "variance_ratio", "the variance is within 10 %", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "diagonal_ratio", "that of the diagonal is", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "mean_error", "the error of the mean is below 0.05", lambda x: x < 0.05),
    ]
    figures = _by_share(cells, variance=VARIANCE, diagonal="{@[diagonal_ratio_mean]:.2f}")
    cost = columns(result["cost"], WHAT, "values {value_ratio~2} | gradients {gradient_ratio~2}")
    said = "CPU time with what positions share, relative to that without:"
    return "\n\n".join([figures, bullets(counts), said, cost])


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
