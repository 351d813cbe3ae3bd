"""What simulated examples say about the claims of [B] 4.2, Figure 2."""

import json
from pathlib import Path
from typing import Any

from train.report.claims import Claim, judged
from train.report.statistics import paired

SOURCE = "[B] Figure 2: examples that a network expects"
COMMAND = "python -m train.observation_density --data boston --data-dir FOLDER"
FIGURES = {
    "label - prediction": "distances from the diagonal",
    "spread of inputs": "spreads relative to the prior's",
}
# Two models, the difference of which in a figure is claimed to be below 0.
CLAIMS = {
    ("moments", "network", "label - prediction"): "Observations of a network trained by moments "
    "lie closer to the diagonal of predicted and simulated labels than those of independently "
    "trained networks",
    ("ensemble", "network", "label - prediction"): "An ensemble's observations lie closer to the "
    "diagonal than a single network's",
    ("moments", "network", "spread of inputs"): "A network trained by moments gathers its "
    "observations where its predictions incur less loss: its inputs spread less than an "
    "independent network's",
}


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results; a split of the data, with its networks, counts
    once."""
    paths = sorted((results / "observation_density").glob("**/result.json"))
    loaded = [json.loads(path.read_text()) for path in paths]
    found = [(result["settings"], result["models"]) for result in loaded]
    made = []
    for (*pair, figure), text in CLAIMS.items():
        one, other = (
            {
                (settings["split"], settings["seed"]): _value(models[model][figure])
                for settings, models in found
                if settings["data"] == "boston" and model in models
            }
            for model in pair
        )
        both = sorted(one.keys() & other.keys())
        verdict = judged([paired(one, other).sign] if both else [], -1)
        pairs = ", ".join(f"{one[key]:.3g} against {other[key]:.3g}" for key in both)
        splits = f"{len(both)} split{'s' * (len(both) > 1)}"
        evidence = f"{splits}; {FIGURES[figure]}: {pairs}" if both else "-"
        made.append(Claim(SOURCE, text, verdict, evidence, COMMAND))
    return made


def _value(figure: Any) -> float:
    return figure["value"] if isinstance(figure, dict) else figure
