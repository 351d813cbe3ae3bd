"""Tables of the dense experiment of [A]."""

import json
import pathlib
from typing import Any

from docs.tables.parts import DATA, NOT_MEASURED, difference, mean, origin, table
from train.report import tables as report

SETS = {name: DATA[name] for name in ("mnist", "fashion_mnist")}
REGULARISERS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}
NODES = {"tanh": "tanh", "relu": "ReLU"}


def dense_picture(results: pathlib.Path) -> str:
    """The figure of the dense experiment, where it was drawn."""
    if not by_data(results):
        return NOT_MEASURED
    return "![Test errors by node family and regulariser](figures/dense.svg)"


def dense_errors(results: pathlib.Path) -> str:
    """Test errors in percent, one row for each network and regulariser, one column a data set."""
    measured = by_data(results)
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
            mean(runs_of(result, nodes, regulariser), "test", "error", 100, 2)
            for result in measured.values()
        ]
        for nodes, regulariser in keys
    ]
    headings = ["nodes", "regulariser", *(f"{SETS[name]}, test error %" for name in measured)]
    seeds = {
        SETS[name]: len({run["seed"] for run in result["runs"]})
        for name, result in measured.items()
    }
    notes = [f"{title}: {n} seed{'s' if n > 1 else ''}." for title, n in seeds.items()]
    notes += [f"{title}: not yet measured." for name, title in SETS.items() if name not in measured]
    return f"{table(headings, rows)}\n\n{' '.join(notes)}"


def dense_claims(results: pathlib.Path) -> str:
    """Differences in test error between regularisers, and between ReLU and tanh, seed by seed."""
    measured = by_data(results)
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
        [SETS[name], NODES[nodes]]
        + [difference(runs_of(result, nodes, a), runs_of(result, nodes, b)) for a, b in pairs]
        for name, result in measured.items()
        for nodes in NODES
    ]
    between_regularisers = table(["data", "nodes", *headings], rows)
    rows = [
        [SETS[name]]
        + [difference(runs_of(result, "relu", r), runs_of(result, "tanh", r)) for r in REGULARISERS]
        for name, result in measured.items()
    ]
    between_nodes = table(["ReLU − tanh", *REGULARISERS.values()], rows)
    return f"{between_regularisers}\n\n{between_nodes}"


def dense_figures(results: pathlib.Path) -> str:
    """Every figure of every data set, feed-forward beside the average of samples."""
    parts = []
    measured = by_data(results)
    for name, title in SETS.items():
        result = measured.get(name)
        if not result:
            parts.append(f"### {title}\n\n{NOT_MEASURED}")
            continue
        rows = [
            [
                NODES[nodes],
                REGULARISERS[regulariser],
                mean(runs, "test", "error", 100, 2),
                mean(runs, "monte carlo", "error", 100, 2),
                mean(runs, "test", "nll", 1, 4),
                mean(runs, "monte carlo", "nll", 1, 4),
                mean(runs, "test", "ece", 100, 2),
                mean(runs, "monte carlo", "ece", 100, 2),
                str(len(runs)),
            ]
            for nodes, regulariser, runs in report.rows(result)
        ]
        headings = ["nodes", "regulariser", "error %", "averaged"]
        headings += ["NLL", "averaged", "ECE %", "averaged", "runs"]
        origins = "\n".join(f"- {text}" for text in _dense_origins(results, name))
        for run in result["runs"]:
            if run["status"] != "stopped early":
                which = f"{NODES[run['nodes']]}, {REGULARISERS[run['regulariser']]}"
                origins += f"\n- {which}, seed {run['seed']}: {run['status']}, {run['epochs']}."
        parts.append(f"### {title}\n\n{table(headings, rows)}\n\n{origins}")
    return "\n\n".join(parts)


def by_data(results: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The results of the dense experiment by data set; several commands may have made its runs."""
    found = [json.loads(path.read_text()) for path in _dense_files(results)]
    by_name = {result["settings"]["data"]: result for result in report.merged(found)}
    return {name: by_name[name] for name in SETS if name in by_name}


def runs_of(result: dict[str, Any], nodes: str, regulariser: str) -> list[dict[str, Any]]:
    return [
        run for run in result["runs"] if run["nodes"] == nodes and run["regulariser"] == regulariser
    ]


def _dense_files(results: pathlib.Path) -> list[pathlib.Path]:
    return sorted((results / "dense").glob("**/result.json"))


def _dense_origins(results: pathlib.Path, name: str) -> list[str]:
    found = [json.loads(path.read_text()) for path in _dense_files(results)]
    return [origin(result) for result in found if result["settings"]["data"] == name]


TABLES = [dense_picture, dense_errors, dense_claims, dense_figures]
