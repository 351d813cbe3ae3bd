"""Writes the tables of README and the site from the JSON files under results/.

    python -m docs.generate_tables            # rewrite the pages
    python -m docs.generate_tables --check    # only say whether they are up to date

A table stands between `<!-- table NAME -->` and `<!-- end NAME -->`. What was not measured is said
to be so.
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from docs import mathematics
from train import report, uci_claims, uci_table
from train.uci_methods import METHODS
from train.uci_published import PAPER

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/results.md",
    "docs/procedures/comparison.md",
    "docs/benchmarks.md",
    "docs/tutorials/how_wrong_is_feed_forward.md",
    "docs/mathematics.md",
]
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
REGULARISERS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}
NODES = {"tanh": "tanh", "relu": "ReLU"}
NOT_MEASURED = "*Not yet measured.*"
NETWORKS = {"dense": "dense", "small_vgg": "small VGG", "vgg16": "VGG16"}
PROCEDURES = {
    "moments": "moments (`deterministic`)",
    "local": "`local_reparameterization`",
    "flipout": "`flipout`",
    "weights": "`weight_sample`",
    "plain": "plain network at the means",
}
MODELS = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one independent network",
}


def dense_errors(results: pathlib.Path) -> str:
    """Test errors in percent, one row for each network and regulariser, one column a data set."""
    measured = _dense(results)
    if not measured:
        return NOT_MEASURED
    keys = dict.fromkeys(
        (nodes, regulariser)
        for result in measured.values()
        for nodes, regulariser, _ in report.rows(result)
    )
    rows = [
        [NODES[nodes], REGULARISERS[regulariser]]
        + [
            _mean(_runs(result, nodes, regulariser), "test", "error", 100, 2)
            for result in measured.values()
        ]
        for nodes, regulariser in keys
    ]
    headings = ["nodes", "regulariser", *(f"{DATA[name]}, test error %" for name in measured)]
    seeds = {
        DATA[name]: len({run["seed"] for run in result["runs"]})
        for name, result in measured.items()
    }
    notes = [f"{title}: {n} seed{'s' if n > 1 else ''}." for title, n in seeds.items()]
    notes += [f"{title}: not yet measured." for name, title in DATA.items() if name not in measured]
    return f"{_table(headings, rows)}\n\n{' '.join(notes)}"


def dense_figures(results: pathlib.Path) -> str:
    """Every figure of every data set, feed-forward beside the average of samples."""
    parts = []
    measured = _dense(results)
    for name, title in DATA.items():
        result = measured.get(name)
        if not result:
            parts.append(f"### {title}\n\n{NOT_MEASURED}")
            continue
        rows = [
            [
                NODES[nodes],
                REGULARISERS[regulariser],
                _mean(runs, "test", "error", 100, 2),
                _mean(runs, "monte carlo", "error", 100, 2),
                _mean(runs, "test", "nll", 1, 4),
                _mean(runs, "monte carlo", "nll", 1, 4),
                _mean(runs, "test", "ece", 100, 2),
                _mean(runs, "monte carlo", "ece", 100, 2),
                str(len(runs)),
            ]
            for nodes, regulariser, runs in report.rows(result)
        ]
        headings = ["nodes", "regulariser", "error %", "averaged"]
        headings += ["NLL", "averaged", "ECE %", "averaged", "runs"]
        origin = "\n".join(f"- {text}" for text in _dense_origins(results, name))
        for run in result["runs"]:
            if run["status"] != "stopped early":
                which = f"{NODES[run['nodes']]}, {REGULARISERS[run['regulariser']]}"
                origin += f"\n- {which}, seed {run['seed']}: {run['status']}, {run['epochs']}."
        parts.append(f"### {title}\n\n{_table(headings, rows)}\n\n{origin}")
    return "\n\n".join(parts)


def overhead_ratios(results: pathlib.Path) -> str:
    """Times of a training step relative to the plain network's, one column a batch size."""
    result = _load(results / "benchmarks" / "pcff_overhead.json")
    if not result:
        return NOT_MEASURED
    steps = result["steps"]
    sizes = list(dict.fromkeys(step["batch_size"] for step in steps))
    rows = []
    for key in dict.fromkeys((step["library"], step["procedure"]) for step in steps):
        of_size = {s["batch_size"]: s for s in steps if (s["library"], s["procedure"]) == key}
        library = {"torch": "PyTorch: "}.get(key[0], "")
        ratios = [f"{of_size[size]['ratio']:.2f}" if size in of_size else "-" for size in sizes]
        rows.append([library + key[1], *ratios])
    headings = ["training step", *(f"batch {size}" for size in sizes)]
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def overhead_figures(results: pathlib.Path) -> str:
    """Everything that the benchmark of PCFF's cost measured."""
    result = _load(results / "benchmarks" / "pcff_overhead.json")
    if not result:
        return NOT_MEASURED
    rows = [
        [
            str(step["batch_size"]),
            ("PyTorch: " if step["library"] == "torch" else "") + step["procedure"],
            f"{step['milliseconds']:.2f}",
            f"{step['ratio']:.3f} ({step['ratio_low']:.3f}-{step['ratio_high']:.3f})",
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
            _table(headings, rows),
            "Time to trace, lower and compile a network of 100 layers:",
            _table(["network", "of", "seconds"], compilation),
            "One layer of 32 x 1024 nodes, forwards and backwards, without the matrix products:",
            _table(["what", "microseconds"], parts),
            f"{_origin(result)}.",
        ]
    )


def training_throughput(results: pathlib.Path) -> str:
    """Images per second of the training program and of the loop in PyTorch."""
    result = _load(results / "benchmarks" / "training_throughput.json")
    if not result:
        return NOT_MEASURED
    rows = [
        [
            row["training"],
            f"{row['images_per_second']:.0f}",
            f"{row['products_images_per_second']:.0f}",
            f"{row['torch_images_per_second']:.0f}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})",
            f"{row['ratio_of_fastest']:.2f}",
        ]
        for row in result["trainings"]
    ]
    headings = ["training", "images/s", "products alone", "PyTorch", "ratio (quartiles)"]
    headings.append("of the fastest")
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def moments_cost(results: pathlib.Path) -> str:
    """Training steps of the procedures for uncertain weights, relative to the plain network's."""
    result = _load(results / "benchmarks" / "moments.json")
    if not result:
        return NOT_MEASURED
    rows = [
        [
            step["network"],
            step["activation"],
            step["procedure"],
            f"{step['milliseconds']:.1f}",
            f"{step['ratio']:.2f} ({step['ratio_low']:.2f}-{step['ratio_high']:.2f})",
            f"{step['ratio_of_fastest']:.2f}",
            f"{step['compile_seconds']:.2f}",
            f"{(step['temporary_bytes'] or 0) / 1e6:.1f}",
            f"{step['variance_ratio']:.2f}" if "variance_ratio" in step else "-",
        ]
        for step in result["steps"]
    ]
    headings = ["network", "activation", "training step", "ms", "ratio (quartiles)"]
    headings += ["of the fastest", "compile s", "temporary MB", "variance"]
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def pytagi_comparison(results: pathlib.Path) -> str:
    """A training step on means and variances here, and in pyTAGI."""
    result = _load(results / "benchmarks" / "pytagi_comparison.json")
    if not result:
        return NOT_MEASURED
    ratio = f"{result['ratio']:.1f} ({result['ratio_low']:.1f}-{result['ratio_high']:.1f})"
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
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def moments_accuracy(results: pathlib.Path) -> str:
    """Errors of the moments of dense networks, and how many cells are within given bounds."""
    result = _load(results / "benchmarks" / "moments_accuracy.json")
    if not result:
        return NOT_MEASURED
    cells = result["cells"]
    rows = _by_share(cells, lambda c: [_worst_in_brackets(c["mean_error"]), _with_range(c)])
    counts = [
        _count(cells, "mean_error", "the error of the mean is below 0.02", lambda x: x < 0.02),
        _count(cells, "variance_ratio", "the variance is within 3 %", lambda x: abs(x - 1) <= 0.03),
    ]
    headings = ["network", "activation"]
    headings += [f"{what}, {share:g}" for share in _shares(cells) for what in ("mean", "variance")]
    return f"{_table(headings, rows)}\n\n{chr(10).join(counts)}\n\n{_origin(result)}."


def moments_positions(results: pathlib.Path) -> str:
    """Variances of convolutional networks, with what positions share and without; the cost."""
    result = _load(results / "benchmarks" / "moments_positions.json")
    if not result:
        return NOT_MEASURED
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
            *(
                f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
                for ratio in (row["value_ratio"], row["gradient_ratio"])
            ),
        ]
        for row in result["cost"]
    ]
    return "\n\n".join(
        [
            _table(headings, _by_share(cells, entries)),
            "\n".join(counts),
            "CPU time with what positions share, relative to that without:",
            _table(["network", "activation", "values", "gradients"], costs),
            f"{_origin(result)}.",
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


def feed_forward_accuracy(results: pathlib.Path) -> str:
    """Error of feed-forward, moments and Monte Carlo by size of the weights and depth."""
    result = _load(results / "feed_forward_accuracy" / "result.json")
    if not result:
        return NOT_MEASURED
    methods = ["feed-forward", "moments", "16 samples", "256 samples"]
    errors = {(row["states"], row["scale"], row["method"]): row for row in result["rows"]}
    rows = [
        [states, f"{scale:g}", str(depth)]
        + [
            f"{row['mean'][depth - 1]:.1e} ({row['worst'][depth - 1]:.1e})"
            for row in (errors[states, scale, method] for method in methods)
        ]
        for states, scale in dict.fromkeys(key[:2] for key in errors)
        for depth in (2, 8)
    ]
    return f"{_table(['states', 'weight size', 'layers', *methods], rows)}\n\n{_origin(result)}."


def equations(results: pathlib.Path) -> str:
    """Each equation of [B]: the verdict, the correct form, and both residuals."""
    result = _load(results / "mathematics" / "result.json")
    if not result:
        return NOT_MEASURED
    rows = []
    for name, row in mathematics.ROWS.items():
        measured = result["equations"][name]
        printed = measured["printed"]
        rows.append(
            [
                *(text.replace("|", "&#124;") for text in row),
                "-" if printed is None else f"{printed:.2g}",
                f"{measured['corrected']:.0e}",
                f"{measured['worst']:.0e}",
            ]
        )
    headings = ["in [B]", "the print", "correct form", "residual of the print"]
    headings += ["of the correct form", "its worst"]
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def objectives(results: pathlib.Path) -> str:
    """The variance at each objective's optimum, relative to the exact posterior's."""
    result = _load(results / "mathematics" / "result.json")
    if not result:
        return NOT_MEASURED
    cells = {(r["examples"], r["objective"]): r for r in result["objectives"]}
    ways = list(dict.fromkeys(way for _, way in cells))
    rows = [
        [str(number)]
        + [
            f"{r['median']:.2g} ({r['least']:.1g} to {r['most']:.2g})"
            for r in (cells[number, way] for way in ways)
        ]
        for number in dict.fromkeys(number for number, _ in cells)
    ]
    headings = ["examples", *(way.replace("_", " ") for way in ways)]
    return f"{_table(headings, rows)}\n\n{_origin(result)}."


def innovations(results: pathlib.Path) -> str:
    """How far the label moves each layer, for digits that a network got right and wrong."""
    result = _load(results / "innovations" / "result.json")
    if not result:
        return NOT_MEASURED
    cells = {(r["layer"], r["label"]): r for r in result["rows"]}
    rows = [
        [layer]
        + [f"{cells[layer, label]['median']:.3f}" for label in ("right", "wrong")]
        + [f"{cells[layer, label]['information']:.1e}" for label in ("right", "wrong")]
        for layer in dict.fromkeys(layer for layer, _ in cells)
    ]
    headings = ["layer", "innovation, right", "innovation, wrong"]
    headings += ["information, right", "information, wrong"]
    error = f"Test error {100 * result['error']:.1f} %."
    return f"{_table(headings, rows)}\n\n{error} {_origin(result)}."


def dense_picture(results: pathlib.Path) -> str:
    """The figure of the dense experiment, where it was drawn."""
    if not _dense(results):
        return NOT_MEASURED
    return "![Test errors by node family and regulariser](figures/dense.svg)"


def dense_claims(results: pathlib.Path) -> str:
    """Differences in test error between regularisers, and between ReLU and tanh, seed by seed."""
    measured = _dense(results)
    if not measured:
        return NOT_MEASURED
    pairs = [
        ("dropout", "none"),
        ("pcff", "none"),
        ("pcff", "dropout"),
        ("both", "dropout"),
        ("both", "pcff"),
    ]
    headings = [f"{REGULARISERS[a]} − {REGULARISERS[b]}" for a, b in pairs]
    rows = [
        [DATA[name], NODES[nodes]]
        + [_difference(_runs(result, nodes, a), _runs(result, nodes, b)) for a, b in pairs]
        for name, result in measured.items()
        for nodes in NODES
    ]
    between_regularisers = _table(["data", "nodes", *headings], rows)
    rows = [
        [DATA[name]]
        + [_difference(_runs(result, "relu", r), _runs(result, "tanh", r)) for r in REGULARISERS]
        for name, result in measured.items()
    ]
    between_nodes = _table(["ReLU − tanh", *REGULARISERS.values()], rows)
    return f"{between_regularisers}\n\n{between_nodes}"


def _difference(runs: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Mean difference of the test errors of runs of the same seeds, in percentage points."""
    known = {run["seed"]: run["test"]["error"] for run in others if run["test"] is not None}
    mean = report.mean(
        [
            100 * (run["test"]["error"] - known[run["seed"]])
            for run in runs
            if run["test"] is not None and run["seed"] in known
        ]
    )
    if mean.seeds == 0:
        return "-"
    value = f"{mean.value:+.2f}"
    return value if mean.seeds == 1 else f"{value} ± {mean.standard_error:.2f}"


def gradient_variance(results: pathlib.Path) -> str:
    """Variances of gradients by batch size, due to batch and weights, and to the weights alone."""
    parts = []
    for result in _gradients(results):
        sizes = result["settings"]["batch_sizes"]
        headings = ["posterior", "procedure", *(f"batch {size}" for size in sizes)]
        for group, title in (("means", "the means"), ("log variances", "the log-variances")):
            found = {
                (row["point"], row["procedure"], row["batch size"]): row[group]
                for row in result["variance"]
            }
            rows = [
                [point, PROCEDURES[procedure]]
                + [_with_part(found[point, procedure, size]) for size in sizes]
                for point in ("initial", "trained")
                for procedure in result["settings"]["procedures"]
                if group == "means" or procedure != "plain"
            ]
            parts.append(f"{_setting(result)}; gradient with respect to {title}:")
            parts.append(_table(headings, rows))
        parts.append(f"{_origin(result)}.")
    return "\n\n".join(parts) or NOT_MEASURED


def _with_part(found: dict[str, Any]) -> str:
    total, own = found["total"], found["weights"]
    relative = 100 * total["standard error"] / total["value"] if total["value"] else 0
    part = f"{own['value']:.2g}" if own["value"] else "0"
    return f"{total['value']:.2g} ± {relative:.0f} % ({part})"


def gradient_bias(results: pathlib.Path) -> str:
    """Distances of expected gradients from the exact one, relative to its norm."""
    parts = []
    for result in _gradients(results):
        rows = []
        for procedure in result["settings"]["procedures"]:
            cells = [
                _distance(row[group])
                for row in result["bias"]
                if row["procedure"] == procedure
                for group in ("means", "log variances")
            ]
            rows.append([PROCEDURES[procedure], *cells])
        headings = ["procedure"] + [
            f"{point}, {group}"
            for point in ("initial", "trained")
            for group in ("means", "log-variances")
        ]
        batch = result["settings"]["batch_size"]
        parts.append(f"{_setting(result)}, one batch of {batch}:\n\n{_table(headings, rows)}")
    return "\n\n".join(parts) or NOT_MEASURED


def _distance(found: dict[str, Any]) -> str:
    """A relative distance in percent; what noise cannot tell from 0 as a bound.

    Errors are those of eight estimates, and a table has a dozen that may be 0: hence four of them.
    """
    value, error = (found["difference"][k] for k in ("value", "standard error"))
    reference = found["reference"]["value"]
    if value > 4 * error:
        return f"{100 * (value / reference) ** 0.5:.1f} %"
    return f"< {100 * ((max(value, 0) + 2 * error) / reference) ** 0.5:.1f} %"


def gradient_cost(results: pathlib.Path) -> str:
    """Times of a gradient."""
    parts = []
    for result in _gradients(results):
        times = {row["procedure"]: row for row in result["cost"]}
        plain = times.get("plain", {}).get("fastest milliseconds")
        rows = [
            [
                PROCEDURES[name],
                f"{row['fastest milliseconds']:.2f}",
                f"{row['fastest milliseconds'] / plain:.1f}" if plain else "-",
                f"{row['milliseconds']:.2f}",
            ]
            for name, row in times.items()
        ]
        headings = ["procedure", "ms, fastest round", "relative to plain", "ms, median"]
        batch = result["settings"]["batch_size"]
        parts.append(f"{_setting(result)}, batch {batch}:\n\n{_table(headings, rows)}")
    return "\n\n".join(parts) or NOT_MEASURED


def learning_curves(results: pathlib.Path) -> str:
    """What training by each procedure led to, by the same recipe."""
    parts = []
    for result in _gradients(results):
        rows = []
        for procedure in result["settings"]["procedures"]:
            runs = [run for run in result["runs"] if run["procedure"] == procedure]
            curve = runs[0]["history"]["validation_loss"]
            rows.append(
                [
                    PROCEDURES[procedure],
                    *("-" if curve[k] is None else f"{curve[k]:.4f}" for k in (0, -1)),
                    _mean(runs, "test", "nll", 1, 4),
                    _mean(runs, "test", "error", 100, 2),
                    _mean(runs, "weight samples", "nll", 1, 4),
                    _mean(runs, "weight samples", "error", 100, 2),
                ]
            )
        epochs = result["settings"]["epochs"]
        headings = ["trained by", "validation NLL, epoch 1", f"epoch {epochs}", "test NLL"]
        headings += ["error %", "NLL, averaged", "error %, averaged"]
        seeds = len(result["settings"]["seeds"])
        told = f"{_setting(result)}, {seeds} seed{'s' if seeds > 1 else ''}"
        parts.append(f"{told}:\n\n{_table(headings, rows)}")
    return "\n\n".join(parts) or NOT_MEASURED


def gradient_picture(results: pathlib.Path) -> str:
    """The figure of the experiment, where it was measured."""
    if not _gradients(results):
        return NOT_MEASURED
    return "![Variance of gradients and learning curves](../figures/gradient_variance.svg)"


def _gradients(results: pathlib.Path) -> list[dict[str, Any]]:
    files = sorted((results / "gradient_variance").glob("**/result.json"))
    return [json.loads(path.read_text()) for path in files]


def _setting(result: dict[str, Any]) -> str:
    chosen, sizes = result["settings"], result["sizes"]
    hidden = f", {chosen['hidden']} nodes a layer" if chosen["hidden"] else ""
    data = {**DATA, "digits": "Digits", "cifar10": "CIFAR-10"}[chosen["data"]]
    return (
        f"{data}, {sizes['training images']} training images, {NETWORKS[chosen['network']]} network"
        f"{hidden}, {sizes['uncertain weights']} uncertain weights"
    )


def observation_density(results: pathlib.Path) -> str:
    """Simulated examples of trained networks, and whether the chains that made them agree."""
    result = _load(results / "observation_density" / "boston" / "result.json")
    if not result:
        return NOT_MEASURED
    models = result["models"].items()
    distances = ("label - prediction", "label - members", "spread of members")
    rows = [
        [
            MODELS[name],
            *(_spread(found[what]) for what in distances),
            f"{found['noise']:.2f}",
            f"{found['spread of inputs']:.3f}",
            f"{found['test']['rmse']:.2f}",
            f"{found['test']['nll']:.2f}",
        ]
        for name, found in models
    ]
    headings = ["model", "label − own prediction", "label − independent networks"]
    headings += ["spread of those networks", "learnt noise", "inputs, relative to their prior"]
    headings += ["test RMSE", "test NLL"]
    chains = [
        [
            MODELS[name],
            f"{found['largest R-hat']:.3f}" + ("" if found["converged"] else " (NOT converged)"),
            f"{found['smallest effective sample size']:.0f}",
            str(found["divergences"]),
            f"{found['acceptance']:.2f}",
            f"{found['leapfrog steps']:.0f}",
        ]
        for name, found in models
    ]
    about = ["model", "largest R-hat", "smallest effective sample size", "divergences"]
    about += ["acceptance", "leapfrog steps a draw"]
    version = result["machine"]["blackjax"]
    origin = f"{_origin(result)}, BlackJAX {version}; {result['data']}."
    return f"{_table(headings, rows)}\n\n{_table(about, chains)}\n\n{origin}"


def _spread(found: dict[str, float]) -> str:
    return f"{found['value']:.2f} ± {found['standard error']:.2f}"


def regression_beside(results: pathlib.Path) -> str:
    """Log-likelihood and RMSE of moments beside the columns of [B], and beside other published."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    parts = []
    for figure, title in uci_table.FIGURES.items():
        grid = uci_table.beside(found, uci_claims.measured_sets(found), figure, title)
        paper = grid.head.index(PAPER[-1].title) + 1
        main = grid.head.index(uci_claims.main_title())
        for text, columns in (
            (f"{title}, beside [B] Table 2:", [*range(paper)]),
            (f"{title}, beside others:", [0, main, *range(paper, len(grid.head))]),
        ):
            rows = [[line[i] for i in columns] for line in grid.lines]
            parts.append(f"{text}\n\n{_table([grid.head[i] for i in columns], rows)}")
    return "\n\n".join(parts)


def regression_reached(results: pathlib.Path) -> str:
    """What was to be reached, point by point, and the verdicts that it is counted from."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    by_set = uci_table.reached(found, uci_claims.measured_sets(found), *uci_claims.MAIN)
    return "\n\n".join(
        [_bullets(uci_claims.reached(found)), _grid(by_set), _grid(uci_claims.counts(found))]
    )


def regression_claims(results: pathlib.Path) -> str:
    """Our methods against one another."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    tables = [_grid(uci_claims.gains(found)), _grid(uci_claims.duels(found))]
    return "\n\n".join([_bullets(uci_claims.claims(found)), *tables])


def regression_methods(results: pathlib.Path) -> str:
    """All methods' figures."""
    measured = _regression(results)
    if not measured:
        return NOT_MEASURED
    own = [grid for grid in uci_table.grids(measured) if "mean over splits" in grid.title]
    return "\n\n".join(map(_grid, own))


def regression_tails(results: pathlib.Path) -> str:
    """Splits on which a method's predictions go wrong."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    return (
        f"{_grid(uci_claims.tails(found, 'protein'))}\n\n"
        "Splits of all sets whose log-likelihood is lower by more than 1 than with homoscedastic "
        f"noise: {uci_claims.overconfident(found)}."
    )


def regression_rows(results: pathlib.Path) -> str:
    """The test rows behind splits that go wrong."""
    result = _load(results / "uci_rows" / "protein.json")
    if not result:
        return NOT_MEASURED
    rows = [
        [
            METHODS[cell["method"]].title,
            str(number + 1),
            f"{split['rmse']:.2f}",
            f"{split['rmse without the largest errors']:.2f}",
            f"{split['rmse without unsure rows']:.2f} ({split['unsure rows']})",
            f"{split['log likelihood']:.2f}",
            f"{split['without the worst row']:.2f}",
            f"{worst['error']:.1f}",
            f"{worst['predicted deviation']:.2g}",
            f"{worst['largest input']:.1f} ({worst['column'] + 1})",
        ]
        for cell in result["cells"]
        for number, split in enumerate(cell["splits"])
        for worst in [split["worst row"]]
    ]
    headings = ["method", "split", "RMSE", "without the ten largest errors"]
    headings += ["without unsure rows (their number)", "LL"]
    headings += ["without its worst row", "that row's error", "its predicted deviation"]
    headings += ["its largest input (column)"]
    splits = [split for cell in result["cells"] for split in cell["splits"]]
    far = [
        f"{min(values)} to {max(values)} of a split's {splits[0][rows]} {rows}"
        for name, rows in (("far training rows", "training rows"), ("far test rows", "test rows"))
        for values in [[split[name] for split in splits]]
    ]
    same = max(split["distance"] for split in splits)
    return (
        f"{_table(headings, rows)}\n\nAn input lies more than 10 deviations from the mean in "
        f"{' and in '.join(far)}. The trainings were repeated; their RMSE is that of the table "
        f"above to a relative {same:.0e}.\n\n{_origin(result)}."
    )


def regression_time(results: pathlib.Path) -> str:
    """Seconds per split, their sum, and where they come from."""
    measured = _regression(results)
    if not measured:
        return NOT_MEASURED
    grid = uci_table.grids(measured)[-1]
    origins = sorted({f"{_origin(result)}." for result in measured})
    return "\n\n".join([_grid(grid), uci_claims.total(measured), *origins])


def regression_likelihoods(results: pathlib.Path) -> str:
    """The log-likelihoods in short."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    grid = uci_claims.summary(found)
    return _table(grid.head, grid.lines)


def _regression(results: pathlib.Path) -> list[dict[str, Any]]:
    return uci_table.read_all(results / "uci") if (results / "uci").exists() else []


def _grid(grid: uci_table.Grid) -> str:
    return f"{grid.title}:\n\n{_table(grid.head, grid.lines)}"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


TABLES = {
    "regression-beside": regression_beside,
    "regression-reached": regression_reached,
    "regression-claims": regression_claims,
    "regression-methods": regression_methods,
    "regression-tails": regression_tails,
    "regression-time": regression_time,
    "regression-rows": regression_rows,
    "regression-likelihoods": regression_likelihoods,
    "equations": equations,
    "objectives": objectives,
    "innovations": innovations,
    "gradient-variance": gradient_variance,
    "gradient-bias": gradient_bias,
    "gradient-cost": gradient_cost,
    "gradient-picture": gradient_picture,
    "learning-curves": learning_curves,
    "observation-density": observation_density,
    "dense-picture": dense_picture,
    "dense-claims": dense_claims,
    "moments-accuracy": moments_accuracy,
    "moments-cost": moments_cost,
    "pytagi-comparison": pytagi_comparison,
    "moments-positions": moments_positions,
    "feed-forward-accuracy": feed_forward_accuracy,
    "dense-errors": dense_errors,
    "dense-figures": dense_figures,
    "overhead-ratios": overhead_ratios,
    "overhead-figures": overhead_figures,
    "training-throughput": training_throughput,
}


def generate(page: str, results: pathlib.Path) -> str:
    """A page with its tables made anew.

    Raises:
        ValueError: for a table that this script does not know.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"no table {name!r}; known: {', '.join(TABLES)}")
        return f"<!-- table {name} -->\n\n{TABLES[name](results)}\n\n<!-- end {name} -->"

    pattern = r"<!-- table ([a-z-]+) -->.*?<!-- end \1 -->"
    return re.sub(pattern, fill, page, flags=re.DOTALL)


def _dense(results: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The results of the dense experiment by data set; several commands may have made its runs."""
    found = [json.loads(path.read_text()) for path in _dense_files(results)]
    by_name = {result["settings"]["data"]: result for result in report.merged(found)}
    return {name: by_name[name] for name in DATA if name in by_name}


def _dense_files(results: pathlib.Path) -> list[pathlib.Path]:
    return sorted((results / "dense").glob("**/result.json"))


def _dense_origins(results: pathlib.Path, name: str) -> list[str]:
    found = [json.loads(path.read_text()) for path in _dense_files(results)]
    return [
        f"{_origin(result)}; {result['data']}."
        for result in found
        if result["settings"]["data"] == name
    ]


def _load(path: pathlib.Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _runs(result: dict[str, Any], nodes: str, regulariser: str) -> list[dict[str, Any]]:
    return [
        run for run in result["runs"] if run["nodes"] == nodes and run["regulariser"] == regulariser
    ]


def _mean(runs: list[dict[str, Any]], way: str, figure: str, factor: int, digits: int) -> str:
    mean = report.over_seeds(runs, way, figure)
    if mean.seeds == 0:
        return "-"
    value = f"{factor * mean.value:.{digits}f}"
    return value if mean.seeds == 1 else f"{value} ± {factor * mean.standard_error:.{digits}f}"


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    torch = f", PyTorch {result['torch']}" if result.get("torch") else ""
    return (
        f"`{result['command'].strip()}`, commit `{result['commit'][:12]}`, "
        f"{machine['device kind']} ({machine['threads']} threads), Python {machine['python']}, "
        f"JAX {machine['jax']}, Flax {machine['flax']}{torch}"
    )


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Rewrites or checks the pages; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if outdated")
    check = parser.parse_args().check
    outdated = []
    for name in PAGES:
        page = ROOT / name
        generated = generate(page.read_text(), ROOT / "results")
        if generated != page.read_text():
            outdated.append(name)
            if not check:
                page.write_text(generated)
    print(f"{'outdated' if check else 'rewritten'}: {', '.join(outdated) or 'none'}")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
