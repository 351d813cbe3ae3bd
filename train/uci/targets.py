"""What the regression tables were to reach, and whether they did: counted from their results.

Published figures, which come without their splits, are compared at their printed digits, or within
a standard error of ours; our own methods by the rule of `train.report.statistics`.
"""

from train.report.claims import ABSENT, judged
from train.report.tables import Grid
from train.uci.claims import DECIDED, MAIN, between, measured_sets, tally
from train.uci.published import DIAGONAL_DVI, SHORT, TAGI_SECONDS, number
from train.uci.settings import SETS
from train.uci.table import (
    COVERAGE,
    FIGURES,
    WORDS,
    Found,
    best_of_paper,
    digits_of,
    ours,
    over_splits,
    reached,
    seconds_per_split,
    standing,
    title,
)

# On so many sets, and between which shares of rows.
DVI_SETS, ENSEMBLE_SETS, TAGI_SETS, COVERED = 8, 5, 6, (0.93, 0.97)


def counts(found: Found) -> Grid:
    """On how many sets each of our columns is better, level and worse than published ones."""
    by_set = {each: reached(found, *each) for each in ours(found)}
    lines = [
        [
            title(*each),
            *(tally(column, WORDS) for column in list(zip(*grid.lines, strict=True))[1:]),
        ]
        for each, grid in by_set.items()
        if grid.lines
    ]
    head = next((grid.head[1:] for grid in by_set.values() if grid.lines), [])
    return Grid("Number of sets better / level / worse", ["", *head], lines)


def targets(found: Found) -> list[str]:
    """What was to be reached by `MAIN`, point by point, in sentences."""
    cells = {data: found[data, *MAIN] for data in measured_sets(found)}
    verdict = {data: standing(cell) for data, cell in cells.items()}
    lines = []
    for figure, short in SHORT.items():
        worse = {
            data: f"{over_splits(cell, figure).value:.{digits_of(data, figure)}f} "
            f"against {best_of_paper(figure, data).partition('±')[0]}"
            for data, cell in cells.items()
            if verdict[data][f"{short}: best of [B]"] == "worse"
        }
        what = f"{FIGURES[figure]} not worse than the best column of [B] on any set, as printed"
        lines.append(_target(what, len(SETS), len(cells), worse))
    misses = {}
    for data, cell in cells.items():
        if verdict[data]["LL: dDVI"] == "worse":
            likelihood = over_splits(cell, "log likelihood")
            behind = number(DIAGONAL_DVI.printed("log likelihood", data)) - likelihood.value
            misses[data] = f"by {behind:.3f}, standard error {likelihood.standard_error:.3f}"
    what = "Test log-likelihood level with or better than diagonal DVI, within a standard error"
    lines.append(_target(what, DVI_SETS, len(cells), misses))
    signs = between(found, *MAIN, "ensemble", "log likelihood")
    misses = {data: DECIDED[each] for data, each in signs.items() if each < 1}
    what = "Test log-likelihood better than a deep ensemble of the same recipe"
    lines.append(_target(what, ENSEMBLE_SETS, len(signs), misses))
    covered = {
        data: over_splits(cell, COVERAGE).value
        for data, cell in cells.items()
        if COVERAGE in cell["splits"][0]
    }
    low, high = COVERED
    misses = {d: f"{share:.3f}" for d, share in covered.items() if not low <= share <= high}
    what = f"A share of {low} to {high} of the test rows within their 95 % intervals"
    lines.append(_target(what, len(SETS), len(covered), misses))
    limits = dict(zip(SETS, TAGI_SECONDS, strict=True))
    slow = {
        data: f"{seconds:.2f} s against {limits[data]:g}"
        for data, cell in cells.items()
        if (seconds := seconds_per_split(cell)) >= limits[data]
    }
    what = "Time per split below that printed for TAGI"
    return [*lines, _target(what, TAGI_SETS, len(cells), slow)]


def _target(what: str, needed: int, measured: int, misses: dict[str, str]) -> str:
    """A sentence on what was to be reached on so many sets, by those on which it was not."""
    signs = [1] * (measured - len(misses)) + [-1] * len(misses)
    verdict = judged([*signs, *[0] * (len(SETS) - measured)], 1, needed) if signs else ABSENT
    missed = "; ".join(f"{data} ({told})" for data, told in misses.items()) or "none"
    on = f": on {signs.count(1)} of {measured}; missed: {missed}" if signs else ""
    return f"*{what}, on at least {needed}*: {verdict}{on}."
