"""What results of `train.gan` show: figures by divergence, and what is generated, from JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.engine.loop import DIVERGED, STATUS
from train.report.figures import digest, panels, save
from train.report.pixels import decoded
from train.report.results import Result
from train.report.statistics import Mean, mean
from train.report.tables import Grid, Run

NAMES = {
    "kl": "KL(real, generated)",
    "reverse_kl": "KL(generated, real)",
    "pearson": "Pearson",
    "hellinger": "squared Hellinger",
    "jensen_shannon": "Jensen-Shannon",
    "gan": "GAN",
    "non_saturating": "GAN, non-saturating",
    "hinge": "hinge",
    "wasserstein": "Wasserstein",
}
# Name in the JSON, heading, factor, decimal places; of distances, of any size, digits.
OF_RING = (
    ("modes", "modes of 8", 1, 2),
    ("within", "within 3 deviations %", 100, 1),
    ("least", "smallest mode, % of its share", 100, 0),
    ("distance", "energy distance × 1000", 1000, 3),
)
OF_IMAGES = (
    ("classes", "digits of 10", 1, 2),
    ("entropy", "entropy of digits, nats", 1, 3),
    ("frechet", "Fréchet distance", 1, 2),
    ("distance", "energy distance × 1000", 1000, 3),
)


def rows(result: Result) -> dict[str, list[Run]]:
    """The runs of each divergence."""
    found: dict[str, list[Run]] = {}
    for run in result["runs"]:
        found.setdefault(run["divergence"], []).append(run)
    return found


def by_seed(runs: Sequence[Run], figure: str) -> dict[int, float]:
    """A figure of the runs that have one, by the seed."""
    return {run["seed"]: run["test"][figure] for run in runs if run["test"] is not None}


def average(runs: Sequence[Run], figure: str) -> Mean:
    """Over seeds."""
    return mean([*by_seed(runs, figure).values()])


def diverged(runs: Sequence[Run]) -> int:
    """How many runs ended since their loss was no number; their figures are of the epoch before."""
    return sum(run["status"] == STATUS[DIVERGED] for run in runs)


def table(result: Result) -> Grid:
    """Figures of what is generated, by the divergence that was learnt from."""
    ring = result["settings"]["data"] == "ring"
    columns = OF_RING if ring else OF_IMAGES
    lines = []
    for name, runs in rows(result).items():
        cells = [
            average(runs, figure).told(places, factor, style="g" if figure == "distance" else "f")
            for figure, _, factor, places in columns
        ]
        lines.append([NAMES[name], *cells, str(diverged(runs)), str(len(runs))])
    if not ring:
        real = next(run["real"] for run in result["runs"] if "real" in run)
        known = [real.get(figure) for figure, *_ in columns]
        told = [
            "-" if value is None else f"{factor * value:.{places}f}"
            for value, (_, _, factor, places) in zip(known, columns, strict=True)
        ]
        lines.append(["test images", *told, "-", "-"])
    head = ["learnt from", *(heading for _, heading, _, _ in columns), "diverged", "runs"]
    number = result["settings"]["samples"]
    return Grid(f"{number} samples of each run: mean ± its standard error", head, lines)


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws what the first seed's generators make, by divergence: points of the ring with circles
    of three deviations around the modes, or a row of images each."""
    if len(results) != 1:
        raise ValueError("the figure is of one result; give one file")
    result = json.loads(results[0].read_text())
    made = {run["divergence"]: run["samples"] for run in result["runs"] if run.get("samples")}
    if not made:
        raise ValueError(f"{results[0]} has no samples to draw")
    draw_made = _ring if result["settings"]["data"] == "ring" else _images
    save(draw_made(made), out, description=digest(results), dpi=120)


def _ring(made: dict[str, Any]) -> Any:
    from train.gan.training import CENTRES

    columns = min(3, len(made))
    lines = -(-len(made) // columns)
    figure, axes = panels(lines, columns, (2.7 * columns, 2.9 * lines))
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, (name, points) in zip(axes.flat, made.items(), strict=False):
        x, y = np.transpose(points)
        panel.plot(*CENTRES.T, "o", color="none", markeredgecolor="#cc6677", markersize=9)
        panel.plot(x, y, ".", color="#4477aa", markersize=1.5)
        panel.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
        panel.set_title(NAMES[name], fontsize="small")
    return figure


def _images(made: dict[str, Any]) -> Any:
    shown = min(map(len, made.values()))
    figure, axes = panels(len(made), 1, (0.62 * shown + 1.9, 0.62 * len(made)))
    for (panel,), (name, images) in zip(axes, made.items(), strict=True):
        padded = [np.pad(decoded(text), ((0, 0), (0, 1))) for text in images[:shown]]
        beside = np.concatenate(padded, 1)
        panel.imshow(beside, cmap="gray", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[], anchor="E")
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.set_ylabel(NAMES[name], rotation=0, ha="right", va="center", fontsize="small")
    return figure
