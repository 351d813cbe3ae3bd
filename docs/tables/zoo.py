"""What became of the models of the zoo."""

import pathlib

from benchmarks import zoo
from docs.tables.parts import Parts, bullets, laid_out, of, origin, read_all
from train.report.tables import Result


def _results(folder: pathlib.Path) -> list[Result]:
    """In one file or in several, of some models each."""
    return read_all(folder, "benchmarks/zoo*.json")


@of(_results, "zoo")
def figures(found: list[Result]) -> Parts:
    """Nodes, bits, procedures and moments of every model, and how many there are in all."""
    rows = [row for result in found for row in result["rows"]]
    yield laid_out(zoo.TABLES[0], *found)
    yield bullets(zoo.reached(rows) + zoo.said(rows))
    libraries = {item for result in found for item in result["libraries"].items()}
    yield bullets([origin(result) for result in found] + [_told(sorted(libraries))])


@of(_results, "zoo-compilation")
def compilation(found: list[Result]) -> str:
    """How long procedures take to compile."""
    return laid_out(zoo.TABLES[1], *found)


def _told(libraries: list[tuple[str, str]]) -> str:
    return "Libraries: " + ", ".join(f"{name} {version}" for name, version in libraries) + "."
