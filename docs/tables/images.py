"""Tables of image classification: [B] Table 1 beside ours, smaller runs, and what is to be run."""

import pathlib

from docs.tables.claims import laid_out
from docs.tables.parts import Parts, bullets, of, origin, picture, table
from train.images import plan
from train.images.claims import claims
from train.images.published import MATCHES
from train.images.table import figures, table_1
from train.report.tables import DATA, Result, read_all


def _results(results: pathlib.Path) -> list[Result]:
    return read_all(results / "images")


@of()
def images_table(results: pathlib.Path) -> Parts:
    """Table 1, whether measured or not."""
    yield table_1(_results(results))


@of(_results)
def images_figures(found: list[Result]) -> Parts:
    """All runs, whole or not, and where they come from."""
    yield figures(found)
    sets = {result["settings"]["data"] for result in found}
    for name, told in (("digits", "digits"), ("cifar10", "a part of CIFAR-10")):
        if name in sets:
            yield picture(f"Learning curves on {told}", f"figures/images_{name}.svg")
    yield bullets([*dict.fromkeys(map(origin, found))])


@of()
def images_claims(results: pathlib.Path) -> str:
    """What [B] claims about them."""
    return laid_out(claims(results))


@of()
def images_matches(results: pathlib.Path) -> str:
    """Errors of the first column that stand elsewhere in print."""
    rows = [[DATA[m.data], m.row, m.error, m.of, m.also] for m in MATCHES]
    return table(
        ["data", "network", "[B], `vanilla NN`", "the same error in print", "which has"], rows
    )


@of()
def images_plan(results: pathlib.Path) -> Parts:
    """What is to be run."""
    yield plan.table()
