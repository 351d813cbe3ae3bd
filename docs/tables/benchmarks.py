"""Tables of the benchmarks; those of recurrent and residual networks are in `structured`."""

from collections.abc import Callable
from typing import Any

from docs.tables.parts import from_file, of_ratio, table, with_quartiles


@from_file("benchmarks/pcff_overhead.json")
def overhead_ratios(result: dict[str, Any]) -> str:
    """Times of a training step relative to the plain network's, one column a batch size."""
    steps = result["steps"]
    sizes = list(dict.fromkeys(step["batch_size"] for step in steps))
    rows = []
    for key in dict.fromkeys((step["library"], step["procedure"]) for step in steps):
        of_size = {s["batch_size"]: s for s in steps if (s["library"], s["procedure"]) == key}
        library = {"torch": "PyTorch: "}.get(key[0], "")
        ratios = [f"{of_size[size]['ratio']:.2f}" if size in of_size else "-" for size in sizes]
        rows.append([library + key[1], *ratios])
    headings = ["training step", *(f"batch {size}" for size in sizes)]
    return table(headings, rows)


@from_file("benchmarks/pcff_overhead.json")
def overhead_figures(result: dict[str, Any]) -> str:
    """Everything that the benchmark of PCFF's cost measured."""
    rows = [
        [
            str(step["batch_size"]),
            ("PyTorch: " if step["library"] == "torch" else "") + step["procedure"],
            f"{step['milliseconds']:.2f}",
            with_quartiles(step, "ratio", 3),
            f"{step['ratio_of_fastest']:.3f}",
            f"{step['images_per_second']:.0f}",
            f"{step['compile_seconds']:.2f}" if "compile_seconds" in step else "-",
            f"{step['temporary_bytes'] / 1e6:.2f}" if "temporary_bytes" in step else "-",
            "-" if step.get("sampled") is None else f"{step['sampled']:.3f}",
        ]
        for step in result["steps"]
    ]
    headings = ["batch", "training step", "ms", "ratio (quartiles)", "of the fastest", "images/s"]
    headings += ["compile s", "temporary MB", "sampled"]
    compilation = [
        [row["procedure"], row["what"], f"{row['seconds']:.2f}"] for row in result["compilation"]
    ]
    parts = [[row["part"], f"{row['microseconds']:.1f}"] for row in result["parts"]]
    return "\n\n".join(
        [
            table(headings, rows),
            "Time to trace, lower and compile a network of 100 layers:",
            table(["network", "of", "seconds"], compilation),
            "One layer of 32 x 1024 nodes, forwards and backwards, without the matrix products:",
            table(["what", "microseconds"], parts),
        ]
    )


@from_file("benchmarks/training_throughput.json")
def training_throughput(result: dict[str, Any]) -> str:
    """Images per second of the training program and of the loop in PyTorch."""
    rows = [
        [
            row["training"],
            f"{row['images_per_second']:.0f}",
            f"{row['products_images_per_second']:.0f}",
            f"{row['torch_images_per_second']:.0f}",
            with_quartiles(row, "ratio"),
            f"{row['ratio_of_fastest']:.2f}",
        ]
        for row in result["trainings"]
    ]
    headings = ["training", "images/s", "products alone", "PyTorch", "ratio (quartiles)"]
    headings.append("of the fastest")
    return table(headings, rows)


@from_file("benchmarks/moments.json")
def moments_cost(result: dict[str, Any]) -> str:
    """Training steps of the procedures for uncertain weights, relative to the plain network's."""
    rows = [
        [
            step["network"],
            step["activation"],
            step["procedure"],
            f"{step['milliseconds']:.1f}",
            with_quartiles(step, "ratio"),
            f"{step['ratio_of_fastest']:.2f}",
            f"{step['compile_seconds']:.2f}",
            f"{(step['temporary_bytes'] or 0) / 1e6:.1f}",
            f"{step['variance_ratio']:.2f}" if "variance_ratio" in step else "-",
        ]
        for step in result["steps"]
    ]
    headings = ["network", "activation", "training step", "ms", "ratio (quartiles)"]
    headings += ["of the fastest", "compile s", "temporary MB", "variance"]
    return table(headings, rows)


@from_file("benchmarks/kept_memory.json")
def kept_memory(result: dict[str, Any]) -> str:
    """What the first access to memory costs, by the size of an array."""
    rows = [
        [f"{size['megabytes']} MB"]
        + [
            f"{size[what]['milliseconds']:.1f} ({size[what]['pages']:.0f})"
            for what in ("return", "keep")
        ]
        for size in result["sizes"]
    ]
    headings = ["array", "given back: ms (pages)", "kept: ms (pages)"]
    return table(headings, rows)


@from_file("benchmarks/pytagi_comparison.json")
def pytagi_comparison(result: dict[str, Any]) -> str:
    """A training step on means and variances here, and in pyTAGI."""
    ratio = with_quartiles(result, "ratio", 1)
    rows = [
        ["cgjax", f"{result['milliseconds']['cgjax']:.1f}", "1", "1"],
        [
            f"pyTAGI {result['pytagi']}",
            f"{result['milliseconds']['pyTAGI']:.1f}",
            ratio,
            f"{result['ratio_of_fastest']:.1f}",
        ],
    ]
    headings = ["training step", "ms", "ratio (quartiles)", "of the fastest"]
    return table(headings, rows)


@from_file("benchmarks/moments_accuracy.json")
def moments_accuracy(result: dict[str, Any]) -> str:
    """Errors of the moments of dense networks, and how many cells are within given bounds."""
    cells = result["cells"]
    rows = _by_share(cells, lambda c: [_worst_in_brackets(c["mean_error"]), _with_range(c)])
    counts = [
        _count(cells, "mean_error", "the error of the mean is below 0.02", lambda x: x < 0.02),
        _count(cells, "variance_ratio", "the variance is within 3 %", lambda x: abs(x - 1) <= 0.03),
    ]
    headings = ["network", "activation"]
    headings += [f"{what}, {share:g}" for share in _shares(cells) for what in ("mean", "variance")]
    return f"{table(headings, rows)}\n\n{chr(10).join(counts)}"


@from_file("benchmarks/moments_positions.json")
def moments_positions(result: dict[str, Any]) -> str:
    """Variances of convolutional networks, with what positions share and without; the cost."""
    cells = result["cells"]

    def entries(cell: dict[str, Any]) -> list[str]:
        diagonal = sum(cell["diagonal_ratio"]) / len(cell["diagonal_ratio"])
        return [_with_range(cell), f"{diagonal:.2f}"]

    counts = [
        _count(cells, "variance_ratio", "the variance is within 10 %", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "diagonal_ratio", "that of the diagonal is", lambda x: abs(x - 1) <= 0.1),
        _count(cells, "mean_error", "the error of the mean is below 0.05", lambda x: x < 0.05),
    ]
    headings = ["network", "activation"]
    headings += [f"{what}, {c:g}" for c in _shares(cells) for what in ("variance", "diagonal")]
    costs = [
        [
            row["network"],
            row["activation"],
            of_ratio(row["value_ratio"]),
            of_ratio(row["gradient_ratio"]),
        ]
        for row in result["cost"]
    ]
    return "\n\n".join(
        [
            table(headings, _by_share(cells, entries)),
            "\n".join(counts),
            "CPU time with what positions share, relative to that without:",
            table(["network", "activation", "values", "gradients"], costs),
        ]
    )


def _shares(cells: list[dict[str, Any]]) -> list[float]:
    return list(dict.fromkeys(cell["share"] for cell in cells))


def _by_share(
    cells: list[dict[str, Any]], entries: Callable[[dict[str, Any]], list[str]]
) -> list[list[str]]:
    """A row for each network and activation; for each share the entries of its cell."""
    rows: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        key = cell["network"], cell["activation"]
        rows.setdefault(key, list(key)).extend(entries(cell))
    return list(rows.values())


def _worst_in_brackets(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({max(values):.3f})"


def _with_range(cell: dict[str, Any]) -> str:
    values = cell["variance_ratio"]
    return f"{sum(values) / len(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _count(
    cells: list[dict[str, Any]], figure: str, said: str, within: Callable[[float], bool]
) -> str:
    """In how many cells something holds on average over networks, and for how many networks."""
    means = [within(sum(c[figure]) / len(c[figure])) for c in cells]
    each = [within(x) for c in cells for x in c[figure]]
    return (
        f"- On average over a cell's networks {said} in {sum(means)} of {len(means)} cells; "
        f"network by network in {sum(each)} of {len(each)} cases."
    )


TABLES = [
    overhead_ratios,
    overhead_figures,
    training_throughput,
    moments_cost,
    kept_memory,
    pytagi_comparison,
    moments_accuracy,
    moments_positions,
]
