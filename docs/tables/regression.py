"""Tables of the regression experiments of [B]."""

import pathlib
from typing import Any

from docs.tables.parts import NOT_MEASURED, bullets, from_file, origin, table
from train.uci import claims as uci_claims
from train.uci import table as uci_table
from train.uci.methods import METHODS
from train.uci.published import PAPER

MODELS = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one independent network",
}


def regression_beside(results: pathlib.Path) -> str:
    """Log-likelihood and RMSE of moments beside the columns of [B], and beside other published."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    parts = []
    for figure, title in uci_table.FIGURES.items():
        grid = uci_table.beside(found, uci_claims.measured_sets(found), figure, title)
        paper = grid.head.index(PAPER[-1].title) + 1
        main = grid.head.index(uci_claims.main_title())
        for text, columns in (
            (f"{title}, beside [B] Table 2:", [*range(paper)]),
            (f"{title}, beside others:", [0, main, *range(paper, len(grid.head))]),
        ):
            rows = [[line[i] for i in columns] for line in grid.lines]
            parts.append(f"{text}\n\n{table([grid.head[i] for i in columns], rows)}")
    return "\n\n".join(parts)


def regression_reached(results: pathlib.Path) -> str:
    """What was to be reached, point by point, and the verdicts that it is counted from."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    by_set = uci_table.reached(found, uci_claims.measured_sets(found), *uci_claims.MAIN)
    return "\n\n".join(
        [bullets(uci_claims.reached(found)), _grid(by_set), _grid(uci_claims.counts(found))]
    )


def regression_claims(results: pathlib.Path) -> str:
    """Our methods against one another."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    tables = [_grid(uci_claims.gains(found)), _grid(uci_claims.duels(found))]
    return "\n\n".join([bullets(uci_claims.claims(found)), *tables])


def regression_methods(results: pathlib.Path) -> str:
    """All methods' figures."""
    measured = _regression(results)
    if not measured:
        return NOT_MEASURED
    own = [grid for grid in uci_table.grids(measured) if "mean over splits" in grid.title]
    return "\n\n".join(map(_grid, own))


def regression_tails(results: pathlib.Path) -> str:
    """Splits on which a method's predictions go wrong."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    return (
        f"{_grid(uci_claims.tails(found, 'protein'))}\n\n"
        "Splits of all sets whose log-likelihood is lower by more than 1 than with homoscedastic "
        f"noise: {uci_claims.overconfident(found)}."
    )


@from_file("uci_rows/protein.json")
def regression_rows(result: dict[str, Any]) -> str:
    """The test rows behind splits that go wrong."""
    rows = [
        [
            METHODS[cell["method"]].title,
            str(number + 1),
            f"{split['rmse']:.2f}",
            f"{split['rmse without the largest errors']:.2f}",
            f"{split['rmse without unsure rows']:.2f} ({split['unsure rows']})",
            f"{split['log likelihood']:.2f}",
            f"{split['without the worst row']:.2f}",
            f"{worst['error']:.1f}",
            f"{worst['predicted deviation']:.2g}",
            f"{worst['largest input']:.1f} ({worst['column'] + 1})",
        ]
        for cell in result["cells"]
        for number, split in enumerate(cell["splits"])
        for worst in [split["worst row"]]
    ]
    headings = ["method", "split", "RMSE", "without the ten largest errors"]
    headings += ["without unsure rows (their number)", "LL"]
    headings += ["without its worst row", "that row's error", "its predicted deviation"]
    headings += ["its largest input (column)"]
    splits = [split for cell in result["cells"] for split in cell["splits"]]
    far = [
        f"{min(values)} to {max(values)} of a split's {splits[0][rows]} {rows}"
        for name, rows in (("far training rows", "training rows"), ("far test rows", "test rows"))
        for values in [[split[name] for split in splits]]
    ]
    same = max(split["distance"] for split in splits)
    return (
        f"{table(headings, rows)}\n\nAn input lies more than 10 deviations from the mean in "
        f"{' and in '.join(far)}. The trainings were repeated; their RMSE is that of the table "
        f"above to a relative {same:.0e}."
    )


def regression_time(results: pathlib.Path) -> str:
    """Seconds per split, their sum, and where they come from."""
    measured = _regression(results)
    if not measured:
        return NOT_MEASURED
    grid = uci_table.grids(measured)[-1]
    origins = sorted({origin(result, data=False) for result in measured})
    return "\n\n".join([_grid(grid), uci_claims.total(measured), *origins])


def regression_likelihoods(results: pathlib.Path) -> str:
    """The log-likelihoods in short."""
    found = uci_table.by_cell(_regression(results))
    if not found:
        return NOT_MEASURED
    grid = uci_claims.summary(found)
    return table(grid.head, grid.lines)


@from_file("observation_density/boston/result.json")
def observation_density(result: dict[str, Any]) -> str:
    """Simulated examples of trained networks, and whether the chains that made them agree."""
    models = result["models"].items()
    distances = ("label - prediction", "label - members", "spread of members")
    rows = [
        [
            MODELS[name],
            *(_spread(found[what]) for what in distances),
            f"{found['noise']:.2f}",
            f"{found['spread of inputs']:.3f}",
            f"{found['test']['rmse']:.2f}",
            f"{found['test']['nll']:.2f}",
        ]
        for name, found in models
    ]
    headings = ["model", "label − own prediction", "label − independent networks"]
    headings += ["spread of those networks", "learnt noise", "inputs, relative to their prior"]
    headings += ["test RMSE", "test NLL"]
    chains = [
        [
            MODELS[name],
            f"{found['largest R-hat']:.3f}" + ("" if found["converged"] else " (NOT converged)"),
            f"{found['smallest effective sample size']:.0f}",
            str(found["divergences"]),
            f"{found['acceptance']:.2f}",
            f"{found['leapfrog steps']:.0f}",
        ]
        for name, found in models
    ]
    about = ["model", "largest R-hat", "smallest effective sample size", "divergences"]
    about += ["acceptance", "leapfrog steps a draw"]
    return f"{table(headings, rows)}\n\n{table(about, chains)}"


def _regression(results: pathlib.Path) -> list[dict[str, Any]]:
    return uci_table.read_all(results / "uci") if (results / "uci").exists() else []


def _grid(grid: uci_table.Grid) -> str:
    return f"{grid.title}:\n\n{table(grid.head, grid.lines)}"


def _spread(found: dict[str, float]) -> str:
    return f"{found['value']:.2f} ± {found['standard error']:.2f}"


TABLES = [
    regression_beside,
    regression_reached,
    regression_claims,
    regression_methods,
    regression_tails,
    regression_rows,
    regression_time,
    regression_likelihoods,
    observation_density,
]
