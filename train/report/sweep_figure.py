"""Draws results of `train.resnet` and `train.indrnn`: errors in the manner of [A] Figure 4 right,
and learning curves.

python -m train.figure results/resnet/*/result.json --out figure.png --curves curves.png
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.engine.recipes import PatientRecipe, SteppedRecipe
from train.indrnn.published import Log, log_beside
from train.report import tables as report
from train.report.figures import COLOURS, digest, panels, save
from train.report.statistics import Mean, mean
from train.report.tables import REGULARISERS

# Of the whole data sets, without those for validation.
TRAINING_IMAGES = {"cifar10": 45_000, "mnist": 57_000, "fashion_mnist": 57_000, "digits": 1368}
PARTS = {"validation": "validation", "train": "training"}


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws test errors against the rate, one panel for each experiment and setting of it. Dropout
    and PCFF together are a line over PCFF's rate for each drop rate.

    Points are means over seeds with their standard errors, small points the single runs; the line
    across is the network without regularisation. Seeds may have been trained apart.
    """
    sets = report.merged_by_settings([report.read(path) for path in results])
    figure, axes = panels(1, len(sets), (1 + 4 * len(sets), 3.4))
    drawn: dict[str, Any] = {}
    for panel, result in zip(axes[0], sets, strict=True):
        _panel(panel, result)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            drawn.setdefault(label, handle)
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=3, frameon=False)
    save(figure, out, description=digest(results))


def draw_curves(results: Sequence[Path], out: Path) -> None:
    """Draws errors by number of updates, one column of panels for each experiment and setting.

    Above is the error on validation images, below that on the batches of training, as it was
    while the weights changed: a mean over an epoch, drawn at its end. A line is the mean over the
    seeds of a regulariser and rate, up to the epoch where the first of them ends. Where the authors
    of IndRNN have logged the same network, with dropout 0.1, their points stand beside it, up to
    ten times as many updates; in their first epoch, those of training are means over a hundred.
    """
    sets = report.merged_by_settings([report.read(path) for path in results])
    figure, axes = panels(2, len(sets), (1 + 4 * len(sets), 6.4), sharex="col", sharey="col")
    for column, result in zip(axes.T, sets, strict=True):
        for panel, part in zip(column, PARTS, strict=True):
            _curves(panel, result, part)
        column[0].set_ylim(bottom=0)
        _titled(column[0], result)
        column[0].legend(fontsize="x-small", frameon=False, ncols=1 + len(column[0].lines) // 8)
        column[-1].set_xlabel("updates")
    save(figure, out, description=digest(results))


def title(result: dict[str, Any]) -> str:
    """The heading of a result's panel."""
    settings = result["settings"]
    return ", ".join(settings[n] for n in ("data", "order", "shortcut") if n in settings)


def schedule(result: dict[str, Any]) -> str:
    """On how much a result's runs were trained, and for how long."""
    epochs = sorted({run["epochs"] for run in result["runs"]})
    many = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"
    return f"{result['settings'].get('images') or 'all'} training images, {many} epochs"


def updates(result: dict[str, Any]) -> int:
    """The updates of an epoch of a result's runs."""
    settings = result["settings"]
    known = TRAINING_IMAGES[settings["data"]]
    recipe = SteppedRecipe if "length" in settings["recipe"] else PatientRecipe
    return recipe(**settings["recipe"]).steps(min(settings.get("images") or known, known))


def history(runs: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """The mean over runs of a figure of each epoch, up to where the first run ends: an array
    [epochs], not a number where a run had none."""
    epochs = min(len(run["history"][name]) for run in runs)
    columns = [run["history"][name][:epochs] for run in runs]
    return np.mean(np.array(columns, np.float64), axis=0)  # None becomes not a number


def _rate(told: str) -> float:
    """The rate of a row of the results; that of PCFF where dropout is beside it."""
    return float(told.rpartition(" + ")[2])


def _titled(panel: Any, result: dict[str, Any]) -> None:
    panel.set_title(f"{title(result)}\n{schedule(result)}", fontsize="medium")


def _panel(panel: Any, result: dict[str, Any]) -> None:
    means: dict[tuple[str, str], list[tuple[float, Mean]]] = {}
    for regulariser, told, runs in report.rows(result):
        drop, rate = told.rpartition(" + ")[0], _rate(told)
        label = f"dropout {drop} + PCFF" if drop else REGULARISERS[regulariser]
        errors = [100 * run["test"]["error"] for run in runs if run["test"] is not None]
        if not errors:
            continue
        means.setdefault((regulariser, label), []).append((rate, mean(errors)))
        if regulariser != "none":
            panel.plot([rate] * len(errors), errors, ".", color="k", markersize=3)
    styles = itertools.cycle(["-", "--", ":", "-."])
    for (regulariser, label), found in means.items():
        colour = COLOURS[regulariser]
        if regulariser == "none":
            level = found[0][1]
            panel.axhline(level.value, color=colour, label=label)
            if level.number > 1:
                low, high = (level.value + s * level.standard_error for s in (-1, 1))
                panel.axhspan(low, high, color=colour, alpha=0.25, linewidth=0)
            continue
        rates, levels = zip(*sorted(found), strict=True)
        bars = [level.standard_error if level.number > 1 else 0.0 for level in levels]
        style = next(styles) if regulariser == "both" else "-"
        looks = {"marker": "o", "capsize": 3, "color": colour, "linestyle": style}
        panel.errorbar(rates, [level.value for level in levels], bars, label=label, **looks)
    rates = [rate for found in means.values() for rate, _ in found]
    panel.set(xlim=(0, 1.1 * max([*rates, 0.1])), xlabel="rate", ylabel="test error (%)")
    _titled(panel, result)


def _curves(panel: Any, result: dict[str, Any], part: str) -> None:
    per_epoch, last = updates(result), 0
    rates: dict[str, list[float]] = {}
    for regulariser, told, _ in report.rows(result):
        rates.setdefault(regulariser, []).append(_rate(told))
    for regulariser, told, runs in report.rows(result):
        errors = 100 * history(runs, f"{part}_error")
        at = per_epoch * np.arange(1, len(errors) + 1)
        last = max(last, int(at[-1]))
        panel.plot(
            at,
            errors,
            color=_shade(COLOURS[regulariser], _rate(told), rates[regulariser]),
            marker="." if len(errors) < 30 else None,
            label=REGULARISERS[regulariser] + (f" {told}" if _rate(told) else ""),
        )
    log = log_beside(result["settings"])
    if log is not None:
        known = _logged(log, part, per_epoch, 10 * last)
        errors = [100 * (1 - accuracy) for accuracy in known.values()]
        looks = {"color": "k", "markersize": 5, "label": "authors of IndRNN, dropout 0.1"}
        panel.plot(list(known), errors, "x", **looks)
        panel.set_xscale("log")
    panel.set_ylabel(f"{PARTS[part]} error (%)")


def _logged(log: Log, part: str, per_epoch: int, last: int) -> dict[int, float]:
    """Accuracies of a log by number of updates; of two means that end at the same, the one whose
    span is nearer to ours."""
    known: dict[int, float] = {}
    for point in sorted(log.points, key=lambda p: abs(math.log(p.span / per_epoch))):
        accuracy = point.training if part == "train" else point.validation
        if accuracy is not None and point.updates <= last:
            known.setdefault(point.updates, accuracy)
    return known


def _shade(colour: str, rate: float, rates: Sequence[float]) -> tuple[float, ...]:
    """The colour of a regulariser, the lighter the smaller the rate among its rates."""
    from matplotlib import colors

    ranks = sorted(rates)
    part = ranks.index(rate) / (len(ranks) - 1) if len(ranks) > 1 else 1.0
    white = 0.6 * (1 - part)
    return tuple(white + (1 - white) * c for c in colors.to_rgb(colour))
