"""Draws the results of `train.dense` in the manner of [A] Figure 4 left. It reads JSON only.

python -m train.figure results/dense/*/*/result.json --out figure.png
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.figures import COLOURS, digest, panels, save
from train.report.statistics import mean
from train.report.tables import DATA, REGULARISERS, merged, read, rows


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws test errors: one panel for each data set, one group of bars for each node family.

    Bars are means over seeds, lines standard errors, points the single runs.
    """
    sets = merged([read(path) for path in results])
    figure, axes = panels(1, len(sets), (2 + 3.2 * len(sets), 3.4))
    from matplotlib import patches

    for panel, result in zip(axes[0], sets, strict=True):
        _panel(panel, result)
    drawn = {run["regulariser"] for result in sets for run in result["runs"]}
    looks = {label: COLOURS[name] for name, label in REGULARISERS.items() if name in drawn}
    handles = [patches.Patch(color=colour, label=label) for label, colour in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    save(figure, out, description=digest(results))


def _panel(panel: Any, result: dict[str, Any]) -> None:
    found = rows(result)
    families = list(dict.fromkeys(nodes for nodes, _, _ in found))
    regularisers = list(dict.fromkeys(regulariser for _, regulariser, _ in found))
    width = 0.8 / len(regularisers)
    highest = 0.0
    for nodes, regulariser, runs in found:
        errors = [100 * run["test"]["error"] for run in runs if run["test"] is not None]
        if not errors:
            continue
        offset = (regularisers.index(regulariser) - (len(regularisers) - 1) / 2) * width
        place, average = families.index(nodes) + offset, mean(errors)
        highest = max(highest, *errors)
        error = average.standard_error if len(errors) > 1 else None
        looks = {"color": COLOURS[regulariser], "error_kw": {"capsize": 3, "linewidth": 1}}
        panel.bar(place, average.value, 0.9 * width, yerr=error, **looks)
        panel.plot([place] * len(errors), errors, "k.", markersize=3)
    panel.set_xticks(range(len(families)), families)
    panel.set(ylim=(0, 1.15 * highest if highest else 1), ylabel="test error (%)")
    panel.set_title(DATA[result["settings"]["data"]], fontsize="medium")
