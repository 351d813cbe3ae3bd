"""Draws the results of `train.dense` in the manner of [A] Figure 4 left. It reads JSON only.

python -m train.dense.figure results/dense/mnist/result.json ... --out figure.png
"""

import json
from collections.abc import Sequence
from pathlib import Path

from train.report import commandline
from train.report import tables as report
from train.report.files import write_atomic

COLOURS = {"none": "#9aa0a6", "dropout": "#4477aa", "pcff": "#cc6677", "both": "#8a5fb0"}
LABELS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}
TITLES = {"digits": "digits (8x8)", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws test errors: one panel for each data set, one group of bars for each node family.

    Bars are means over seeds, lines standard errors, points the single runs.

    Args:
        results: files that `train.dense` has written.
        out: the picture to write; its suffix decides the format.
    """
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import patches, pyplot

    sets = report.merged([json.loads(path.read_text()) for path in results])
    figure, axes = pyplot.subplots(
        1, len(sets), figsize=(2 + 3.2 * len(sets), 3.4), squeeze=False, layout="constrained"
    )
    for panel, result in zip(axes[0], sets, strict=True):
        _panel(panel, result)
    drawn = {run["regulariser"] for result in sets for run in result["runs"]}
    handles = [
        patches.Patch(color=COLOURS[regulariser], label=label)
        for regulariser, label in LABELS.items()
        if regulariser in drawn
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lstrip(".") or "png", dpi=150)
    pyplot.close(figure)
    write_atomic(out, buffer.getvalue())


def _panel(panel, result) -> None:
    rows = report.rows(result)
    families = list(dict.fromkeys(nodes for nodes, _, _ in rows))
    regularisers = list(dict.fromkeys(regulariser for _, regulariser, _ in rows))
    width = 0.8 / len(regularisers)
    highest = 0.0
    for nodes, regulariser, runs in rows:
        errors = [100 * run["test"]["error"] for run in runs if run["test"] is not None]
        offset = (regularisers.index(regulariser) - (len(regularisers) - 1) / 2) * width
        place = families.index(nodes) + offset
        average = report.mean(errors)
        if not errors:
            continue
        highest = max(highest, *errors)
        panel.bar(
            place,
            average.value,
            0.9 * width,
            yerr=average.standard_error if len(errors) > 1 else None,
            color=COLOURS[regulariser],
            error_kw={"capsize": 3, "linewidth": 1},
        )
        panel.plot([place] * len(errors), errors, "k.", markersize=3)
    panel.set_xticks(range(len(families)), families)
    panel.set_ylim(0, 1.15 * highest if highest else 1)
    panel.set_ylabel("test error (%)")
    panel.set_title(TITLES.get(result["settings"]["data"], ""), fontsize="medium")
    panel.spines[["top", "right"]].set_visible(False)


def cli() -> None:
    """The command line."""
    import tyro

    def arguments(results: tuple[Path, ...], /, out: Path = Path("figure.png")) -> None:
        """Draws the results of train.dense.

        Args:
            results: the files result.json to draw, one panel for each data set.
            out: the picture to write.
        """
        with commandline.drawing():
            draw(results, out)

    tyro.cli(arguments, prog="python -m train.dense.figure")


if __name__ == "__main__":
    cli()
