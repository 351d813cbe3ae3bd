"""Tables of texts that a recurrent network reads, and what they say of the ways to read it."""

import pathlib

from docs.tables.claims import laid_out
from docs.tables.parts import Parts, from_each, of, picture
from train.characters.claims import expected
from train.characters.figure import DATA, table
from train.report.tables import Result


@of(lambda results: [*results.glob("characters/*/result.json")])
def characters_picture(_: list[pathlib.Path]) -> Parts:
    """The figure, if there is something to draw."""
    return picture(
        "Bits a character by epoch, and by how a network is read", "figures/characters.svg"
    )


@from_each("characters/*/result.json", origins=True)
def characters_figures(result: Result) -> Parts:
    """Bits a character, by how a network was trained and is read."""
    settings, grid = result["settings"], table(result)
    yield f"### {DATA[settings['data']]}"
    yield grid._replace(
        title=f"{settings['states']} states, pieces of {settings['piece']} characters, "
        f"{settings['recipe']['length']} epochs. {grid.title}"
    )


@of()
def characters_claims(results: pathlib.Path) -> Parts:
    """What was expected, and what became of it."""
    return laid_out(expected(results))
