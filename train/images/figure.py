"""The figure of `train.images`: learning curves of one or more results, from JSON only."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train.images.table import METHODS
from train.report.figures import digest, panels, save

_CURVES = {"validation_error": "validation error (%)", "validation_loss": "validation NLL"}


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws error and NLL of validation images by the epoch, a line for each run and a colour for
    each result. ValueError for results on several sets of data."""
    found = [json.loads(path.read_text()) for path in results]
    sets = {result["settings"]["data"] for result in found}
    if len(sets) != 1:
        raise ValueError(f"the figure is of results on one set of data, got {', '.join(sets)}")
    figure, axes = panels(1, len(_CURVES), (9, 3.6))
    figure.suptitle(found[0]["data"].partition(",")[0])
    for number, result in enumerate(found):
        settings = result["settings"]
        words = settings["network"], METHODS[settings["method"]], f"norm {settings['norm']}"
        for panel, name in zip(axes.flat, _CURVES, strict=True):
            for run in result["runs"]:
                values = np.array(run["history"][name], float)
                factor = 100 if name.endswith("error") else 1
                label = ", ".join(words) if run is result["runs"][0] else None
                epochs = np.arange(1, len(values) + 1)
                panel.plot(epochs, factor * values, color=f"C{number}", label=label)
            panel.set(xlabel="epoch", ylabel=_CURVES[name])
    axes.flat[0].legend(fontsize="small", frameon=False)
    save(figure, out, description=digest(results))
