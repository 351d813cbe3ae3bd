"""What is to be measured of [B] Table 1 on a GPU, most valuable first, and how long it may take.

    python -m train.images.plan

**The estimate** is none of a measurement: a training step takes six operations for each
multiply-add of a prediction, at a speed that large products of matrices reach on an H200 with
factors rounded to TF32; thin networks are taken to reach a part of it. Moments take 3.5 times as
long as one network."""

import math
from typing import NamedTuple

from train.images.published import COLUMNS, ROWS, SETS, Cell
from train.images.settings import MOMENTS, RECIPES, Data, Method, Name
from train.report.tables import DATA, Grid

SPEED = 8.7e13  # operations a second
BUDGET = 400  # seconds of training in a call, as in benchmarks/on_gpu.sh
OF_MOMENTS = 3.5  # times one network
IMAGES: dict[Data, int] = {"cifar10": 45_000, "cifar100": 45_000, "tiny_imagenet": 90_000}
# What decides most claims comes first.
ORDER: tuple[Method, ...] = (
    *("moments_natural", "plain", "moments", "weight_sample_ensemble", "weight_sample"),
)


class Work(NamedTuple):
    """Of an image of 32 x 32 pixels: multiply-adds, and the part of the speed that is reached."""

    multiply_adds: float
    share: float


WORK: dict[Name, Work] = {
    "densenet-bc-100-12": Work(287.9e6, 0.1),
    "preact-resnet-18": Work(555.4e6, 0.5),
    "wrn-28-10": Work(5243e6, 1.0),
    "efficientnet-b0-cifar": Work(30.3e6, 0.05),
    "mixer-s-4": Work(1210e6, 0.7),
}


def seconds(cell: Cell) -> float:
    """Of one training of a cell."""
    name, work = cell.network, WORK[cell.network]
    pixels = 4 if cell.data == "tiny_imagenet" else 1
    operations = 6 * work.multiply_adds * pixels * IMAGES[cell.data] * RECIPES[name].length
    factor = OF_MOMENTS if cell.method in MOMENTS else 1
    return factor * operations / (SPEED * work.share)


def calls(cell: Cell) -> int:
    """How many calls one training of a cell takes.

    Example:
        >>> calls(Cell("cifar10", "wrn-28-10", "plain"))
        9
    """
    return math.ceil(seconds(cell) / BUDGET)


def cells() -> list[Cell]:
    """All cells of the table, most valuable first: on CIFAR-10, the two columns that most claims
    are about, the quickest network."""
    every = [Cell(data, network, method) for data in SETS for network in WORK for method in COLUMNS]

    def rank(cell: Cell) -> tuple[int, int, float]:
        method = ORDER.index(cell.method)
        first = max(method - 1, 0)  # the first two side by side
        alone = seconds(cell._replace(method="plain"))
        return SETS.index(cell.data), first, alone + method / len(ORDER)

    return sorted(every, key=rank)


def command(cell: Cell) -> str:
    """The command that a cell is measured by, once or more often with each seed."""
    return f"benchmarks/on_gpu.sh images {cell.data} {cell.network} {cell.method} SEED"


def table() -> Grid:
    """All of them."""
    names = {network: row for row, network in ROWS.items()}
    lines = [
        [
            DATA[cell.data],
            names[cell.network],
            COLUMNS[cell.method],
            f"`{command(cell)}`",
            str(calls(cell)),
        ]
        for cell in cells()
    ]
    total = sum(calls(cell) for cell in cells())
    title = f"Calls of ten minutes for each seed, estimated; {total} for all cells"
    return Grid(title, ["data", "network", "column", "command", "calls"], lines, names=4)


if __name__ == "__main__":
    print(table().titled())
