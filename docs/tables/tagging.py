"""Tables of tagged sentences, and what they say of linear chains."""

import pathlib

from docs.tables.claims import laid_out
from docs.tables.parts import NOT_MEASURED, bullets, origin, picture, shown
from train.tagging.claims import claims
from train.tagging.table import DATA, by_data, read_all, tables


@shown
def tagging_picture(results: pathlib.Path) -> str:
    """The figure, if there is something to draw."""
    told = "Figures of test sentences by the law of the tags"
    return picture(told, "figures/tagging.svg") if _any(results) else NOT_MEASURED


@shown
def tagging_figures(results: pathlib.Path) -> str:
    """A row for each cell, and where they come from."""
    parts = []
    for data, found in by_data(read_all(results / "tagging")).items():
        (grid,) = tables(found)
        origins = bullets([*dict.fromkeys(map(origin, found))])
        parts.append(f"### {DATA[data]}\n\n{grid.markdown()}\n\n{origins}")
    return "\n\n".join(parts) or NOT_MEASURED


@shown
def tagging_claims(results: pathlib.Path) -> str:
    """What was expected, and what became of it."""
    return laid_out(claims(results))


def _any(results: pathlib.Path) -> bool:
    return any((results / "tagging").glob("*/*.json"))
