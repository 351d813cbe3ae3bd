"""The figure of `train.vae`: log-likelihoods by samples, and what models draw, from JSON only."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.report.figures import COLOURS, digest, panels, save
from train.report.pixels import decoded
from train.report.statistics import mean
from train.report.tables import Run
from train.vae.settings import Cell
from train.vae.table import GRADIENTS, LATENTS, Runs, by_data, by_run, name_of, told_data

_COLOURS = dict(zip(GRADIENTS, COLOURS.values(), strict=True))
_DASHES = {False: "-", True: "--"}  # whether the first epochs are by a cheaper bound


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws results on the same data: the test log-likelihood by the number of samples, learning
    curves, and of either kind of latent nodes what the best model draws, reconstructions, and the
    latent plane. ValueError for results on several sets of data."""
    found = by_data(json.loads(path.read_text()) for path in results)
    if len(found) != 1:
        raise ValueError("the figure is of results on one set of data, binarised in one way")
    ((of, runs),) = found.items()
    best = [(cell, shown) for latent in LATENTS for cell, shown in _best(runs, latent)]
    figure, axes = panels(1 + len(best), 3, (11, 3.2 * (1 + len(best))))
    figure.suptitle(told_data(of))
    _by_samples(axes[0][0], runs)
    _curves(axes[0][1], runs)
    axes[0][2].set_axis_off()
    axes[0][2].legend(*axes[0][0].get_legend_handles_labels(), loc="center", frameon=False)
    for line, (cell, shown) in zip(axes[1:], best, strict=True):
        told = f"{LATENTS[cell.latent]}, {name_of(cell)}"
        _mosaic(line[0], [shown["samples"]], f"{told}: drawn")
        _mosaic(line[1], [shown["images"], shown["reconstructions"]], "test images, reconstructed")
        _plane(line[2], shown)
    save(figure, out, description=digest(results), dpi=110)


def _best(runs: Runs, latent: str) -> list[tuple[Cell, dict[str, Any]]]:
    """The cell of the highest log-likelihood that has pictures, if there is one."""
    found = [
        (mean([*by_run(runs, cell).values()]).value, cell, run["pictures"])
        for cell, some in runs.items()
        for run in some
        if cell.latent == latent and run["pictures"] and run["test"]
    ]
    return [max(found, key=lambda each: each[0])[1:]] if found else []


def _by_samples(panel: Any, runs: Runs) -> None:
    tested = sorted(cell for cell in runs if by_run(runs, cell))
    for (gradient, words), first in itertools.product(GRADIENTS.items(), (False, True)):
        cells = [c for c in tested if c.gradient == gradient and bool(c.first_epochs) == first]
        if cells:
            means = [mean([*by_run(runs, cell).values()]) for cell in cells]
            label = f"{LATENTS[cells[0].latent]}, {words}"
            label += ", few samples first" if first else ""
            panel.errorbar(
                [cell.samples for cell in cells],
                [each.value for each in means],
                [np.nan_to_num(each.standard_error) for each in means],
                marker="o",
                linestyle=_DASHES[first],
                capsize=3,
                color=_COLOURS[gradient],
                label=label,
            )
    samples = sorted({cell.samples for cell in runs})
    panel.set_xscale("log")
    panel.set_xticks(samples, [str(k) for k in samples])
    panel.minorticks_off()
    panel.set_xlabel("samples in training, K")
    panel.set_ylabel("test log-likelihood, nats")


def _curves(panel: Any, runs: Runs) -> None:
    """Validation bounds of the first seed, each of as many samples as are trained by."""
    ends: list[float] = []
    for cell, some in runs.items():
        values = _bounds(some[0])
        ends += [value for value in values[len(values) // 10 :] if np.isfinite(value)]
        width = 1 + np.log10(cell.samples)
        style = {"color": _COLOURS[cell.gradient], "linestyle": _DASHES[bool(cell.first_epochs)]}
        panel.plot(1 + np.arange(len(values)), values, lw=width, **style)
    if ends:
        panel.set_ylim(min(ends), max(ends) + 0.05 * (max(ends) - min(ends)) + 1e-6)
    panel.set_xlabel("epoch")
    panel.set_ylabel("validation bound, nats (thicker: larger K)")


def _bounds(run: Run) -> list[float]:
    return [np.nan if v is None else -v for v in run["history"]["validation_loss"]]


def _mosaic(panel: Any, rows: list[list[str]], title: str) -> None:
    """Images side by side, five in a line, where there are two kinds one below the other."""
    lines = [kind[start : start + 5] for start in range(0, len(rows[0]), 5) for kind in rows]
    blank = np.zeros_like(decoded(rows[0][0]))

    def padded(line: list[str]) -> np.ndarray:
        images = [decoded(text) for text in line]
        return np.concatenate([*images, *[blank] * (5 - len(images))], axis=1)

    panel.imshow(np.concatenate([padded(line) for line in lines]), cmap="gray", vmin=0, vmax=1)
    panel.set_title(title, fontsize="small")
    panel.set_axis_off()


def _plane(panel: Any, shown: dict[str, Any]) -> None:
    plane = np.array(shown["plane"])
    panel.scatter(*plane.T, c=shown["classes"], cmap="tab10", vmin=0, vmax=9, s=6)
    panel.set_title("latent plane: two principal axes, by class", fontsize="small")
    panel.set_xticks([])
    panel.set_yticks([])
