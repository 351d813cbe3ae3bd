"""What [B] 4.1 claims about the networks of Table 1, and what became of it. Only whole schedules on
all images decide, with three seeds or more."""

from collections.abc import Callable, Mapping
from pathlib import Path

from train.images.published import ROWS, Cell, Row, printed
from train.images.settings import Method
from train.images.table import rows, whole
from train.report import claims as judge
from train.report.claims import ABSENT, Claim, judged
from train.report.statistics import Mean
from train.report.tables import difference, read_all

SOURCE = "[B] Table 1: image classification"
COMMAND = "python -m train.images --data SET --data-dir FOLDER --network NETWORK --method METHOD"
COMPETITIVE = 0.5  # points by which an error may be higher

Differences = Mapping[Row, Mean]


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results."""
    found = whole(read_all(results / "images"))

    def differences(one: Method, other: Method) -> Differences:
        pairs: dict[Row, tuple[Cell, Cell]] = {
            (data, row): (Cell(data, ROWS[row], one), Cell(data, ROWS[row], other))
            for data, row in rows()
        }
        return {
            pair: judge.of_three(difference([*found[a].values()], [*found[b].values()]))
            for pair, (a, b) in pairs.items()
            if {a, b} <= found.keys()
        }

    made = []

    def add(text: str, one: Method, other: Method, sign: Callable[[Mean], int], told: str) -> None:
        each = differences(one, other)
        signs = [sign(mean) for mean in each.values()]
        signs += [0] * (len(rows()) - len(signs) if signs else 0)
        verdict = judged(signs, -1)
        evidence = f"{_told(each)}; {told}" if verdict != ABSENT else told
        made.append(Claim(SOURCE, text, verdict, evidence, COMMAND))

    add(
        "Networks without normalisation, trained by belief propagation with natural gradient, have "
        "lower test errors than those of SGD with normalisation, on all 15 pairs of data and "
        "network",
        "moments_natural",
        "plain",
        lambda mean: mean.sign,
        f"in print on {in_print('moments_natural', 'plain').count(-1)} of {len(rows())}",
    )
    add(
        "Natural gradient lowers the errors of belief propagation, on all 15 pairs",
        "moments_natural",
        "moments",
        lambda mean: mean.sign,
        f"in print on {in_print('moments_natural', 'moments').count(-1)} of {len(rows())}",
    )
    of_ensemble = in_print("weight_sample_ensemble", "plain")
    add(
        "Bayes-by-backprop with an ensemble and natural gradient is competitive without "
        f"normalisation: at most {COMPETITIVE} points behind SGD with normalisation, on all 15 "
        "pairs",
        "weight_sample_ensemble",
        "plain",
        lambda mean: mean._replace(value=mean.value - COMPETITIVE).sign,
        f"in print lower than SGD with normalisation on {of_ensemble.count(-1)} of {len(rows())}, "
        f"higher on {of_ensemble.count(1)}, by up to {_furthest():.2f} points",
    )
    return made


def in_print(one: Method, other: Method) -> list[int]:
    """The sign of the difference of two columns of the table, for each pair of data and network.

    Example:
        >>> in_print("moments_natural", "moments").count(1)  # ResNet on CIFAR-10
        1
    """
    pairs = [(float(printed(*row, one)), float(printed(*row, other))) for row in rows()]
    return [(a > b) - (a < b) for a, b in pairs]


def _furthest() -> float:
    """By how many points the ensemble is behind in print, at most."""
    return max(
        float(printed(*row, "weight_sample_ensemble")) - float(printed(*row, "plain"))
        for row in rows()
    )


def _told(found: Differences) -> str:
    return judge.told({f"{row} on {data}": mean for (data, row), mean in found.items()})
