"""Tables of tagged sentences, and what they say of linear chains."""

import pathlib

from docs.tables.claims import laid_out
from docs.tables.parts import Parts, bullets, of, origin, picture
from train.tagging.claims import expected
from train.tagging.table import DATA, Cells, by_data, read_all, tables


def _cells(results: pathlib.Path) -> Cells:
    return read_all(results / "tagging")


@of(_cells)
def tagging_picture(_: Cells) -> Parts:
    """The figure, if there is something to draw."""
    return picture("Figures of test sentences by the law of the tags", "figures/tagging.svg")


@of(_cells)
def tagging_figures(found: Cells) -> Parts:
    """A row for each cell, and where they come from."""
    for data, rows in by_data(found).items():
        yield f"### {DATA[data]}"
        yield from (grid.markdown() for grid in tables(rows))
        yield bullets([*dict.fromkeys(map(origin, rows))])


@of()
def tagging_claims(results: pathlib.Path) -> Parts:
    """What was expected, and what became of it."""
    return laid_out(expected(results))
