"""Draws the results of `train.observation_density` in the manner of [B] Figure 2, from JSON only.

python -m train.figure results/observation_density/boston/result.json --out figure.png
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.figures import digest, panels, save

TITLES = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one network",
}


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws a column for each model of one result: predicted against simulated labels, and inputs
    projected on the two principal components of the training inputs, coloured by prediction."""
    if len(results) != 1:
        raise ValueError("the figure is of one result; give one file")
    result = json.loads(results[0].read_text())
    models, given = result["models"], result["training examples"]
    figure, axes = panels(2, len(models), (0.8 + 3.5 * len(models), 6.8))
    labels = [v for found in models.values() for v in found["draws"]["label"]] + given["label"]
    span = min(labels), max(labels)
    points: Any = None
    for (top, bottom), (name, found) in zip(axes.T, models.items(), strict=True):
        draws = found["draws"]
        top.plot(span, span, color="#999999", linewidth=1)
        top.plot(draws["predicted"], draws["label"], ".", color="#4477aa", markersize=3, alpha=0.6)
        told = f"R-hat ≤ {found['largest R-hat']:.3f}"
        if not found["converged"]:
            told = f"NOT converged: R-hat {found['largest R-hat']:.2f}"
        top.set_title(f"{TITLES[name]}\n{told}", fontsize="medium")
        top.set(xlabel="predicted label", ylabel="simulated label")
        looks: dict[str, Any] = {"color": "#bbbbbb", "markersize": 4, "label": "training inputs"}
        bottom.plot(given["first component"], given["second component"], "+", **looks)
        looks = {"c": draws["predicted"], "vmin": span[0], "vmax": span[1], "cmap": "viridis"}
        points = bottom.scatter(draws["first component"], draws["second component"], s=6, **looks)
        bottom.set(xlabel="first principal component", ylabel="second")
    figure.colorbar(points, ax=axes[1, -1], label="predicted label")  # of the last column
    axes[1, 0].legend(frameon=False, fontsize="small")
    save(figure, out, description=digest(results), dpi=120)
