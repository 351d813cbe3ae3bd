"""What is said of bounds by several samples and of latent nodes, and what became of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from train.report.claims import Claim, Finding, on_differences
from train.report.statistics import Mean, mean
from train.report.tables import read_all
from train.vae.settings import Cell
from train.vae.table import (
    COMPARED,
    PUBLISHED,
    PUBLISHED_OF,
    Runs,
    by_data,
    by_run,
    differences,
    name_of,
    published,
    told_data,
)

MARGIN = 1.5  # nats, within which the published figures are to be reached
COMMAND = "python -m train.vae --data mnist --data-dir FOLDER"
MORE = "Burda, Grosse and Salakhutdinov 2016"
DOUBLY = "Tucker et al. 2019"
VIMCO = "Mnih and Rezende 2016"
# Of which comparison is what claimed: the first cells of those that are compared.
CLAIMS: dict[tuple[str, str], list[tuple[Cell, Cell]]] = {
    (MORE, "A bound by more samples learns a better model: a higher test log-likelihood"): [
        pair for pair in COMPARED if pair[0].gradient == "pathwise"
    ],
    (DOUBLY, "Doubly reparameterised gradients learn a better model than pathwise ones"): [
        pair for pair in COMPARED if pair[0].gradient == "doubly_reparameterised"
    ],
    (VIMCO, "VIMCO learns a better model of binary latent nodes than straight-through does"): [
        pair for pair in COMPARED if pair[0].gradient == "vimco"
    ],
}


def claims(results: Path) -> list[Claim]:
    """All of them, from the folder of results; each comparison on each set of images is a case."""
    found = by_data(read_all(results / "vae"))
    more, *others = (
        Claim(source, text, *_compared(found, pairs), COMMAND)
        for (source, text), pairs in CLAIMS.items()
    )
    runs = found.get(PUBLISHED_OF, {})
    cells = {*PUBLISHED, *(cell for cell in runs if published(cell) is not None)}
    return [more, *(_published(runs, cell) for cell in sorted(cells)), *others]


def _compared(found: Mapping[tuple[str, str], Runs], pairs: Sequence[tuple[Cell, Cell]]) -> Finding:
    cases: dict[str, Mean] = {}
    for of, runs in found.items():
        for (one, other), difference in differences(runs).items():
            if (one, other) in pairs:
                words = f"{told_data(of)}: {name_of(one)} less {name_of(other)}"
                cases[words] = difference
    if not cases:
        return Finding(evidence="-")
    finding = on_differences(cases, 1)
    return finding._replace(evidence=f"nats; {finding.evidence}")


def _published(runs: Runs, cell: Cell) -> Claim:
    """Whether a published figure is known to be reached to within the margin."""
    values = by_run(runs, cell)
    printed = published(cell)
    assert printed is not None  # of these cells
    text = f"{name_of(cell)}: at least {printed} less {MARGIN} nats on MNIST, dynamic"
    samples = f"{COMMAND} --latents gaussian --gradients pathwise --samples {cell.samples}"
    if cell.first_epochs:
        samples += f" --first-epochs {cell.first_epochs}"
    if not values:
        return Claim(MORE, text, *Finding(evidence="-"), samples)
    less = mean([value - printed for value in values.values()])
    above = less._replace(value=less.value + MARGIN)
    verdict = on_differences({"": above}, 1).verdict
    epochs = max(run["epochs"] for run in runs[cell])
    evidence = f"{less.told(2, signed=True)} nats from it, after {epochs} epochs"
    return Claim(MORE, text, verdict, evidence, samples)
