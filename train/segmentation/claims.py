"""What [A] says of components whose nodes touch, and what became of it."""

import json
from pathlib import Path

from train.report import claims as judge
from train.report.claims import Claim, judged
from train.report.statistics import paired
from train.segmentation.figure import NAMES

SOURCE = "[A] section 3: pixels that touch"
COMMAND = "python -m train.segmentation --data mnist --data-dir FOLDER"
# Two models, the difference of which in a figure is claimed to be below 0.
CLAIMS = {
    ("belief_propagation", "unary", "error"): "A last component whose nodes touch is beneficial "
    "for segmentation: fewer wrong pixels than where each is decided alone",
    ("belief_propagation", "mean_field", "nll"): "Which approximate inference it takes matters: "
    "belief propagation leaves fewer nats a pixel than mean field",
}
UNITS = {"error": (100, 2, "points"), "nll": (1, 4, "nats a pixel")}  # factor, digits, unit


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results; each set of images and height is a case."""
    loaded = [json.loads(p.read_text()) for p in sorted(results.glob("segmentation/*/result.json"))]
    made = []
    for (one, other, figure), text in CLAIMS.items():
        differences = {
            f"{result['settings']['data']} of {result['sizes']['height']} rows": paired(
                result["models"][one][figure], result["models"][other][figure]
            )
            for result in loaded
            if {one, other} <= result["models"].keys()
        }
        factor, digits, unit = UNITS[figure]
        told = judge.told(differences, digits, factor)
        verdict = judged([difference.sign for difference in differences.values()], -1)
        evidence = f"{NAMES[one]} less {NAMES[other]}, {unit}: {told}" if differences else "-"
        made.append(Claim(SOURCE, text, verdict, evidence, COMMAND))
    return made
