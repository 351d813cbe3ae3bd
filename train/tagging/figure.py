"""Draws the results of `train.tagging`, from JSON only.

python -m train.figure results/tagging/wnut17/*.json --out figure.png
"""

from collections.abc import Sequence
from pathlib import Path

from train.report.figures import COLOURS, digest, panels, save
from train.tagging.table import DATA, ENCODERS, HEADS, REGULARISERS, average, by_data, labels, read

SHADES = {**COLOURS, "pcff_tags": "#228833"}
PANELS = (
    ("sentences right", "sentences right (%)", 100),
    ("nll per word", "NLL a word (nats)", 1),
    ("ece", "ECE of marginals (%)", 100),
)
# The first panel: of entities where the tags are of them, else of words.
ENTITIES, WORDS = ("f1", "entity F1 (%)", 100), ("error", "tags wrong (%)", 100)


def draw(results: Sequence[Path], out: Path) -> None:
    """Draws a row of panels for each corpus and encoder: figures of test sentences, by the law of
    the tags; a colour for each regulariser, bars of one standard error over seeds."""
    cells = [cell for same in by_data([read(path) for path in results]).values() for cell in same]
    found = {labels(cell): cell for cell in cells}
    rows = list(dict.fromkeys(key[:2] for key in found))
    figure, axes = panels(len(rows), 1 + len(PANELS), (15, 0.6 + 3.1 * len(rows)))
    present = [name for name in REGULARISERS if any(key[3] == name for key in found)]
    for row, (data, encoder) in zip(axes, rows, strict=True):
        known = {key[2:]: cell for key, cell in found.items() if key[:2] == (data, encoder)}
        heads = [head for head in HEADS if any(head == other for other, _ in known)]
        of_entities = all("f1" in run["test"] for cell in known.values() for run in cell["runs"])
        shown = (ENTITIES if of_entities else WORDS), *PANELS
        for panel, (name, label, factor) in zip(row, shown, strict=True):
            for shift, regulariser in enumerate(present):
                points = [
                    (place + 0.12 * (shift - (len(present) - 1) / 2), average(cell, name))
                    for place, head in enumerate(heads)
                    if (cell := known.get((head, regulariser))) is not None
                ]
                values = [factor * value.value for _, value in points]
                errors = [factor * value.standard_error for _, value in points]
                looks = {"fmt": "o", "color": SHADES[regulariser], "markersize": 4}
                panel.errorbar([place for place, _ in points], values, errors, **looks)
            names = [HEADS[head].replace(" ", "\n", 1) for head in heads]
            panel.set_xticks(range(len(heads)), names, fontsize="small")
            panel.set(ylabel=label, xlim=(-0.5, len(heads) - 0.5))
        row[0].set_title(f"{DATA[data]}, {ENCODERS[encoder]}", fontsize="medium", loc="left")
    from matplotlib import lines

    handles = [
        lines.Line2D([], [], color=SHADES[n], marker="o", linestyle="", label=REGULARISERS[n])
        for n in present
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    save(figure, out, description=digest(results), dpi=120)
