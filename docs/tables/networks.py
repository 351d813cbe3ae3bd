"""For which networks variances by moments are right, and for which uncertainty."""

import pathlib
from collections.abc import Callable

from benchmarks import moments_networks, table_1
from docs.tables.parts import Parts, beside, bullets, columns, laid_out, of, origin, read_all
from train.report.tables import Result


def _results(folder: pathlib.Path) -> list[Result]:
    """In several files, of some networks each."""
    return read_all(folder, "benchmarks/moments_networks*.json")


def _of_table_1(part: str) -> Callable[[pathlib.Path], list[Result]]:
    """In several files, of which some hold only one part."""
    return lambda folder: [r for r in read_all(folder, "benchmarks/table_1*.json") if r[part]]


@of(_results, "moments-networks")
def totals(found: list[Result]) -> Parts:
    """Total variances, and how many single ones are near, for each uncertainty."""
    cells = [moments_networks.summary(row) for result in found for row in result["cells"]]
    cells.sort(key=lambda row: list(moments_networks.NETWORKS).index(row["network"]))
    named = ["network", "activation"]
    yield columns(
        beside(cells, named, "uncertain"),
        "network {network} | activation {activation}",
        *(
            f"{what}: total {{{what}[total_mean]:.2f}} ({{{what}[least]:.2f}}-{{{what}[most]:.2f}})"
            f" | within 25 % {{{what}[within]:.0%}}"
            for what in moments_networks.UNCERTAIN
        ),
    )
    yield bullets([origin(result) for result in found])


@of(_results, "moments-directions")
def directions(found: list[Result]) -> str:
    """The same by derivatives along random directions."""
    return laid_out(moments_networks.TABLES[1], *(r for r in found if r["directions"]))


@of(_results, "moments-attention")
def steps(found: list[Result]) -> str:
    """Attention with uncertain inputs, step by step."""
    return laid_out(moments_networks.TABLES[2], *(r for r in found if r.get("steps")))


@of(_of_table_1("variances"), "unnormalised-variances")
def unnormalised_variances(found: list[Result]) -> Parts:
    """Networks without normalisation: variances at their first weights."""
    yield laid_out(table_1.TABLES[0], *found)
    yield bullets([*map(origin, found)])


@of(_of_table_1("steps"), "unnormalised-steps")
def unnormalised_steps(found: list[Result]) -> Parts:
    """What their training steps cost."""
    yield laid_out(table_1.TABLES[1], *found)
    yield bullets([*map(origin, found)])
