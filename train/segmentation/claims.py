"""What [A] says of components whose nodes touch, and what became of it."""

import json
from pathlib import Path

from train.report.claims import ABSENT, Claim, judged
from train.report.statistics import paired
from train.segmentation.figure import NAMES

SOURCE = "[A] section 3: pixels that touch"
COMMAND = "python -m train.segmentation --data mnist --data-dir FOLDER"
# What is claimed, and the models whose difference of a figure is to be below 0.
CLAIMS = (
    (
        "A last component whose nodes touch is beneficial for segmentation: fewer wrong pixels "
        "than where each is decided alone",
        ("belief_propagation", "unary"),
        "error",
    ),
    (
        "Which approximate inference it takes matters: belief propagation leaves fewer nats a "
        "pixel than mean field",
        ("belief_propagation", "mean_field"),
        "nll",
    ),
)


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results; each set of images and height is a case."""
    loaded = [json.loads(p.read_text()) for p in sorted(results.glob("segmentation/*/result.json"))]
    made = []
    for text, (one, other), figure in CLAIMS:
        differences = {
            f"{result['settings']['data']} of {result['sizes']['height']} rows": paired(
                result["models"][one][figure], result["models"][other][figure]
            )
            for result in loaded
            if one in result["models"] and other in result["models"]
        }
        verdict, evidence = ABSENT, "-"
        if differences:
            factor, digits = (100, 2) if figure == "error" else (1, 4)
            verdict = judged([difference.sign for difference in differences.values()], -1)
            told = ", ".join(
                f"{name} {difference.told(digits, factor, signed=True)}"
                for name, difference in differences.items()
            )
            unit = "points" if figure == "error" else "nats a pixel"
            evidence = f"{NAMES[one]} less {NAMES[other]}, {unit}: {told}"
        made.append(Claim(SOURCE, text, verdict, evidence, COMMAND))
    return made
