"""What stands beside the tables: trials that decide about the recipe on validation rows, without a
test row; and a cell row by row, see `train.uci.rows`.

    python -m train.uci --trial starts --data-dir FOLDER --methods moments_adam --splits 5
    python -m train.uci --trial search --data-dir FOLDER --methods moments_adam ensemble --splits 3
    python -m train.uci --trial speed --data-dir FOLDER --methods moments_adam

*Starts*: where trainings of a posterior end from different starts, its bound beside its
predictions. A start that ends with worse predictions is one of three things. If its bound stays
lower, where both trainings go on for as long again, its end is a poor optimum. If twice the
training makes up for half of it, it converges slowly. Else the bound prefers the worse prediction.

*Search*: what another learning rate gains after a part of the training and after the whole. The
rate falls to 0 in each, so that a short training may want a larger one than the whole.

*Speed*: one training of all splits at once on all their rows, without search, compiling and test:
what is printed for methods whose hyperparameters were given. On a machine that does nothing else.

**Left behind** in `--out`: `TRIAL-DATA-METHOD-NOISE.json` for each, and `TRIAL.md`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from train.data.uci import Table
from train.report import results
from train.report.files import write_atomic
from train.report.statistics import Mean, mean, paired
from train.report.tables import Grid
from train.uci import experiment as uci
from train.uci import rows
from train.uci.published import TAGI_SECONDS
from train.uci.settings import CANDIDATES, SETS, Cell, Config, cells, recipe
from train.uci.table import title, values

Result = Mapping[str, Any]
# What is changed in the first candidate, and how many times as long a training is.
Variant = tuple[Mapping[str, float], float]

RECIPE, SETTLED = "recipe", "recipe, then as long again"
FULL, LONGER = "full cost at once", "full cost at once, twice as long"
STARTS: dict[str, Variant] = {
    RECIPE: ({}, 1),
    # The cost rises as in the recipe; then as many steps follow at its full size.
    SETTLED: ({"warm_up": 0.45}, 2),
    FULL: ({"warm_up": 0.0}, 1),
    LONGER: ({"warm_up": 0.0}, 2),
    "full cost at once, small noise": ({"warm_up": 0.0, "first_noise": -4.6}, 1),
}
LENGTHS = {"an eighth": 1 / 8, "a half": 1 / 2, "the whole": 1.0}


def variants(trial: str, cell: Cell) -> dict[str, Variant]:
    """What is trained for a cell."""
    if trial == "starts":
        return STARTS if cell.method.startswith("moments") else {}
    other = {"learning_rate": CANDIDATES[cell.method][-1].learning_rate}
    return {
        f"{rate}, {length}": (change, times)
        for length, times in LENGTHS.items()
        for rate, change in (("first rate", {}), ("other rate", other))
    }


def main(config: Config, tables: Mapping[str, Table], command: str, console: Any) -> list[Any]:
    """Makes a trial of every cell that it is about; tells and writes what came out."""
    (run, grid), made = TRIALS[str(config.trial)], []
    for cell in cells(config):
        if result := run(config, cell, tables[cell.data], command):
            made.append(result)
            results.write(config.out / f"{config.trial}-{'-'.join(cell)}.json", result)
            results.said_on(console)("\n".join(map(" | ".join, grid([result]).lines)))
    write_atomic(config.out / f"{config.trial}.md", f"{grid(made).titled()}\n".encode())
    return made


def run(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any] | None:
    """All variants of a cell, with the figures of each split: what its JSON says."""
    given, found = uci.problem(config, cell, table), {}
    for name, (change, times) in variants(str(config.trial), cell).items():
        hyper = CANDIDATES[cell.method][0]._replace(**change)
        epochs = max(round(times * recipe(config, cell.data).epochs), 1)
        params = given.trained(epochs, hyper, given.fit)
        found[name] = given.figures(given.scored(params, hyper, given.held), given.held[1])
        if config.trial == "starts":
            for split, end in zip(found[name], given.bound(params, hyper), strict=True):
                split["bound"] = float(end)
    origin = uci.origin(f"{config.trial} of regression", config, cell, table, command)
    return {**origin, str(config.trial): found} if found else None


def timed(config: Config, cell: Cell, table: Table, command: str) -> dict[str, Any]:
    """How long the training of a cell takes: what its JSON says."""
    given, hyper = uci.problem(config, cell, table), CANDIDATES[cell.method][0]
    given.trained(0, hyper)  # compiles
    start = time.perf_counter()
    given.trained(recipe(config, cell.data).epochs, hyper)
    told = {"seconds": time.perf_counter() - start, "splits": len(given.splits)}
    return {**uci.origin("speed of regression", config, cell, table, command), "speed": told}


def gain(found: Mapping[str, Any], one: str, other: str, figure: str) -> Mean:
    """What a variant gains over another."""
    return paired(values(found[one], figure), values(found[other], figure))


def verdict(starts: Mapping[str, Any]) -> str:
    """What is wrong with the training that pays its full cost from the first step."""
    better = gain(starts, RECIPE, FULL, "log likelihood")
    if better.sign <= 0:
        return "no difference that counts"
    if gain(starts, SETTLED, LONGER, "bound").sign > 0:
        return "a poor optimum"
    if gain(starts, LONGER, FULL, "log likelihood").value > better.value / 2:
        return "slow convergence"
    return "the bound prefers the worse prediction"


def starts_table(made: Sequence[Result]) -> Grid:
    """The table of all starts."""

    def told(splits: Sequence[Mapping[str, Any]]) -> str:
        bound, likelihood, rmse = (
            mean(list(values(splits, figure).values())).value
            for figure in ("bound", "log likelihood", "rmse")
        )
        return f"{bound:.3f}, {likelihood:.3f}, {rmse:.4g}"

    lines = []
    for settings, starts in ((result["settings"], result["starts"]) for result in made):
        ends = (told(starts[start]) for start in STARTS)
        lines.append([f"{settings['data']}, {settings['noise']}", *ends, verdict(starts)])
    figures = "Bound of a training row at the end (scaled units), log-likelihood and RMSE of"
    head = ["data", *STARTS, f"what is wrong with {FULL}"]
    return Grid(f"{figures} validation rows, means over splits", head, lines)


def search_table(made: Sequence[Result]) -> Grid:
    """The table of what another learning rate gains."""
    lines = []
    for settings, found in ((result["settings"], result["search"]) for result in made):
        first, *_, other = (hyper["learning_rate"] for hyper in settings["candidates"])
        gains = (
            gain(found, f"other rate, {part}", f"first rate, {part}", "log likelihood")
            for part in LENGTHS
        )
        name = title(settings["method"], settings["noise"])
        told = [each.told(3, signed=True) for each in gains]
        lines.append([settings["data"], name, f"{other:g} for {first:g}", *told])
    gained = "What another learning rate gains in log-likelihood of validation rows"
    heading = f"{gained} in a part of the training and in all: mean over splits ± standard error"
    return Grid(heading, ["data", "method", "rate", *LENGTHS], lines, names=3)


def speed_table(made: Sequence[Result]) -> Grid:
    """The table of how long trainings take, beside the times that are printed for TAGI."""
    printed, lines = dict(zip(SETS, TAGI_SECONDS, strict=True)), []
    for settings, told in ((result["settings"], result["speed"]) for result in made):
        name, ours = title(settings["method"], settings["noise"]), told["seconds"] / told["splits"]
        other = printed.get(settings["data"])
        beside = ["-", "-"] if other is None else [f"{other:g}", f"{ours / other:.2f}"]
        lines.append([settings["data"], name, f"{ours:.3f}", *beside])
    head = ["data", "method", "seconds of a split", "TAGI, as printed", "ratio"]
    return Grid("One training, without search, compiling and test", head, lines, names=2)


# What is done with a cell, and the table of what comes of all.
TRIALS: dict[str, tuple[Callable[..., dict[str, Any] | None], Callable[[Any], Grid]]] = {
    "starts": (run, starts_table),
    "search": (run, search_table),
    "speed": (timed, speed_table),
    "rows": (rows.run, rows.grid),
}
