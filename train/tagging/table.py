"""Tables of tagged sentences, from the JSON of cells alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from train.report import tables as report
from train.report.results import Result, read_json
from train.report.statistics import Mean, mean
from train.report.tables import Grid
from train.tagging.settings import Encoder, Head, Regulariser

Cells = list[Result]
ENCODERS = {
    "window": "window",
    "recurrent": "recurrent",
    "bayesian": "Bayesian recurrent",
    "gru": "GRU",
    "gru_wide": "GRU, wide",
}
HEADS = {
    "softmax": "independent",
    "chain": "chain",
    "constrained": "constrained chain",
    "stacked": "chain on a chain",
}
REGULARISERS = {**report.REGULARISERS, "pcff_tags": "PCFF of the lower chain"}
DATA = {"grammar": "Generated corpus", "wnut17": "WNUT 2017", "ewt": "English Web Treebank"}
Column = tuple[str, str, int, int]  # name in the JSON, heading, factor, decimal places
FIGURES: tuple[Column, ...] = (
    ("error", "tags wrong %", 100, 2),
    ("sentences right", "sentences right %", 100, 2),
    ("nll per sentence", "NLL a sentence", 1, 3),
    ("nll per word", "NLL a word", 1, 4),
    ("ece", "ECE %", 100, 2),
)
OF_ENTITIES: tuple[Column, ...] = (
    ("precision", "precision %", 100, 2),
    ("recall", "recall %", 100, 2),
    ("f1", "F1 %", 100, 2),
    ("invalid steps", "invalid steps", 1, 1),
)
_SHORT = frozenset({"f1", "sentences right", "nll per word", "ece"})


def read(path: Path) -> Result:
    """A cell from its file. DataFileError says what to do about one that is none."""

    def check(result: Any) -> object:
        return labels(result), by_seed(result, "nll per word"), by_seed(result, "ece")

    return read_json(path, check, "result of `python -m train.tagging`")


def read_all(folder: Path) -> Cells:
    """All cells in the folders of a folder, in the order of their names."""
    return [read(path) for path in sorted(folder.glob("*/*.json"))]


def labels(result: Result) -> tuple[str, str, str, str]:
    """Data, encoder, law of the tags and regulariser."""
    settings = result["settings"]
    data, encoder, head, regulariser = (
        str(settings[name]) for name in ("data", "encoder", "head", "regulariser")
    )
    return data, encoder, head, regulariser


def by_seed(result: Result, figure: str, factor: float = 1) -> dict[int, float]:
    """A figure of the test sentences, times a factor, by the seed of the run."""
    return {run["seed"]: factor * run["test"][figure] for run in result["runs"]}


def average(result: Result, figure: str, factor: float = 1) -> Mean:
    """Over seeds."""
    return mean([*by_seed(result, figure, factor).values()])


def shown(result: Result) -> tuple[Column, ...]:
    """The figures that a cell has."""
    of_entities = all("f1" in run["test"] for run in result["runs"])
    return OF_ENTITIES + FIGURES if of_entities else FIGURES


def line(result: Result) -> str:
    """A cell in words."""
    _, *named = labels(result)
    columns = [column for column in shown(result) if column[0] in _SHORT]
    pairs = zip(columns, _cells(result, columns), strict=True)
    return f"{'-'.join(named)}: {', '.join(f'{column[1]} {cell}' for column, cell in pairs)}"


def by_data(found: Sequence[Result]) -> dict[str, Cells]:
    """The cells of each corpus, in the order of encoders, regularisers and laws of the tags."""
    orders = get_args(Encoder), get_args(Regulariser), get_args(Head)

    def place(result: Result) -> list[int]:
        _, encoder, head, regulariser = labels(result)
        return [o.index(v) for o, v in zip(orders, (encoder, regulariser, head), strict=True)]

    made: dict[str, Cells] = {}
    for result in sorted(found, key=place):
        made.setdefault(labels(result)[0], []).append(result)
    return dict(sorted(made.items(), reverse=True))


def tables(found: Sequence[Result]) -> list[Grid]:
    """For each corpus a table with a row for each cell."""
    made = []
    for data, rows in by_data(found).items():
        columns, lines = shown(rows[0]), []
        for result in rows:
            _, encoder, head, regulariser = labels(result)
            names = [ENCODERS[encoder], HEADS[head], REGULARISERS[regulariser]]
            sizes = f"{result['sizes']['parameters']:,}", str(len(result["runs"]))
            lines.append([*names, *_cells(result, columns), *sizes])
        figures = (column[1] for column in columns)
        head = ["hidden layer", "tags", "regulariser", *figures, "parameters", "runs"]
        made.append(Grid(f"{DATA[data]}, test sentences", head, lines, names=3))
    return made


def short_tables(found: Sequence[Result]) -> list[Grid]:
    """The same with a few figures, as a terminal has room for."""
    made = []
    for data, rows in by_data(found).items():
        columns = [column for column in shown(rows[0]) if column[0] in _SHORT]
        lines = [["-".join(labels(result)[1:]), *_cells(result, columns)] for result in rows]
        head = ["test sentences", *(column[1] for column in columns)]
        made.append(Grid(DATA[data], head, lines))
    return made


def _cells(result: Result, columns: Sequence[Column]) -> list[str]:
    return [average(result, name).told(digits, factor) for name, _, factor, digits in columns]
