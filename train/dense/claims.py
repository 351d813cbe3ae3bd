"""What the dense networks say about the claims of [A] 5.1, "Simple dense network"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.engine.loop import STATUS, STOPPED
from train.report import tables as report
from train.report.claims import (
    ABSENT,
    COMPARABLE,
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    comparable,
    judged,
    of_three,
    together,
)
from train.report.statistics import Mean
from train.report.tables import DATA, NODES, Run, difference

SOURCE = "[A] 5.1, Figure 4 left: dense networks"
COMMAND = "python -m train.dense --data SET --data-dir FOLDER --regularisers none dropout pcff both"
SETS = ("mnist", "fashion_mnist")
FOUR = [(data, nodes) for data in SETS for nodes in NODES]  # the cases of the figure
# One run was ended by hand, long after its learning rate had reached its smallest value.
LONG_ENOUGH = 600

Case = tuple[str, str]
Runs = dict[tuple[str, str, str], list[Run]]


def by_data(results: Path) -> dict[str, dict[str, Any]]:
    """The results by data set, whole or not; several commands may have made their runs."""
    found = {r["settings"]["data"]: r for r in report.merged(report.read_all(results / "dense"))}
    return {name: found[name] for name in SETS if name in found}


def whole(results: Path) -> Runs:
    """The runs that ended, by data set, nodes and regulariser."""
    runs: Runs = {}
    for data, result in by_data(results).items():
        for run in result["runs"]:
            ended = run["status"] == STATUS[STOPPED] or run["epochs"] >= LONG_ENOUGH
            if run["test"] is not None and ended:
                runs.setdefault((data, run["nodes"], run["regulariser"]), []).append(run)
    return runs


def claims(results: Path) -> list[Claim]:
    """All of them.

    Args:
        results: the folder of results.
    """
    runs = whole(results)

    def less(one: str, other: str) -> dict[Case, Mean]:
        return {
            case: of_three(difference(runs.get((*case, one), []), runs.get((*case, other), [])))
            for case in FOUR
        }

    dropout, pcff, rivals = less("dropout", "none"), less("pcff", "none"), less("pcff", "dropout")
    together_less = less("both", "dropout"), less("both", "pcff")
    nodes = {
        (data, name): of_three(
            difference(runs.get((data, "relu", name), []), runs.get((data, "tanh", name), []))
        )
        for data in SETS
        for name in ("none", "dropout", "pcff")
    }
    made = [
        (f"{name} improves on none in most of the four cases", _judged(found, -1, 3), _told(found))
        for name, found in (("Dropout", dropout), ("PCFF", pcff))
    ]
    made += [
        (
            f"Dropout and PCFF are comparable (within {COMPARABLE} points)",
            together(comparable(each, COMPARABLE) for each in rivals.values())
            if _measured(rivals)
            else ABSENT,
            f"PCFF − dropout: {_told(rivals)}",
        ),
        (
            "PCFF improves on none more consistently than dropout: in more of the cases",
            _more(pcff, dropout),
            f"{_counted(pcff)} by PCFF, {_counted(dropout)} by dropout",
        ),
        ("ReLU is better than tanh, whatever the regulariser", _judged(nodes, -1), _told(nodes)),
        ("Dropout and PCFF together improve further in some case", *_further(*together_less)),
    ]
    return [Claim(SOURCE, *each, COMMAND) for each in made]


def _measured(found: Mapping[Case, Mean]) -> bool:
    return any(each.number for each in found.values())


def _judged(found: Mapping[Case, Mean], wanted: int, at_least: int | None = None) -> str:
    signs = [each.sign for each in found.values()]
    return judged(signs, wanted, at_least) if _measured(found) else ABSENT


def _more(found: Mapping[Case, Mean], other: Mapping[Case, Mean]) -> str:
    """Whether errors are known to be lower in more cases than they can be in others."""
    if not (_measured(found) and _measured(other)):
        return ABSENT
    (known, possible), (least, most) = (
        (signs.count(-1), signs.count(-1) + signs.count(0))
        for signs in ([each.sign for each in some.values()] for some in (found, other))
    )
    return HOLDS if known > most else FAILS if possible <= least else OPEN


def _further(dropout: Mapping[Case, Mean], pcff: Mapping[Case, Mean]) -> tuple[str, str]:
    """Whether both are better than either somewhere, and the evidence."""
    if not (_measured(dropout) and _measured(pcff)):
        return ABSENT, "-"
    signs, told = [], []
    for case in FOUR:
        found = dropout[case].sign, pcff[case].sign
        signs.append(1 if 1 in found else max(found))
        word = {-1: "better than either", 0: "not decided", 1: "worse than one"}[signs[-1]]
        each = [m.told(2, signed=True) for m in (dropout[case], pcff[case])]
        told.append(f"{_name(case)}: {word} ({each[0]} against dropout, {each[1]} against PCFF)")
    return judged(signs, -1, at_least=1), "; ".join(told)


def _counted(found: Mapping[Case, Mean]) -> str:
    signs = [each.sign for each in found.values()]
    return f"better in {signs.count(-1)}, worse in {signs.count(1)}, open in {signs.count(0)}"


def _told(found: Mapping[Case, Mean]) -> str:
    told = (f"{_name(case)} {each.told(2, signed=True)}" for case, each in found.items())
    return ", ".join(told) if _measured(found) else "-"


def _name(case: Case) -> str:
    data, other = case
    return f"{DATA[data]} {(NODES | report.REGULARISERS)[other]}"
