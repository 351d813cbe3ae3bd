"""Draws the results of `train.tagging`, from JSON only.

python -m train.figure results/tagging/wnut17/*.json --out figure.png
"""

from collections.abc import Sequence
from pathlib import Path

from train.report.figures import COLOURS, digest, panels, save
from train.tagging.table import DATA, HEADS, REGULARISERS, average, labels, read

SHADES = {**COLOURS, "pcff_tags": "#228833"}
PANELS = (
    ("f1", "entity F1 (%)", 100),
    ("sentences right", "sentences right (%)", 100),
    ("nll per word", "NLL a word (nats)", 1),
    ("ece", "ECE of marginals (%)", 100),
)


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws a row of panels for each corpus and encoder: figures of test sentences, by the law of
    the tags; a colour for each regulariser, bars of one standard error over seeds."""
    found = {labels(result): result for result in map(read, results)}
    rows = list(dict.fromkeys(key[:2] for key in found))
    figure, axes = panels(len(rows), len(PANELS), (15, 0.6 + 3.1 * len(rows)))
    heads = [head for head in HEADS if any(key[2] == head for key in found)]
    present = [name for name in REGULARISERS if any(key[3] == name for key in found)]
    for row, (data, encoder) in zip(axes, rows, strict=True):
        for panel, (name, label, factor) in zip(row, PANELS, strict=True):
            for shift, regulariser in enumerate(present):
                points = [
                    (place, average(result, name))
                    for place, head in enumerate(heads)
                    if (result := found.get((data, encoder, head, regulariser))) is not None
                    and name in result["runs"][0]["test"]
                ]
                places = [place + 0.12 * (shift - (len(present) - 1) / 2) for place, _ in points]
                values = [factor * value.value for _, value in points]
                errors = [factor * value.standard_error for _, value in points]
                panel.errorbar(places, values, errors, fmt="o", color=SHADES[regulariser], ms=4)
            names = [
                HEADS[head].replace(" chain", "\nchain").replace(" a\n", "\na ") for head in heads
            ]
            panel.set_xticks(range(len(heads)), names, fontsize="small")
            panel.set(ylabel=label, xlim=(-0.5, len(heads) - 0.5))
        row[0].set_title(f"{DATA[data]}, {encoder}", fontsize="medium", loc="left")
    from matplotlib import lines

    handles = [
        lines.Line2D([], [], color=SHADES[n], marker="o", linestyle="", label=REGULARISERS[n])
        for n in present
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    save(figure, out, description=digest(results), dpi=120)
