"""What results of `train.images` say: their figures, and Table 1 beside ours, from JSON only."""

from collections.abc import Mapping, Sequence

from train.images.published import COLUMNS, ROWS, SETS, Cell, Row, printed
from train.images.settings import Config
from train.report.settings import but_epochs
from train.report.statistics import Mean
from train.report.tables import DATA, Grid, Result, Run, over_seeds

METHODS = {
    "plain": "plain",
    "weight_sample": "weight samples",
    "weight_sample_ensemble": "weight samples, several a batch, natural gradient",
    "moments": "moments",
    "moments_natural": "moments, natural gradient",
}
FIGURES = (
    ("error", "error %", 100, 2),
    ("nll", "NLL", 1, 3),
    ("ece", "ECE %", 100, 2),
    ("brier", "Brier", 1, 3),
)
MISSING = "not yet measured"


def figures(results: Sequence[Result]) -> Grid:
    """The test figures of each result: means over seeds ± standard error; and of posteriors the
    error of the network at their means."""
    lines = []
    for result in results:
        settings, runs = result["settings"], result["runs"]
        cells = [over_seeds(runs, "test", n).told(d, factor) for n, _, factor, d in FIGURES]
        at_means = "-"
        if "at means" in runs[0]:
            at_means = over_seeds(runs, "at means", "error").told(2, 100)
        epochs = f"{max(run['epochs'] for run in runs)} of {settings['length']}"
        images = str(settings["images"] or "all")
        names = [DATA[settings["data"]], settings["network"]]
        names += [METHODS[settings["method"]], settings["norm"]]
        lines.append([*names, images, epochs, *cells, at_means, str(len(runs))])
    head = ["data", "network", "method", "normalisation", "images", "epochs"]
    head += [*(heading for _, heading, _, _ in FIGURES), "error % at means", "runs"]
    return Grid("Test images: mean over seeds ± its standard error", head, lines, names=4)


def of_one(result: Result) -> Grid:
    """The test figures of one result, for a terminal of 80 characters: those of the method, and of
    posteriors those at their means."""
    settings, runs = result["settings"], result["runs"]
    ways = [way for way in ("test", "at means") if way in runs[0]]
    names = {"test": METHODS[settings["method"]], "at means": "at the means"}
    lines = [
        [names[way], *(over_seeds(runs, way, n).told(d, factor) for n, _, factor, d in FIGURES)]
        for way in ways
    ]
    title = (
        f"Test images, {settings['network']}, normalisation {settings['norm']}, {len(runs)} seeds: "
        "mean ± its standard error"
    )
    return Grid(title, ["prediction", *(heading for _, heading, _, _ in FIGURES)], lines)


def whole(results: Sequence[Result]) -> dict[Cell, dict[int, Run]]:
    """The runs of the whole schedule on all images, as Table 1 has them, by cell and seed.
    ValueError if one is there twice."""
    found: dict[Cell, dict[int, Run]] = {}
    for result in results:
        settings = result["settings"]
        cell = Cell(settings["data"], settings["network"], settings["method"])
        if cell.data not in SETS or cell.network not in ROWS.values():
            continue
        usual = but_epochs(Config(data=cell.data, network=cell.network, method=cell.method).facts())
        usual.pop("seeds")
        if any(but_epochs(settings).get(name) != value for name, value in usual.items()):
            continue
        for run in result["runs"]:
            if run["epochs"] < settings["length"] or run["test"] is None:
                continue
            known = found.setdefault(cell, {})
            if run["seed"] in known:
                raise ValueError(f"two results hold {' '.join(cell)} of seed {run['seed']}")
            known[run["seed"]] = run
    return found


def error(found: Mapping[Cell, Mapping[int, Run]], cell: Cell) -> Mean:
    """The mean error of a cell's runs, in percent."""
    mean = over_seeds([*found.get(cell, {}).values()], "test", "error")
    return Mean(100 * mean.value, 100 * mean.standard_error, mean.number)


def table_1(results: Sequence[Result]) -> Grid:
    """Table 1: each cell as it is printed, and ours."""
    found, lines = whole(results), []
    for data in SETS:
        for row, network in ROWS.items():
            cells = []
            for method in COLUMNS:
                ours = error(found, Cell(data, network, method))
                told = ours.told(2) if ours.number else MISSING
                cells.append(f"{printed(data, row, method)}; {told}")
            lines.append([DATA[data], f"{row} (`{network}`)", *cells])
    title = "Test errors in percent, as printed in [B] Table 1; and ours, mean ± standard error"
    return Grid(title, ["data", "network", *COLUMNS.values()], lines, names=2)


def rows() -> list[Row]:
    """All pairs of data and network."""
    return [(data, row) for data in SETS for row in ROWS]
