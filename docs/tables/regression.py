"""Tables of the regression experiments of [B]."""

import pathlib
from collections.abc import Callable, Iterable

from docs.tables.parts import Parts, bullets, columns, from_file, of, origin, read_all
from train.report.statistics import Mean
from train.report.tables import Result
from train.uci import claims as uci_claims
from train.uci import rows as uci_rows
from train.uci import table as uci_table
from train.uci import trials as uci_trials

MODELS = {
    "moments": "trained by moments",
    "ensemble": "ensemble of independent networks",
    "network": "one independent network",
}


def by_cell(results: pathlib.Path) -> uci_table.Found:
    """All cells, by data, method and noise."""
    folder = results / "uci"
    return uci_table.read_all(folder) if folder.exists() else {}


def tails(found: uci_table.Found) -> Parts:
    """Splits on which a method's predictions go wrong."""
    text = "Splits of all sets whose log-likelihood is lower by more than 1 than with homoscedastic"
    wrong = f"{text} noise: {uci_claims.overconfident(found)}."
    return [uci_claims.tails(found, "protein"), wrong]


def origins(made: Iterable[Result]) -> list[str]:
    """Where results come from, each said once."""
    return sorted({origin(result, data=False) for result in made})


OF_CELLS: dict[str, Callable[[uci_table.Found], Parts]] = {
    # Log-likelihood and RMSE of moments beside the columns of [B], and beside other published.
    "beside": lambda found: [
        grid for figure in uci_table.FIGURES for grid in uci_table.beside(found, figure)
    ],
    # What was to be reached, point by point, and the verdicts that it is counted from.
    "reached": lambda found: [
        bullets(uci_claims.targets(found)),
        uci_table.reached(found, *uci_claims.MAIN),
        uci_claims.counts(found),
    ],
    # Our methods against one another.
    "duels": lambda found: [
        way(found) for way in (uci_claims.gains, uci_claims.duels, uci_claims.natural)
    ],
    "methods": uci_table.own,
    "tails": tails,
    # Seconds per split, their sum, and where they come from.
    "time": lambda found: [
        uci_table.times(found),
        uci_claims.total(found),
        *origins(found.values()),
    ],
    # The log-likelihoods in short.
    "likelihoods": lambda found: [uci_claims.summary(found).markdown()],
}
OF_TRIALS: dict[str, Callable[[list[Result]], Parts]] = {
    # Where trainings end from different starts.
    "starts": lambda made: [uci_trials.starts_table(made), *origins(made)],
    # What another learning rate gains after a part of a training, and after the whole.
    "search": lambda made: [uci_trials.search_table(made), *origins(made)],
    # How long one training takes.
    "speed": lambda made: [uci_trials.speed_table(made), *origins(made)],
}
for name, table in OF_CELLS.items():
    of(by_cell, f"regression-{name}")(table)
for name, table in OF_TRIALS.items():
    of(lambda results, name=name: read_all(results, f"uci_{name}/*.json"), f"regression-{name}")(
        table
    )


@from_file("uci_rows/protein.json")
def regression_rows(result: Result) -> Parts:
    """The test rows behind splits that go wrong."""
    splits = [split for cell in result["cells"] for split in cell["splits"]]
    far = [
        f"{min(values)} to {max(values)} of a split's {splits[0][rows]} {rows}"
        for name, rows in (("far training rows", "training rows"), ("far test rows", "test rows"))
        for values in [[split[name] for split in splits]]
    ]
    same = max(split["distance"] for split in splits)
    return [
        uci_rows.grid([result]).markdown(),
        f"An input lies more than 10 deviations from the mean in {' and in '.join(far)}. The "
        f"trainings were repeated; their RMSE is that of their cells to a relative {same:.0e}.",
    ]


@from_file("uci_rows/energy.json")
def regression_outlier(result: Result) -> str:
    """Splits in which a single test row costs more than 1 of the log-likelihood."""
    splits = [
        {"split": number} | (split | split["worst row"])
        for number, split in enumerate(result["cells"][0]["splits"], 1)
        if split["without the worst row"] - split["log likelihood"] > 1
    ]
    return columns(
        splits,
        "split {split} | LL {log likelihood:.2f} | its worst row {number}",
        "LL without it {without the worst row:.2f} | its error {error:.2f}",
        "its predicted deviation {predicted deviation:.3f}",
    )


@from_file("observation_density/boston/result.json")
def observation_density(result: Result) -> Parts:
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
    yield columns(
        rows,
        "model {name} | label − own prediction {label - prediction}",
        "label − independent networks {label - members}",
        "spread of those networks {spread of members} | learnt noise {noise:.2f}",
        "inputs, relative to their prior {spread of inputs:.3f}",
        "test RMSE {test[rmse]:.2f} | test NLL {test[nll]:.2f}",
    )
    yield columns(
        rows,
        "model {name} | largest R-hat {agreement}",
        "smallest effective sample size {smallest effective sample size:.0f}",
        "divergences {divergences} | acceptance {acceptance:.2f}",
        "leapfrog steps a draw {leapfrog steps:.0f}",
    )
