"""What the dense networks say about the claims of [A] 5.1, "Simple dense network"."""

from pathlib import Path
from typing import Any

from train.engine.loop import SETTLED, STATUS, STOPPED
from train.report import claims as judge
from train.report.claims import COMPARABLE, Claim, Finding, Verdict, on_differences
from train.report.statistics import Mean
from train.report.tables import DATA, NODES, REGULARISERS, Run, difference, merged, read_all

SOURCE = "[A] 5.1, Figure 4 left: dense networks"
COMMAND = "python -m train.dense --data SET --data-dir FOLDER --regularisers none dropout pcff both"
SETS = ("mnist", "fashion_mnist")
FOUR = {f"{DATA[data]} {NODES[nodes]}": (data, nodes) for data in SETS for nodes in NODES}
# One run was ended by hand, long after its learning rate had reached its smallest value.
LONG_ENOUGH = 600

Runs = dict[tuple[str, str, str], list[Run]]
Differences = dict[str, Mean]  # by the name of the case


def by_data(results: Path) -> dict[str, dict[str, Any]]:
    """The results by data set, whole or not; several commands may have made their runs."""
    found = {r["settings"]["data"]: r for r in merged(read_all(results / "dense"))}
    return {name: found[name] for name in SETS if name in found}


def whole(results: Path) -> Runs:
    """The runs that ended, by data set, nodes and regulariser."""
    runs: Runs = {}
    for data, result in by_data(results).items():
        for run in result["runs"]:
            ended = run["status"] in (STATUS[STOPPED], STATUS[SETTLED])
            if run["test"] is not None and (ended or run["epochs"] >= LONG_ENOUGH):
                runs.setdefault((data, run["nodes"], run["regulariser"]), []).append(run)
    return runs


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results."""
    runs = whole(results)

    def between(one: tuple[str, str, str], other: tuple[str, str, str]) -> Mean:
        return judge.of_three(difference(runs.get(one, []), runs.get(other, [])))

    def less(one: str, other: str) -> Differences:
        return {name: between((*case, one), (*case, other)) for name, case in FOUR.items()}

    dropout, pcff, rivals = less("dropout", "none"), less("pcff", "none"), less("pcff", "dropout")
    nodes = {
        f"{DATA[data]} {REGULARISERS[name]}": between((data, "relu", name), (data, "tanh", name))
        for data in SETS
        for name in ("none", "dropout", "pcff")
    }
    most, near = "improves on none in most of the four cases", judge.on_margin(rivals, COMPARABLE)
    if near.verdict != Verdict.ABSENT:
        near = near._replace(evidence=f"PCFF − dropout: {near.evidence}")
    made = {
        f"Dropout {most}": on_differences(dropout, -1, at_least=3),
        f"PCFF {most}": on_differences(pcff, -1, at_least=3),
        f"Dropout and PCFF are comparable (within {COMPARABLE} points)": near,
        "PCFF improves on none more consistently than dropout: in more of the cases": _more(
            pcff, dropout
        ),
        "ReLU is better than tanh, whatever the regulariser": on_differences(nodes, -1),
        "Dropout and PCFF together improve further in some case": _further(
            less("both", "dropout"), less("both", "pcff")
        ),
    }
    return [Claim(SOURCE, text, *finding, COMMAND) for text, finding in made.items()]


def _more(pcff: Differences, dropout: Differences) -> Finding:
    """Whether errors are known to be lower in more cases than they can be in others."""
    if not any(each.number for some in (pcff, dropout) for each in some.values()):
        return Finding()
    ours, theirs = ([each.sign for each in some.values()] for some in (pcff, dropout))
    evidence = "; ".join(
        f"{name} better in {some.count(-1)}, worse in {some.count(1)}, not decided in "
        f"{some.count(0)}"
        for name, some in (("PCFF", ours), ("dropout", theirs))
    )
    if ours.count(-1) > theirs.count(-1) + theirs.count(0):
        return Finding(Verdict.HOLDS, evidence)
    possible = ours.count(-1) + ours.count(0)
    return Finding(Verdict.FAILS if possible <= theirs.count(-1) else Verdict.OPEN, evidence)


def _further(dropout: Differences, pcff: Differences) -> Finding:
    """Whether both are better than either somewhere."""
    if not all(any(each.number for each in some.values()) for some in (dropout, pcff)):
        return Finding()
    signs, parts = [], []
    for name in FOUR:
        found = {"against dropout": dropout[name], "against PCFF": pcff[name]}
        both = [each.sign for each in found.values()]
        signs.append(1 if 1 in both else max(both))
        word = {-1: "better than either", 0: "not decided", 1: "worse than one"}[signs[-1]]
        parts.append(f"{name}: {word} ({judge.told(found)})")
    return Finding(judge.judged(signs, -1, at_least=1), "; ".join(parts))
