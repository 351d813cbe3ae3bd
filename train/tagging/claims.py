"""What tagged sentences say about linear chains as last components ([A] section 3). Only whole
trainings do, on all sentences and with three seeds or more."""

from pathlib import Path

from train.report.claims import Claim, Finding, Verdict, judged, of_three, on_differences, told
from train.report.statistics import Mean, mean, paired
from train.tagging.settings import Cell, Config
from train.tagging.table import REGULARISERS, Result, average, by_data, by_seed, labels, read_all

SOURCE = "[A] section 3: named entities and parts of speech"
OF_UNITS = "Garner and Tong 2020: Bayesian recurrent units beside gated ones"
COMMAND = "python -m train.tagging --data SET --data-dir FOLDER"
CALIBRATED = 2.0  # percentage points of expected calibration error, below which marginals count so
SETS = {"wnut17": "WNUT", "ewt": "EWT"}
# By figure: by how much it is multiplied, and the sign of a difference for the better.
FIGURES = {
    "f1": (100, 1),
    "sentences right": (100, 1),
    "nll per sentence": (1, -1),
    "ece": (100, -1),
}
# Figures that are claimed to be better with one value of a setting than with another, all else the
# same.
OF_LAWS = {
    ("f1", "head", "chain", "softmax"): "A chain finds entities better than independent tags do "
    "(F1)",
    ("f1", "head", "constrained", "softmax"): "A chain in which what IOB2 forbids has probability "
    "0 finds entities better than independent tags do (F1)",
    ("sentences right", "head", "chain", "softmax"): "More sentences are right throughout by a "
    "chain than by independent tags",
    ("nll per sentence", "head", "chain", "softmax"): "The tags of a sentence are more probable by "
    "a chain than by independent tags (NLL a sentence, nats)",
    ("ece", "head", "chain", "softmax"): "Marginals of a chain are better calibrated than "
    "probabilities of independent tags (ECE)",
    ("f1", "head", "stacked", "constrained"): "A second chain on the marginals of the first finds "
    "entities better than one alone (F1)",
}
OF_REGULARISERS = {
    ("f1", "regulariser", "pcff", "none"): "PCFF of hidden nodes finds entities better than no "
    "regulariser (F1)",
    ("f1", "regulariser", "pcff_tags", "none"): "PCFF of the lower one of two chains finds "
    "entities better than no regulariser (F1)",
}

OF_ENCODERS = {
    ("f1", "encoder", "bayesian", "gru"): "Bayesian recurrent units, given the whole sentence, "
    "find entities better than gated units in both directions with as many parameters (F1)",
    ("nll per sentence", "encoder", "bayesian", "gru"): "The tags of a sentence are more probable "
    "by Bayesian recurrent units than by gated ones with as many parameters (NLL a sentence, nats)",
}

Cases = dict[tuple[str, Cell], Result]


def claims(results: Path) -> list[Claim]:
    """Those that [A] makes, from the folder of results: entities are found better."""
    return expected(results)[:2]


def expected(results: Path) -> list[Claim]:
    """All that was expected, and what became of it, from the folder of results."""
    cases = _whole(results / "tagging")
    text = f"Marginals of chains are calibrated: an ECE below {CALIBRATED:g} points"
    made = {
        **{text: _compared(cases, *each) for each, text in OF_LAWS.items()},
        "A constrained chain never takes an invalid step": _valid(cases),
        text: _calibrated(cases),
        **{text: _compared(cases, *each) for each, text in OF_REGULARISERS.items()},
    }
    units = {text: _compared(cases, *each) for each, text in OF_ENCODERS.items()}
    return [
        Claim(source, text, *finding, command)
        for source, found, command in (
            (SOURCE, made, COMMAND),
            (OF_UNITS, units, f"{COMMAND} --encoders bayesian gru"),
        )
        for text, finding in found.items()
    ]


def _whole(folder: Path) -> Cases:
    """The cells of whole trainings; ValueError if one is there twice."""
    cases: Cases = {}
    for result in (result for results in by_data(read_all(folder)).values() for result in results):
        data, *cell = labels(result)
        known = Cell(*cell)  # pyright: ignore[reportArgumentType]: as the settings have them
        wanted = Config(data=data).facts_of(known)  # pyright: ignore[reportArgumentType]
        found = result["settings"]
        if all(found.get(name) == value for name, value in wanted.items() if name != "seeds"):
            if (data, known) in cases:
                raise ValueError(f"{folder} holds {data} {known.file} twice")
            cases[data, known] = result
    return cases


def _compared(cases: Cases, figure: str, setting: str, value: str, other: str) -> Finding:
    """The differences on all published corpora of which the figure is known."""
    factor, better = FIGURES[figure]
    found: dict[str, Mean] = {}
    for (data, cell), result in cases.items():
        beside = cases.get((data, cell._replace(**{setting: other})))
        wanted = data in SETS and getattr(cell, setting) == value
        if wanted and beside is not None and figure in result["runs"][0]["test"]:
            names = {**cell._asdict(), "regulariser": REGULARISERS[cell.regulariser]}
            same = " ".join(name for each, name in names.items() if each != setting)
            apart = paired(*(by_seed(each, figure, factor) for each in (result, beside)))
            found[f"{SETS[data]} {same}"] = of_three(apart)
    return on_differences(found, better)


def _valid(cases: Cases) -> Finding:
    """Whether no invalid step was taken, which is counted: there is nothing to estimate."""
    counts: dict[str, list[float]] = {"constrained": [], "chain": [], "softmax": []}
    for (data, cell), result in cases.items():
        if data == "wnut17" and cell.head in counts:
            counts[cell.head] += by_seed(result, "invalid steps").values()
    own = counts["constrained"]
    if not own:
        return Finding()
    evidence = f"{sum(own):g} in {len(own)} runs"
    for head, name in (("chain", "a chain without constraints"), ("softmax", "independent tags")):
        if counts[head]:
            evidence += f"; {name} {mean(counts[head]).told(1)} a run"
    return Finding(Verdict.FAILS if any(own) else Verdict.HOLDS, evidence)


def _calibrated(cases: Cases) -> Finding:
    """Whether calibration errors of chains are known to be small enough."""
    found = {
        f"{SETS.get(data, data)} {cell.encoder} {REGULARISERS[cell.regulariser]} {cell.head}": (
            of_three(average(result, "ece", 100))
        )
        for (data, cell), result in cases.items()
        if cell.head in ("chain", "constrained")
    }
    if not found:
        return Finding()
    above = [each._replace(value=each.value - CALIBRATED).sign for each in found.values()]
    return Finding(judged(above, -1), told(found).replace("+", ""))
