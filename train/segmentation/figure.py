"""What results of `train.segmentation` show: the table of errors, and pictures, from JSON only."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.report.figures import digest, panels, save
from train.report.statistics import mean, paired
from train.report.tables import Grid

NAMES = {
    "unary": "each pixel alone",
    "mean_field": "mean field",
    "belief_propagation": "belief propagation",
    "exact": "exact",
}


def errors(result: dict[str, Any]) -> Grid:
    """Wrong pixels and nats a pixel: mean over seeds ± standard error, and the differences from the
    first model."""
    models = result["models"]
    first = next(iter(models))

    def cells(name: str) -> list[str]:
        found = models[name]
        wrong, nats = (mean(list(found[figure].values())) for figure in ("error", "nll"))
        less = ["-", "-"]
        if name != first:
            less = [
                paired(found[figure], models[first][figure]).told(digits, factor, signed=True)
                for figure, digits, factor in (("error", 2, 100), ("nll", 4, 1))
            ]
        return [NAMES[name], wrong.told(2, 100), less[0], nats.told(4), less[1]]

    return Grid(
        f"Test images, {len(result['settings']['seeds'])} seeds: mean ± its standard error",
        ["marginals", "wrong pixels %", "difference", "nats a pixel", "difference"],
        [cells(name) for name in models],
    )


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws test images of one result: with noise, the marginals of each model, and without."""
    if len(results) != 1:
        raise ValueError("the figure is of one result; give one file")
    result = json.loads(results[0].read_text())
    images, models = result["images"], result["models"]
    columns = [("with noise", images["noisy"])]
    columns += [(NAMES[name], found["white"]) for name, found in models.items()]
    columns += [("true", images["true"])]
    first = images["true"][0]
    height = max(len(first) / len(first[0]), 0.4)
    size = 1.3 * len(columns), 1.5 * len(images["true"]) * height
    figure, axes = panels(len(images["true"]), len(columns), size)
    for row, line in enumerate(axes):
        for panel, (title, pictures) in zip(line, columns, strict=True):
            panel.imshow(pictures[row], cmap="gray", vmin=0, vmax=1)
            panel.set_axis_off()
            if row == 0:
                panel.set_title(title, fontsize="small")
    save(figure, out, description=digest(results), dpi=120)
