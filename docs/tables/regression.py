"""Tables of the regression experiments of [B]."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

from docs.tables.parts import NOT_MEASURED, Table, bullets, columns, from_file, origin, shown
from train.report.statistics import Mean
from train.uci import claims as uci_claims
from train.uci import rows as uci_rows
from train.uci import table as uci_table
from train.uci import trials as uci_trials

MODELS = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one independent network",
}


def of_cells(function: Callable[[uci_table.Found], str]) -> Table:
    """Makes a function of all cells, by data, method and noise, a table."""

    @functools.wraps(function)
    def made(results: pathlib.Path) -> str:
        if not (results / "uci").exists():
            return NOT_MEASURED
        return function(uci_table.read_all(results / "uci"))

    return shown(made)


@of_cells
def regression_beside(found: uci_table.Found) -> str:
    """Log-likelihood and RMSE of moments beside the columns of [B], and beside other published."""
    grids = (uci_table.beside(found, figure) for figure in uci_table.FIGURES)
    return "\n\n".join(grid.titled() for pair in grids for grid in pair)


@of_cells
def regression_reached(found: uci_table.Found) -> str:
    """What was to be reached, point by point, and the verdicts that it is counted from."""
    grids = uci_table.reached(found, *uci_claims.MAIN), uci_claims.counts(found)
    return "\n\n".join([bullets(uci_claims.targets(found)), *(grid.titled() for grid in grids)])


@of_cells
def regression_duels(found: uci_table.Found) -> str:
    """Our methods against one another."""
    grids = uci_claims.gains(found), uci_claims.duels(found)
    return "\n\n".join([*(grid.titled() for grid in grids), uci_claims.natural(found)])


@of_cells
def regression_methods(found: uci_table.Found) -> str:
    """All methods' figures."""
    return "\n\n".join(grid.titled() for grid in uci_table.own(found))


@of_cells
def regression_tails(found: uci_table.Found) -> str:
    """Splits on which a method's predictions go wrong."""
    return (
        f"{uci_claims.tails(found, 'protein').titled()}\n\n"
        "Splits of all sets whose log-likelihood is lower by more than 1 than with homoscedastic "
        f"noise: {uci_claims.overconfident(found)}."
    )


def of_trial(trial: str) -> Table:
    """The table of a trial on validation rows, and where it comes from."""

    def made(results: pathlib.Path) -> str:
        paths = sorted((results / f"uci_{trial}").glob("*.json"))
        every = [json.loads(path.read_text()) for path in paths]
        origins = sorted({origin(result, data=False) for result in every})
        grid = uci_trials.TRIALS[trial][1](every)
        return "\n\n".join([grid.titled(), *origins]) if every else NOT_MEASURED

    made.__name__ = f"regression_{trial}"
    return shown(made)


of_trial("starts")
of_trial("search")


@of_cells
def regression_time(found: uci_table.Found) -> str:
    """Seconds per split, their sum, and where they come from."""
    origins = sorted({origin(result, data=False) for result in found.values()})
    return "\n\n".join([uci_table.times(found).titled(), uci_claims.total(found), *origins])


@of_cells
def regression_likelihoods(found: uci_table.Found) -> str:
    """The log-likelihoods in short."""
    return uci_claims.summary(found).markdown()


@from_file("uci_rows/protein.json")
def regression_rows(result: dict[str, Any]) -> str:
    """The test rows behind splits that go wrong."""
    splits = [split for cell in result["cells"] for split in cell["splits"]]
    far = [
        f"{min(values)} to {max(values)} of a split's {splits[0][rows]} {rows}"
        for name, rows in (("far training rows", "training rows"), ("far test rows", "test rows"))
        for values in [[split[name] for split in splits]]
    ]
    same = max(split["distance"] for split in splits)
    return (
        f"{uci_rows.grid([result]).markdown()}\n\nAn input lies more than 10 deviations from the "
        f"mean in {' and in '.join(far)}. The trainings were repeated; their RMSE is that of the "
        f"table above to a relative {same:.0e}."
    )


@from_file("uci_rows/energy.json")
def regression_outlier(result: dict[str, Any]) -> str:
    """Splits in which a single test row costs more than 1 of the log-likelihood."""
    splits = [
        split | {"split": number, "worst": split["worst row"]}
        for number, split in enumerate(result["cells"][0]["splits"], 1)
        if split["without the worst row"] - split["log likelihood"] > 1
    ]
    return columns(
        splits,
        "split {split} | LL {log likelihood:.2f} | its worst row {worst[number]}",
        "without it {without the worst row:.2f} | its error {worst[error]:.2f}",
        "its predicted deviation {worst[predicted deviation]:.3f}",
    )


@from_file("observation_density/boston/result.json")
def observation_density(result: dict[str, Any]) -> str:
    """Simulated examples of trained networks, and whether the chains that made them agree."""
    rows = []
    for name, found in result["models"].items():
        row = found | {"name": MODELS[name]}
        for what in ("label - prediction", "label - members", "spread of members"):
            figures = found[what]["value"], found[what]["standard error"]
            row[what] = Mean(*figures, result["settings"]["chains"]).told(2)
        row["agreement"] = f"{found['largest R-hat']:.3f}"
        row["agreement"] += " (NOT converged)" * (not found["converged"])
        rows.append(row)
    figures = columns(
        rows,
        "model {name} | label − own prediction {label - prediction}",
        "label − independent networks {label - members}",
        "spread of those networks {spread of members} | learnt noise {noise:.2f}",
        "inputs, relative to their prior {spread of inputs:.3f}",
        "test RMSE {test[rmse]:.2f} | test NLL {test[nll]:.2f}",
    )
    chains = columns(
        rows,
        "model {name} | largest R-hat {agreement}",
        "smallest effective sample size {smallest effective sample size:.0f}",
        "divergences {divergences} | acceptance {acceptance:.2f}",
        "leapfrog steps a draw {leapfrog steps:.0f}",
    )
    return f"{figures}\n\n{chains}"
