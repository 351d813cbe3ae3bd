"""What results of `train.vae` say: a table of all cells, and paired differences, from JSON only."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from train.report.claims import told as told_differences
from train.report.statistics import Mean, mean, paired
from train.report.tables import DATA, Grid, Result, Run
from train.vae.settings import Cell

LATENTS = {"gaussian": "Gaussian", "bernoulli": "Bernoulli"}
GRADIENTS = {
    "pathwise": "pathwise",
    "doubly_reparameterised": "doubly reparameterised",
    "straight_through": "straight-through",
    "vimco": "VIMCO",
}
# Test log-likelihoods of MNIST, dynamic, with 5,000 samples: Burda, Grosse and Salakhutdinov, Table
# 1, one layer of latent nodes; the first is of their VAE with one sample.
PUBLISHED = {
    Cell("gaussian", "pathwise", 1): -86.76,
    Cell("gaussian", "pathwise", 5): -85.54,
    Cell("gaussian", "pathwise", 50): -84.78,
}
PUBLISHED_OF = ("mnist", "dynamic")
# Which of two has the higher test log-likelihood, as far as it is claimed; the first one.
COMPARED = [
    *(
        (Cell("gaussian", "pathwise", many), Cell("gaussian", "pathwise", few))
        for few, many in ((1, 5), (1, 50), (5, 50))
    ),
    *(
        (Cell("gaussian", "doubly_reparameterised", k), Cell("gaussian", "pathwise", k))
        for k in (5, 50)
    ),
    *((Cell("bernoulli", "vimco", k), Cell("bernoulli", "straight_through", k)) for k in (5, 50)),
]
MISSING = "not yet measured"

Runs = Mapping[Cell, Sequence[Run]]


def name_of(cell: Cell) -> str:
    """A cell in words.

    Example:
        >>> name_of(Cell("gaussian", "pathwise", 1)), name_of(Cell("bernoulli", "vimco", 5))
        ('ELBO', 'VIMCO, K = 5')
        >>> name_of(Cell("gaussian", "pathwise", 50, first_epochs=90))
        'pathwise, K = 50, first 90 epochs by the ELBO'
    """
    if cell.samples == 1 and cell.gradient == "pathwise":
        return "ELBO"
    own = f"{GRADIENTS[cell.gradient]}, K = {cell.samples}"
    if not cell.first_epochs:
        return own
    cheapest = cell.cheapest
    of = "the ELBO" if cheapest.gradient == "pathwise" else f"K = {cheapest.samples}"
    return f"{own}, first {cell.first_epochs} epochs by {of}"


def published(cell: Cell) -> float | None:
    """What is printed of a bound of so many samples, whatever the first epochs are by."""
    return PUBLISHED.get(cell._replace(first_epochs=0))


def by_data(results: Iterable[Result]) -> dict[tuple[str, str], Runs]:
    """All runs by data and binarisation, and by cell; those of one may come from several results.
    ValueError if a run is there twice."""
    found: dict[tuple[str, str], dict[Cell, list[Run]]] = {}
    for result in results:
        settings = result["settings"]
        cells = found.setdefault((settings["data"], settings["binarisation"]), {})
        for run in result["runs"]:
            own = run["latent"], run["gradient"], run["samples"]
            cell = Cell(*own, run.get("first_epochs", 0))  # not in results from before there were
            known = cells.setdefault(cell, [])
            if any(other["seed"] == run["seed"] for other in known):
                raise ValueError(f"two results hold the run {cell} of seed {run['seed']}")
            known.append(run)
    return {of: dict(sorted(cells.items(), key=_order)) for of, cells in found.items()}


def _order(entry: tuple[Cell, Sequence[Run]]) -> tuple[int, ...]:
    cell = entry[0]
    latent, gradient = [*LATENTS].index(cell.latent), [*GRADIENTS].index(cell.gradient)
    return latent, gradient, cell.samples, cell.first_epochs


def told_data(of: tuple[str, str]) -> str:
    """Data and binarisation in words."""
    return f"{DATA[of[0]]}, {of[1]}"


def figures(results: Sequence[Result], wanted: Iterable[Cell] = ()) -> Grid:
    """The test figures of results on the same data: means over seeds ± their standard errors. A row
    that is wanted, and of which there is none, says so."""
    ((of, runs),) = by_data(results).items()
    entries = sorted((dict.fromkeys(wanted, ()) | dict(runs)).items(), key=_order)
    names = ["log-likelihood", "estimated to", "ELBO", "KL", "active", "epochs", "runs"]
    lines = [_line(*entry) for entry in entries]
    if of == PUBLISHED_OF:
        names.insert(1, "published")
        for (cell, _), line in zip(entries, lines, strict=True):
            printed = published(cell)
            line.insert(3, "-" if printed is None else f"{printed:.2f}")
    images = {run["test"]["images"] for run in _tested(itertools.chain(*runs.values()))}
    told = f"estimated on {' or '.join(map(str, sorted(images)))}" if images else "none yet"
    title = f"{told_data(of)}: nats of a test image, {told}"
    return Grid(title, ["latent nodes", "bound", *names], lines, names=2)


def short_figures(result: Result) -> Grid:
    """The same of one result, for a terminal of 80 characters."""
    grid = figures([result])
    shown = [grid.head.index(name) for name in ("latent nodes", "bound", "log-likelihood", "ELBO")]
    lines = [[line[column] for column in shown] for line in grid.lines]
    return grid._replace(head=[grid.head[column] for column in shown], lines=lines)


def _tested(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run["test"] is not None]


def _line(cell: Cell, runs: Sequence[Run]) -> list[str]:
    tests = [run["test"] for run in _tested(runs)]

    def told(name: str, digits: int) -> str:
        return mean([test[name] for test in tests]).told(digits)

    names = [LATENTS[cell.latent], name_of(cell)]
    if not tests:
        return [*names, MISSING, *["-"] * 5, "0"]
    error = mean([test["log likelihood error"] for test in tests]).value
    epochs = f"{mean([run['epochs'] for run in runs]).value:.0f}"
    figures = told("log likelihood", 2), f"± {error:.2f}", told("elbo", 2), told("kl", 2)
    return [*names, *figures, told("active units", 1), epochs, str(len(tests))]


def by_run(runs: Runs, cell: Cell) -> dict[tuple[int, int], float]:
    """The test log-likelihoods of a cell, by seed and number of epochs."""
    return {
        (run["seed"], run["epochs"]): run["test"]["log likelihood"]
        for run in _tested(runs.get(cell, ()))
    }


def differences(runs: Runs) -> dict[tuple[Cell, Cell], Mean]:
    """How much higher the test log-likelihood of one cell is than that of another, of those that
    are compared and have seeds in common, trained for as many epochs."""
    found = {pair: paired(*(by_run(runs, cell) for cell in pair)) for pair in COMPARED}
    return {pair: difference for pair, difference in found.items() if difference.number}


def meaning(results: Sequence[Result]) -> str:
    """What the differences say, in a sentence."""
    ((_, runs),) = by_data(results).items()
    found = differences(runs)
    counted = {
        f"{name_of(one)} less {name_of(other)}": difference
        for (one, other), difference in found.items()
        if difference.sign
    }
    if not found:
        return "No two of these are compared."
    if max(difference.number for difference in found.values()) < 2:
        return "With one seed nothing can be decided, whatever the differences."
    rest = f"{len(found) - len(counted)} of {len(found)} differences do not count: their 95 % "
    rest = (rest + "interval holds 0.") if len(counted) < len(found) else ""
    if not counted:
        return f"No difference of test log-likelihoods counts. {rest}"
    return f"Test log-likelihoods differ, in nats: {told_differences(counted)}. {rest}".strip()
