"""What is to be measured of the rows on MNIST on a GPU, most valuable first, and how long it may
take.

    python -m train.vae.plan

**The estimate** is none of a measurement: an update takes six operations for each weight and sample
of the guide, at a third of the speed that large products of matrices reach on an H200 with factors
rounded to TF32, and a tenth of a millisecond besides, which its kernels take to start."""

import math

from train.images.plan import BUDGET, SPEED
from train.report.tables import Grid
from train.vae.settings import Cell, Config
from train.vae.table import LATENTS, PUBLISHED, name_of

EPOCHS = 1000
IMAGES, BATCH = 59_000, 100
WEIGHTS = 784 * 200 + 200 * 200 + 200 * 50  # of the decoder, which every sample goes through
SHARE, START = 1 / 3, 1e-4  # of the speed; seconds


def seconds(cell: Cell) -> float:
    """Of one training of a cell."""
    update = START + 6 * WEIGHTS * BATCH * cell.samples / (SPEED * SHARE)
    return EPOCHS * (IMAGES // BATCH) * update


def calls(cell: Cell) -> int:
    """How many calls one training of a cell takes.

    Example:
        >>> calls(Cell("gaussian", "pathwise", 1))
        1
    """
    return math.ceil(seconds(cell) / BUDGET)


def cells() -> list[Cell]:
    """All rows, most valuable first: those of which figures are printed, those of many samples."""
    return sorted(Config().cells, key=lambda cell: (cell not in PUBLISHED, -cell.samples))


def command(cell: Cell) -> str:
    """The command that a row is measured by, once or more often with each seed."""
    return f"benchmarks/on_gpu.sh vae {cell.samples} {EPOCHS} {cell.gradient} --seeds SEED"


def table() -> Grid:
    """All of them."""
    lines = [
        [LATENTS[cell.latent], name_of(cell), f"`{command(cell)}`", str(calls(cell))]
        for cell in cells()
    ]
    total = sum(calls(cell) for cell in cells())
    title = f"Calls of ten minutes for each seed, estimated; {total} for all rows"
    return Grid(title, ["latent nodes", "bound", "command", "calls"], lines, names=3)


if __name__ == "__main__":
    print(table().titled())
