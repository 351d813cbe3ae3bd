"""Draws the results of `train.resnet` and `train.indrnn` in the manner of [A] Figure 4 right.

It reads JSON only: python -m train.sweep_figure results/resnet/result.json --out figure.png
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train import commandline, report
from train.dense_figure import COLOURS, LABELS
from train.files import write_atomic


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws test errors against the rate, one panel for each experiment and setting of it. Dropout
    and PCFF together are a line over PCFF's rate for each drop rate.

    Points are means over seeds with their standard errors, small points the single runs; the line
    across is the network without regularisation.

    Args:
        results: files that the experiments have written. Seeds may have been trained apart.
        out: the picture to write; its suffix decides the format.
    """
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    sets: dict[str, list[dict[str, Any]]] = {}
    for path in results:
        result = json.loads(path.read_text())
        sets.setdefault(title(result), []).append(result)
    figure, axes = pyplot.subplots(
        1, len(sets), figsize=(1 + 4 * len(sets), 3.4), squeeze=False, layout="constrained"
    )
    for panel, (name, same) in zip(axes[0], sets.items(), strict=True):
        for result in report.merged(same):
            _panel(panel, result)
        panel.set_title(name, fontsize="medium")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lstrip(".") or "png", dpi=150)
    pyplot.close(figure)
    write_atomic(out, buffer.getvalue())


def title(result: dict[str, Any]) -> str:
    """The heading of a result's panel."""
    settings = result["settings"]
    parts = [settings[name] for name in ("data", "order", "shortcut") if name in settings]
    return ", ".join(parts)


def _panel(panel: Any, result: dict[str, Any]) -> None:
    means: dict[tuple[str, str], list[tuple[float, report.Mean]]] = {}
    for regulariser, told, runs in report.rows(result):
        drop, _, rate = told.rpartition(" + ")
        label = f"dropout {drop} + PCFF" if drop else LABELS[regulariser]
        errors = [100 * run["test"]["error"] for run in runs if run["test"] is not None]
        if not errors:
            continue
        means.setdefault((regulariser, label), []).append((float(rate), report.mean(errors)))
        if regulariser != "none":
            panel.plot([float(rate)] * len(errors), errors, ".", color="k", markersize=3)
    styles = itertools.cycle(["-", "--", ":", "-."])
    for (regulariser, label), found in means.items():
        colour = COLOURS[regulariser]
        if regulariser == "none":
            mean = found[0][1]
            panel.axhline(mean.value, color=colour, label=label)
            if mean.seeds > 1:
                low, high = (mean.value + s * mean.standard_error for s in (-1, 1))
                panel.axhspan(low, high, color=colour, alpha=0.25, linewidth=0)
            continue
        rates = [rate for rate, _ in found]
        values = [mean.value for _, mean in found]
        bars = [mean.standard_error if mean.seeds > 1 else 0.0 for _, mean in found]
        style = next(styles) if regulariser == "both" else "-"
        panel.errorbar(
            rates, values, bars, marker="o", capsize=3, color=colour, label=label, linestyle=style
        )
    panel.set_xlabel("rate")
    panel.set_ylabel("test error (%)")
    panel.spines[["top", "right"]].set_visible(False)


def cli() -> None:
    """The command line."""
    import tyro

    def arguments(results: tuple[Path, ...], /, out: Path = Path("figure.png")) -> None:
        """Draws the results of train.resnet and train.indrnn.

        Args:
            results: the files result.json to draw.
            out: the picture to write.
        """
        with commandline.drawing():
            draw(results, out)

    tyro.cli(arguments, prog="python -m train.sweep_figure")


if __name__ == "__main__":
    cli()
