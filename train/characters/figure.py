"""What results of `train.characters` show: bits a character as a table and as curves, from JSON."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.report import tables as report
from train.report.figures import digest, panels, save
from train.report.results import Result
from train.report.statistics import Mean, mean
from train.report.tables import Grid, Run

NAMES = {
    "collapsed": "collapsed",
    "pcff": "PCFF",
    "straight_through": "latent, ELBO",
    "vimco": "latent, VIMCO",
}
DATA = {
    "python": "What help() of Python says",
    "tinyshakespeare": "Tiny Shakespeare",
    "kjv": "King James Bible",
}
# How a network is read in testing, and the heading of it.
WAYS = {
    "feed-forward": "feed-forward",
    "average": "average of samples",
    "one sample": "bound of one sample",
    "bound": "bound of many",
}


def rows(result: Result) -> dict[str, list[Run]]:
    """The runs of each training, by its name."""
    found: dict[str, list[Run]] = {}
    for run in result["runs"]:
        rate = f" {run['rate']:g}" if run["rate"] else ""
        found.setdefault(NAMES[run["reading"]] + rate, []).append(run)
    return found


def by_seed(runs: Sequence[Run], way: str) -> dict[int, float]:
    """Bits a character of runs that are read so, by the seed."""
    return {run["seed"]: run["test"][way] for run in runs if way in (run["test"] or {})}


def bits(runs: Sequence[Run], way: str) -> Mean:
    """The mean of these over seeds."""
    return mean([*by_seed(runs, way).values()])


def table(result: Result) -> Grid:
    """Bits a character of the test text, by how a network was trained and how it is read."""
    lines = [
        [name, *(bits(runs, way).told(3) for way in WAYS), str(len(runs))]
        for name, runs in rows(result).items()
    ]
    head = ["trained", *WAYS.values(), "runs"]
    return Grid("Bits a character of the test text: mean ± its standard error", head, lines)


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws for each text the bits a character of the validation text after each epoch, as the
    network was trained, and those of the test text by how it is read.

    Lines and points are means over seeds, bars their standard errors.
    """
    from matplotlib import pyplot

    sets = [report.read(path) for path in results]
    figure, axes = panels(len(sets), 2, (10.5, 0.6 + 3.4 * len(sets)))
    for (left, right), result in zip(axes, sets, strict=True):
        found = rows(result)
        colours = pyplot.get_cmap("viridis")(np.linspace(0, 0.9, len(found)))
        for place, (colour, (name, runs)) in enumerate(zip(colours, found.items(), strict=True)):
            _curve(left, runs, color=colour, label=name)
            _points(right, place, runs)
        left.set(xlabel="epochs", ylabel="bits a character, validation")
        left.legend(fontsize="x-small", frameon=False)
        left.set_title(DATA[result["settings"]["data"]], fontsize="medium", loc="left")
        names = [name.replace(", ", ",\n") for name in found]
        right.set_xticks(range(len(found)), names, fontsize="x-small", rotation=30)
        right.set_ylabel("bits a character, test")
        handles, labels = right.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        right.legend(unique.values(), unique.keys(), fontsize="x-small", frameon=False)
    save(figure, out, description=digest(results), dpi=120)


def _curve(panel: Any, runs: Sequence[Run], **looks: Any) -> None:
    """As far as all runs went."""
    columns = [run["history"]["validation_loss"] for run in runs]
    length = min(map(len, columns))
    values = [[np.nan if v is None else v for v in column[:length]] for column in columns]
    average = np.mean(values, 0) / math.log(2)
    panel.plot(range(1, length + 1), average, linewidth=1.3, **looks)


def _points(panel: Any, place: int, runs: Sequence[Run]) -> None:
    marks = {"feed-forward": "o", "average": "s", "one sample": "v", "bound": "^"}
    for number, (way, mark) in enumerate(marks.items()):
        found = bits(runs, way)
        if found.number:
            error = found.standard_error if found.number > 1 else None
            looks = {"fmt": mark, "color": f"C{number}", "markersize": 4}
            panel.errorbar(
                place + 0.1 * (number - 1.5), found.value, error, **looks, label=WAYS[way]
            )
