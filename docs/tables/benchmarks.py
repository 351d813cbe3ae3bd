"""Tables of the benchmarks; those of recurrent and residual networks are in `structured`."""

from collections.abc import Callable
from typing import Any

from docs.tables.parts import bullets, columns, from_file, table

Rows = list[dict[str, Any]]
WHAT = "network {network} | activation {activation}"
OVERHEAD = "benchmarks/pcff_overhead.json"


def _named(steps: Rows) -> Rows:
    prefix = {"torch": "PyTorch: "}
    return [s | {"step": prefix.get(s["library"], "") + s["procedure"]} for s in steps]


@from_file(OVERHEAD)
def overhead_ratios(result: dict[str, Any]) -> str:
    """Times of a training step relative to the plain network's, one column a batch size."""
    steps = _named(result["steps"])
    ratios: dict[str, dict[str, Any]] = {}
    for step in steps:
        row = ratios.setdefault(step["step"], {"step": step["step"]})
        row[f"of {step['batch_size']}"] = step["ratio"]
    sizes = dict.fromkeys(step["batch_size"] for step in steps)
    cells = (f"batch {size} {{of {size}:.2f}}" for size in sizes)
    return columns(ratios.values(), "training step {step}", *cells)


@from_file(OVERHEAD)
def overhead_figures(result: dict[str, Any]) -> str:
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
    return "\n\n".join(
        [
            figures,
            "Time to trace, lower and compile a network of 100 layers:",
            columns(result["compilation"], compilation),
            "One layer of 32 x 1024 nodes, forwards and backwards, without the matrix products:",
            columns(result["parts"], "what {part} | microseconds {microseconds:.1f}"),
        ]
    )


@from_file("benchmarks/training_throughput.json")
def training_throughput(result: dict[str, Any]) -> str:
    """Images per second of the training program and of the loop in PyTorch."""
    return columns(
        result["trainings"],
        "training {training} | images/s {images_per_second:.0f}",
        "products alone {products_images_per_second:.0f} | PyTorch {torch_images_per_second:.0f}",
        "ratio (quartiles) {ratio~2} | of the fastest {ratio_of_fastest:.2f}",
    )


@from_file("benchmarks/moments.json")
def moments_cost(result: dict[str, Any]) -> str:
    """Training steps of the procedures for uncertain weights, relative to the plain network's."""
    return columns(
        [step | {"mb": (step["temporary_bytes"] or 0) / 1e6} for step in result["steps"]],
        WHAT,
        "training step {procedure} | ms {milliseconds:.1f} | ratio (quartiles) {ratio~2}",
        "of the fastest {ratio_of_fastest:.2f} | compile s {compile_seconds:.2f}",
        "temporary MB {mb:.1f} | variance {variance_ratio:.2f}",
    )


@from_file("benchmarks/kept_memory.json")
def kept_memory(result: dict[str, Any]) -> str:
    """What the first access to memory costs, by the size of an array."""
    return columns(
        result["sizes"],
        "array {megabytes} MB",
        "given back: ms (pages) {return[milliseconds]:.1f} ({return[pages]:.0f})",
        "kept: ms (pages) {keep[milliseconds]:.1f} ({keep[pages]:.0f})",
    )


@from_file("benchmarks/pytagi_comparison.json")
def pytagi_comparison(result: dict[str, Any]) -> str:
    """A training step on means and variances here, and in pyTAGI."""
    ours, theirs = (result["milliseconds"][name] for name in ("cgjax", "pyTAGI"))
    one = {"ratio": 1, "ratio_low": 1, "ratio_high": 1, "ratio_of_fastest": 1}
    return columns(
        [
            one | {"name": "cgjax", "ms": ours},
            result | {"name": f"pyTAGI {result['pytagi']}", "ms": theirs},
        ],
        "training step {name} | ms {ms:.1f} | ratio (quartiles) {ratio~1}",
        "of the fastest {ratio_of_fastest:.1f}",
    )


@from_file("benchmarks/moments_accuracy.json")
def moments_accuracy(result: dict[str, Any]) -> str:
    """Errors of the moments of dense networks, and how many cells are within given bounds."""
    cells = result["cells"]
    figures = {
        "mean": lambda cell: _mean_and("({1:.3f})", cell["mean_error"], 3),
        "variance": lambda cell: _mean_and("({0:.2f}-{1:.2f})", cell["variance_ratio"]),
    }
    counts = [
        _count(cells, "mean_error", "the error of the mean is below 0.02", lambda x: x < 0.02),
        _count(cells, "variance_ratio", "the variance is within 3 %", lambda x: abs(x - 1) <= 0.03),
    ]
    return f"{_by_share(cells, figures)}\n\n{bullets(counts)}"


@from_file("benchmarks/moments_positions.json")
def moments_positions(result: dict[str, Any]) -> str:
    """Variances of convolutional networks, with what positions share and without; the cost."""
    cells = result["cells"]
    figures = {
        "variance": lambda cell: _mean_and("({0:.2f}-{1:.2f})", cell["variance_ratio"]),
        "diagonal": lambda cell: _mean_and("", cell["diagonal_ratio"]).strip(),
    }
    counts = [
        _count(cells, "variance_ratio", "the variance is within 10 %", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "diagonal_ratio", "that of the diagonal is", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "mean_error", "the error of the mean is below 0.05", lambda x: x < 0.05),
    ]
    cost = columns(result["cost"], WHAT, "values {value_ratio~2} | gradients {gradient_ratio~2}")
    said = "CPU time with what positions share, relative to that without:"
    return "\n\n".join([_by_share(cells, figures), bullets(counts), said, cost])


def _by_share(cells: Rows, figures: dict[str, Callable[[dict[str, Any]], str]]) -> str:
    """A row for each network and activation; for each share the figures of its cell."""
    rows: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        key = cell["network"], cell["activation"]
        rows.setdefault(key, list(key)).extend(figure(cell) for figure in figures.values())
    shares = dict.fromkeys(cell["share"] for cell in cells)
    headings = [f"{what}, {share:g}" for share in shares for what in figures]
    return table(["network", "activation", *headings], list(rows.values()))


def _mean_and(rest: str, values: list[float], digits: int = 2) -> str:
    """The mean, and by a template the least and the largest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} {rest.format(min(values), max(values))}"


def _count(cells: Rows, figure: str, said: str, within: Callable[[float], bool]) -> str:
    """In how many cells something holds on average over networks, and for how many networks."""
    means = [within(sum(c[figure]) / len(c[figure])) for c in cells]
    each = [within(x) for c in cells for x in c[figure]]
    return (
        f"On average over a cell's networks {said} in {sum(means)} of {len(means)} cells; "
        f"network by network in {sum(each)} of {len(each)} cases."
    )
