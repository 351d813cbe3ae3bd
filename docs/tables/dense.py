"""Tables of the dense experiment of [A]."""

import pathlib

from docs.tables.parts import NOT_MEASURED, Parts, bullets, of, of_runs, origin, picture, table
from train.dense.claims import SETS, by_data
from train.report import tables as report
from train.report.tables import DATA, NODES, REGULARISERS, Result, Run, difference, over_seeds

PAIRS = (
    ("dropout", "none"),
    ("pcff", "none"),
    ("pcff", "dropout"),
    ("both", "dropout"),
    ("both", "pcff"),
)

Measured = dict[str, Result]  # by data set


@of(by_data)
def dense_picture(measured: Measured) -> str:
    """The figure of the dense experiment, where it was drawn."""
    return picture("Test errors by node family and regulariser", "figures/dense.svg")


@of(by_data)
def dense_errors(measured: Measured) -> Parts:
    """Test errors in percent, one row for each network and regulariser, one column a data set."""
    every = (row for result in measured.values() for row in report.rows(result))
    rows = [
        [NODES[nodes], REGULARISERS[regulariser]]
        + [
            over_seeds(_runs(result, nodes, regulariser), "test", "error").told(2, 100)
            for result in measured.values()
        ]
        for nodes, regulariser in dict.fromkeys(row[:2] for row in every)
    ]
    headings = ["nodes", "regulariser", *(f"{DATA[name]}, test error %" for name in measured)]
    seeds = {name: len({run["seed"] for run in r["runs"]}) for name, r in measured.items()}
    notes = [f"{DATA[name]}: {n} seed{'s' if n > 1 else ''}." for name, n in seeds.items()]
    notes += [f"{DATA[name]}: not yet measured." for name in SETS if name not in measured]
    return [table(headings, rows), " ".join(notes)]


@of(by_data)
def dense_differences(measured: Measured) -> Parts:
    """Differences in test error between regularisers, and between ReLU and tanh, seed by seed; in
    bold those that count."""

    def less(result: Result, one: tuple[str, str], other: tuple[str, str]) -> str:
        found = difference(_runs(result, *one), _runs(result, *other))
        return f"**{found.told(2, signed=True)}**" if found.sign else found.told(2, signed=True)

    rows = [
        [DATA[name], NODES[nodes], *(less(result, (nodes, a), (nodes, b)) for a, b in PAIRS)]
        for name, result in measured.items()
        for nodes in NODES
    ]
    headings = [f"{REGULARISERS[a]} − {REGULARISERS[b]}" for a, b in PAIRS]
    yield table(["data", "nodes", *headings], rows)
    rows = [
        [DATA[name], *(less(result, ("relu", r), ("tanh", r)) for r in REGULARISERS)]
        for name, result in measured.items()
    ]
    yield table(["ReLU − tanh", *REGULARISERS.values()], rows)


@of()
def dense_figures(results: pathlib.Path) -> Parts:
    """Every figure of every data set, feed-forward beside the average of samples."""
    measured = by_data(results)
    for name in SETS:
        yield f"### {DATA[name]}"
        if name not in measured:
            yield NOT_MEASURED
            continue
        result = measured[name]
        made_by = [r for r in report.read_all(results / "dense") if r["settings"]["data"] == name]
        notes = [origin(each) for each in made_by]
        for run in result["runs"]:
            if run["status"] != "stopped early":
                which = f"{NODES[run['nodes']]}, {REGULARISERS[run['regulariser']]}"
                notes.append(f"{which}, seed {run['seed']}: {run['status']}, {run['epochs']}.")
        yield of_runs(result)
        yield bullets(notes)


def _runs(result: Result, nodes: str, regulariser: str) -> list[Run]:
    wanted = nodes, regulariser
    return [run for run in result["runs"] if (run["nodes"], run["regulariser"]) == wanted]
