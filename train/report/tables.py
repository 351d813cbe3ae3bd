"""What is said about results: means over seeds, paired differences, and tables of both.

python -m train.report results/dense/*/*/result.json   # as Markdown
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from train.report.results import Result, read_json
from train.report.settings import but_epochs
from train.report.statistics import Mean, mean, paired

# Name in the JSON, heading, factor, decimal places.
FIGURES = (("error", "error %", 100, 2), ("nll", "NLL", 1, 4), ("ece", "ECE %", 100, 2))
# The settings that say which runs there are, and nothing about any of them.
RUN_SETTINGS = frozenset({"seeds", "nodes", "regularisers", "none", "dropout", "pcff", "both"})
TITLES = {
    "test": "Test set, feed-forward: mean over seeds ± its standard error",
    "monte carlo": "Test set, average of samples of the training procedure",
}
DATA = {
    "digits": "Digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny ImageNet",
}
NODES = {"tanh": "tanh", "relu": "ReLU"}
REGULARISERS = {"none": "none", "dropout": "dropout", "pcff": "PCFF", "both": "dropout + PCFF"}

Run = dict[str, Any]


class Grid(NamedTuple):
    """A table as text."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    names: int = 1  # the first so many columns are no numbers

    def markdown(self) -> str:
        """The table without its title; numbers are set to the right."""
        rule = ["---"] * self.names + ["---:"] * (len(self.head) - self.names)
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.head, rule, *self.lines))

    def titled(self) -> str:
        """The table below its title."""
        return f"{self.title}:\n\n{self.markdown()}"

    def rich(self) -> Any:
        """The table for a terminal."""
        from rich import box
        from rich.table import Table

        made = Table(title=self.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, heading in enumerate(self.head):
            name = i < self.names  # figures wrap where a terminal is narrow: none may be cut off
            made.add_column(heading, justify="left" if name else "right", no_wrap=name)
        for line in self.lines:
            made.add_row(*line)
        return made


def read(path: Path) -> Result:
    """The result of an experiment that has runs, from its `result.json`; DataFileError names a file
    that cannot be read, is no such result, or has no runs."""

    def check(result: Any) -> None:
        _ = result["settings"]["data"]
        for run in result["runs"]:
            _ = run["seed"], run["test"]
        if not result["runs"]:
            raise ValueError("it has no runs")

    return read_json(path, check, "result of an experiment with runs")


def read_all(folder: Path, pattern: str = "**/result.json") -> list[Result]:
    """The results below a folder, in the order of their names; see `read`."""
    return [read(path) for path in sorted(folder.glob(pattern))]


def merged(results: Sequence[Result]) -> list[Result]:
    """Results of the same data set as one, the first of it with the runs of all; the seeds of an
    experiment may be trained apart. ValueError if two were made with other settings (the last epoch
    aside, which each run's status tells of), or hold the same run."""
    found: dict[str, Result] = {}
    for result in results:
        name = result["settings"]["data"]
        if name not in found:
            found[name] = {**result, "runs": list(result["runs"])}
            continue
        whole = found[name]
        for setting in whole["settings"].keys() - RUN_SETTINGS:
            one, other = (but_epochs(r["settings"]).get(setting) for r in (whole, result))
            if one != other:
                raise ValueError(f"two results of {name} differ in the setting {setting!r}")
        whole["runs"] += result["runs"]
        if any(len({run["seed"] for run in runs}) < len(runs) for *_, runs in rows(whole)):
            raise ValueError(f"two results of {name} hold the same run")
    return list(found.values())


def merged_by_settings(results: Sequence[Result]) -> list[Result]:
    """Results of the same experiment and settings as one; those of other settings stay apart.
    ValueError if two of the same settings hold the same run."""
    sets: dict[str, list[Result]] = {}
    for result in results:
        facts = {k: v for k, v in result["settings"].items() if k not in RUN_SETTINGS}
        key = json.dumps([result["experiment"], facts], sort_keys=True)
        sets.setdefault(key, []).append(result)
    return [whole for same in sets.values() for whole in merged(same)]


def labels(result: Result) -> tuple[str, str]:
    """What two runs that differ in the seed alone have in common."""
    first, second = result.get("labels", ("nodes", "regulariser"))
    return first, second


def rows(result: Result) -> list[tuple[str, str, list[Run]]]:
    """The runs of each pair of labels, in the order of the result."""
    grouped: dict[tuple[str, str], list[Run]] = {}
    first, second = labels(result)
    for run in result["runs"]:
        grouped.setdefault((str(run[first]), str(run[second])), []).append(run)
    return [(first, second, runs) for (first, second), runs in grouped.items()]


def over_seeds(runs: Sequence[Run], way: str, figure: str) -> Mean:
    """Mean of a figure ("error", "nll", "ece" or "brier") of several runs, entries of
    `result["runs"]`; those without it are left out. The way is "test" (feed-forward), or "monte
    carlo" or another average of samples."""
    return mean([run[way][figure] for run in runs if run[way] is not None])


def difference(runs: Sequence[Run], others: Sequence[Run]) -> Mean:
    """Mean difference of the test errors of runs and others of the same seeds, in percentage
    points; seeds that only one of the two has are left out.

    Example:
        >>> runs = [{"seed": s, "test": {"error": e}} for s, e in ((0, 0.5), (1, 0.75))]
        >>> errors = {2: 0.5, 1: 0.25, 0: 0.125}
        >>> others = [{"seed": s, "test": {"error": e}} for s, e in errors.items()]
        >>> difference(runs, others)
        Mean(value=43.75, standard_error=6.25, number=2)
    """
    ours, theirs = (
        {run["seed"]: 100 * run["test"]["error"] for run in some if run["test"] is not None}
        for some in (runs, others)
    )
    return paired(ours, theirs)


def differences(result: Result) -> dict[str, Mean]:
    """What each regulariser changes, by its name: differences of test errors from "none" of the
    same seeds and, where there are several, of the same nodes; in percentage points."""
    found = {}
    for first, second, runs in rows(result):
        names = dict(zip(labels(result), (first, second), strict=True))
        regulariser, of_nodes = names["regulariser"], names.get("nodes")
        like = [run for run in result["runs"] if run.get("nodes") == of_nodes]
        none = [run for run in like if run["regulariser"] == "none"]
        if regulariser != "none" and none:
            name = f"{REGULARISERS[regulariser]} {names.get('rate', '')}".strip()
            nodes = f" ({NODES[of_nodes]})" if of_nodes else ""
            found[name + nodes] = difference(runs, none)
    return found


def meaning(found: Mapping[str, Mean]) -> str:
    """What `differences` from no regularisation say, in a sentence or two.

    Example:
        >>> meaning({"PCFF": Mean(-0.5, 0.1, 3), "dropout": Mean(0.2, 0.1, 3)})
        'Compared with none, the test error is lower by 0.50 points with PCFF. No other difference \
counts: its 95 % interval holds 0.'
        >>> meaning({"PCFF": Mean(-0.5, float("nan"), 1)})
        'With one seed nothing can be decided, whatever the differences.'
    """
    if not found:
        return "There are no runs with and without a regulariser of the same seed to compare."
    if max(each.number for each in found.values()) < 2:
        return "With one seed nothing can be decided, whatever the differences."
    signs: dict[int, list[str]] = {-1: [], 0: [], 1: []}
    for name, each in found.items():
        signs[each.sign].append(f"by {abs(each.value):.2f} points with {name}")
    words = {"lower": signs[-1], "higher": signs[1]}
    parts = [f"{word} {', '.join(told)}" for word, told in words.items() if told]
    if not parts:
        return "No difference counts: each one's 95 % interval holds 0."
    rest = " No other difference counts: its 95 % interval holds 0."
    return f"Compared with none, the test error is {'; '.join(parts)}." + rest * bool(signs[0])


def tables(result: Result) -> list[Any]:
    """The result for a terminal: feed-forward, Monte Carlo where it differs, and the differences
    from no regularisation, with a sentence that says what they mean."""
    from rich.text import Text

    ways = [way for way in TITLES if way == "test" or any(run[way] for run in result["runs"])]
    found = differences(result)
    made = [_grid(result, way) for way in ways]
    if found:
        title = "Test error less that of none, points: paired by seed"
        head = ["regulariser", "difference", "95 % interval", "seeds"]
        lines = []
        for name, each in found.items():
            low, high = each.interval
            interval = f"{low:+.2f} to {high:+.2f}" if each.number > 1 else "-"
            lines.append([name, each.told(2, signed=True), interval, str(each.number)])
        made.append(Grid(title, head, lines))
    return [*(grid.rich() for grid in made), Text(meaning(found))]


def markdown(results: Sequence[Result]) -> str:
    """The results as a Markdown table: mean over seeds, and standard error."""
    headings = [heading for _, heading, _, _ in FIGURES]
    head = ["data", *labels(results[0]), *headings, *(f"MC {h}" for h in headings), "runs"]
    lines = [
        [result["settings"]["data"], *names]
        + [cell for way in TITLES for cell in cells(runs, way)]
        + [str(len(runs))]
        for result in merged(results)
        for *names, runs in rows(result)
    ]
    return f"{Grid('', head, lines, names=3).markdown()}\n"


def cells(runs: Sequence[Run], way: str) -> list[str]:
    """The mean of each of `FIGURES` over runs; see `over_seeds`."""
    return [over_seeds(runs, way, name).told(digits, factor) for name, _, factor, digits in FIGURES]


def _grid(result: Result, way: str) -> Grid:
    lines = []
    for *names, runs in rows(result):
        tested = sum(run[way] is not None for run in runs)
        if way == "monte carlo" and not tested:
            continue  # nothing is random
        count = str(tested) if tested == len(runs) else f"{tested} of {len(runs)}"
        epochs = f"{mean([run['epochs'] for run in runs]).value:.0f}"
        lines.append([*names, *cells(runs, way), epochs, count])
    head = [*labels(result), *(heading for _, heading, _, _ in FIGURES), "epochs", "runs"]
    return Grid(TITLES[way], head, lines, names=2)
