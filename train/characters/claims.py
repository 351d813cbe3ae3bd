"""What was expected of networks that read a text, and what became of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from train.characters.figure import DATA, NAMES, by_seed, rows
from train.report import tables as report
from train.report.claims import Claim, Finding, judged, of_three, told
from train.report.statistics import Mean, paired
from train.report.tables import Run

SOURCE = "[C], [A] section 4.2"
COMMAND = "python -m train.characters --data TEXT --data-dir FOLDER"

Trained = Mapping[str, Sequence[Run]]


def expected(results: Path) -> list[Claim]:
    """All of it, from the folder of results; each text is a case, and of PCFF each rate."""
    texts = {
        DATA[result["settings"]["data"]]: rows(result)
        for result in report.read_all(results / "characters", "*/result.json")
    }
    partly = [
        (text, name) for text, found in texts.items() for name in found if name.startswith("PCFF")
    ]

    def pcff(way: str) -> dict[str, Mean]:
        return {
            f"{text} {name}": _less(texts[text], (name, way), ("collapsed", "feed-forward"))
            for text, name in partly
        }

    def between(one: tuple[str, str], other: tuple[str, str]) -> dict[str, Mean]:
        return {text: _less(found, one, other) for text, found in texts.items()}

    through, vimco = NAMES["straight_through"], NAMES["vimco"]
    made = {
        "PCFF at some rate predicts better than the collapsed network, both by feed-forward": (
            _found(pcff("feed-forward"), 1)
        ),
        "PCFF at some rate, by the average of samples, is better than the collapsed network": (
            _found(pcff("average"), 1)
        ),
        "Latent two-valued states, by their bound, need more bits than collapsed states": (
            _found(between(("collapsed", "feed-forward"), (through, "bound")))
        ),
        "Straight-through derivatives of the ELBO leave fewer bits than VIMCO, by the bound": (
            _found(between((through, "bound"), (vimco, "bound")))
        ),
        "The bound of latent states needs fewer bits than collapsing the same states": (
            _found(between((through, "bound"), (through, "feed-forward")))
        ),
    }
    return [Claim(SOURCE, text, *finding, COMMAND) for text, finding in made.items()]


def _less(found: Trained, one: tuple[str, str], other: tuple[str, str]) -> Mean:
    """The paired difference of bits, each of a training and a way to read it."""
    ours, theirs = (by_seed(found.get(name, ()), way) for name, way in (one, other))
    return of_three(paired(ours, theirs))


def _found(differences: Mapping[str, Mean], at_least: int | None = None) -> Finding:
    known = {name: each for name, each in differences.items() if each.number}
    if not known:
        return Finding(evidence="-")
    verdict = judged([each.sign for each in known.values()], -1, at_least)
    return Finding(verdict, f"{told(known, 3)} bits")
