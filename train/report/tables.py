"""What is said about results: means over seeds with standard errors, as tables.

python -m train.report results/dense/*/*/result.json   # as Markdown
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from train.report.settings import but_epochs

# Name in the JSON, heading, factor, decimal places.
FIGURES = (("error", "error %", 100, 2), ("nll", "NLL", 1, 4), ("ece", "ECE %", 100, 2))
# The settings that say which runs there are, and nothing about any of them.
RUN_SETTINGS = frozenset({"seeds", "nodes", "regularisers", "none", "dropout", "pcff", "both"})
TITLES = {
    "test": "Test set, feed-forward: mean over seeds, and its standard error",
    "monte carlo": "Test set, average of samples of the training procedure",
}


class Mean(NamedTuple):
    """A mean over seeds."""

    value: float
    standard_error: float  # not a number for a single seed
    seeds: int


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error of independent values.

    Example:
        >>> mean([1.0, 3.0])
        Mean(value=2.0, standard_error=1.0, seeds=2)
    """
    n = len(values)
    if n == 0:
        return Mean(math.nan, math.nan, 0)
    average = math.fsum(values) / n
    squares = math.fsum((v - average) ** 2 for v in values)
    return Mean(average, math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan, n)


def merged(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of the same data set as one; the seeds of an experiment may be trained apart.

    Args:
        results: as in `result.json`.

    Returns:
        One for each data set: the first of it, with the runs of all.

    Raises:
        ValueError: if two were made with other settings (the last epoch aside, which each run's
            status tells of), or hold the same run.
    """
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        name = result["settings"]["data"]
        if name not in found:
            found[name] = {**result, "runs": list(result["runs"])}
            continue
        kept = found[name]
        for setting in kept["settings"].keys() - RUN_SETTINGS:
            one, other = (but_epochs(r["settings"]).get(setting) for r in (kept, result))
            if one != other:
                raise ValueError(f"two results of {name} differ in the setting {setting!r}")
        kept["runs"] += result["runs"]
        runs = [(*_labels(kept, run), run["seed"]) for run in kept["runs"]]
        if len(set(runs)) < len(runs):
            raise ValueError(f"two results of {name} hold the same run")
    return list(found.values())


def merged_by_settings(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of the same settings as one; those of other settings stay apart.

    Args:
        results: as in `result.json`.

    Returns:
        One for each experiment and setting of it, in the order in which they come.

    Raises:
        ValueError: if two of the same settings hold the same run.
    """
    sets: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        facts = {k: v for k, v in result["settings"].items() if k not in RUN_SETTINGS}
        key = json.dumps([result["experiment"], facts], sort_keys=True)
        sets.setdefault(key, []).append(result)
    return [whole for same in sets.values() for whole in merged(same)]


def difference(runs: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> Mean:
    """Mean difference of the test errors of runs of the same seeds, in percentage points.

    Args:
        runs: entries of `result["runs"]`.
        others: those that are subtracted; seeds that only one of the two has are left out.

    Example:
        >>> runs = [{"seed": s, "test": {"error": e}} for s, e in ((0, 0.5), (1, 0.75))]
        >>> errors = {2: 0.5, 1: 0.25, 0: 0.125}
        >>> others = [{"seed": s, "test": {"error": e}} for s, e in errors.items()]
        >>> difference(runs, others)
        Mean(value=43.75, standard_error=6.25, seeds=2)
    """
    known = {run["seed"]: run["test"]["error"] for run in others if run["test"] is not None}
    return mean(
        [
            100 * (run["test"]["error"] - known[run["seed"]])
            for run in runs
            if run["test"] is not None and run["seed"] in known
        ]
    )


def labels(result: dict[str, Any]) -> tuple[str, str]:
    """What two runs that differ in the seed alone have in common."""
    first, second = result.get("labels", ("nodes", "regulariser"))
    return first, second


def _labels(result: dict[str, Any], run: dict[str, Any]) -> tuple[str, str]:
    first, second = labels(result)
    return str(run[first]), str(run[second])


def rows(result: dict[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """The runs of each pair of labels, in the order of the result."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in result["runs"]:
        grouped.setdefault(_labels(result, run), []).append(run)
    return [(first, second, runs) for (first, second), runs in grouped.items()]


def over_seeds(runs: Sequence[dict[str, Any]], way: str, figure: str) -> Mean:
    """Mean of a figure of several runs; those without it are left out.

    Args:
        runs: entries of `result["runs"]`.
        way: "test" (feed-forward) or "monte carlo".
        figure: "error", "nll", "ece" or "brier".
    """
    return mean([run[way][figure] for run in runs if run[way] is not None])


def tables(result: dict[str, Any]) -> list[Any]:
    """The result as `rich` tables: feed-forward, and Monte Carlo where it differs."""
    ways = [way for way in TITLES if way == "test" or any(run[way] for run in result["runs"])]
    return [_table(result, way) for way in ways]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The results as a Markdown table: mean over seeds, and standard error."""
    headings = [heading for _, heading, _, _ in FIGURES]
    head = ["data", *labels(results[0]), *headings, *(f"MC {h}" for h in headings), "runs"]
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    for result in merged(results):
        for first, second, runs in rows(result):
            cells = [
                _cell(over_seeds(runs, way, figure), factor, digits)
                for way in TITLES
                for figure, _, factor, digits in FIGURES
            ]
            name = result["settings"]["data"]
            lines.append([name, first, second, *cells, str(len(runs))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(result: dict[str, Any], way: str) -> Any:
    from rich import box
    from rich.table import Table

    made = Table(title=TITLES[way], box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in labels(result):
        made.add_column(heading, no_wrap=True)
    for heading in (*(heading for _, heading, _, _ in FIGURES), "epochs", "runs"):
        made.add_column(heading, justify="right", no_wrap=True)
    for first, second, runs in rows(result):
        tested = sum(run[way] is not None for run in runs)
        if way == "monte carlo" and not tested:
            continue  # nothing is random
        cells = [
            _cell(over_seeds(runs, way, figure), factor, digits)
            for figure, _, factor, digits in FIGURES
        ]
        count = str(tested) if tested == len(runs) else f"{tested} of {len(runs)}"
        epochs = f"{mean([run['epochs'] for run in runs]).value:.0f}"
        made.add_row(first, second, *cells, epochs, count)
    return made


def _cell(figure: Mean, factor: int, digits: int) -> str:
    if figure.seeds == 0:
        return "-"
    value = f"{factor * figure.value:.{digits}f}"
    if math.isnan(figure.standard_error):
        return value
    return f"{value} ±{factor * figure.standard_error:.{digits}f}"
