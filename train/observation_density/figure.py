"""Draws the results of `train.observation_density` in the manner of [B] Figure 2, from JSON only.

python -m train.observation_density.figure results/observation_density/boston/result.json
"""

import json
from pathlib import Path
from typing import Any

from train.report import commandline
from train.report.files import write_atomic

TITLES = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one network",
}


def draw(path: Path, out: Path) -> None:
    """Draws a column for each model: predicted against simulated labels, and inputs projected on
    the two principal components of the training inputs, coloured by prediction.

    Args:
        path: a file that `train.observation_density` has written.
        out: the picture to write; its suffix decides the format.
    """
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    result = json.loads(path.read_text())
    models = result["models"]
    given = result["training examples"]
    figure, axes = pyplot.subplots(
        2, len(models), figsize=(0.8 + 3.5 * len(models), 6.8), squeeze=False, layout="constrained"
    )
    labels = [v for found in models.values() for v in found["draws"]["label"]] + given["label"]
    low, high = min(labels), max(labels)
    for column, (name, found) in enumerate(models.items()):
        draws = found["draws"]
        top, bottom = axes[:, column]
        top.plot([low, high], [low, high], color="#999999", linewidth=1)
        top.plot(draws["predicted"], draws["label"], ".", color="#4477aa", markersize=3, alpha=0.6)
        told = f"R-hat ≤ {found['largest R-hat']:.3f}"
        if not found["converged"]:
            told = f"NOT converged: R-hat {found['largest R-hat']:.2f}"
        top.set_title(f"{TITLES[name]}\n{told}", fontsize="medium")
        top.set_xlabel("predicted label")
        top.set_ylabel("simulated label")
        bottom.plot(
            given["first component"],
            given["second component"],
            "+",
            color="#bbbbbb",
            markersize=4,
            label="training inputs",
        )
        points = bottom.scatter(
            draws["first component"],
            draws["second component"],
            c=draws["predicted"],
            s=6,
            cmap="viridis",
            vmin=low,
            vmax=high,
        )
        bottom.set_xlabel("first principal component")
        bottom.set_ylabel("second")
        _plain(top, bottom)
        if column == len(models) - 1:
            figure.colorbar(points, ax=bottom, label="predicted label")
    axes[1, 0].legend(frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lstrip(".") or "png", dpi=120)
    pyplot.close(figure)
    write_atomic(out, buffer.getvalue())


def _plain(*panels: Any) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)


def cli() -> None:
    """The command line."""
    import tyro

    def arguments(result: Path, /, out: Path = Path("figure.png")) -> None:
        """Draws the results of train.observation_density.

        Args:
            result: the file result.json to draw.
            out: the picture to write.
        """
        with commandline.drawing():
            draw(result, out)

    tyro.cli(arguments, prog="python -m train.observation_density.figure")


if __name__ == "__main__":
    cli()
