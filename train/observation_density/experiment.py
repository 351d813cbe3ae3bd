"""The experiment from the data to `result.json`; see `train.observation_density`."""

from importlib import metadata
from pathlib import Path
from typing import Any

from train.data import uci
from train.observation_density.density import CONVERGED, drawn, observe
from train.observation_density.figure import draw
from train.observation_density.settings import Config
from train.observation_density.training import train
from train.report import machine, results

SOURCE = "[B] 4.2, Figure 2"
TITLE = "examples that a trained network expects"


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, samples, and leaves the result behind. DataFileError for bad data, ValueError if they
    have no such split."""
    table = uci.load_table(config.data, config.data_dir)
    examples = examples_of(table, config.split)
    sizes = f"{len(table.x)} rows of {table.x.shape[1]} features, {len(table.train)} splits"
    result = results.origin(
        TITLE,
        SOURCE,
        command=command,
        identity=machine.identity("vmap") | {"blackjax": metadata.version("blackjax")},
        data=f"{Path(table.source).name}, {sizes}",
        settings=config.facts(),
    )
    with results.leaving(config.folder, result, console, draw) as say:
        trained = train(config, examples)
        found = {}
        for name in config.models:
            found[name] = observe(config, examples, trained, name)
            say(told(name, found[name]))
        result |= {
            "prior of the inputs": "Gaussian, mean and covariance of the training inputs",
            "sizes": {
                "training examples": len(examples.train_y),
                "test examples": len(examples.test_y),
                "features": examples.train_x.shape[1],
            },
            "training examples": drawn(examples, examples.train_x, examples.train_y),
            "models": found,
        }
    return result


def examples_of(table: uci.Table, split: int) -> uci.Scaled:
    """One split, in units of its training rows. ValueError if there is no such split, or too few
    rows for a covariance of the columns."""
    if split >= len(table.train):
        raise ValueError(f"split is {split}; expected 0 to {len(table.train) - 1}.")
    rows, columns = len(table.train[split]), table.x.shape[1]
    if rows <= columns:
        raise ValueError(f"{rows} training rows have no covariance of {columns} columns.")
    return uci.scaled(table, split)


def told(name: str, found: dict[str, Any]) -> str:
    """A line about the samples of a model, which says where its chains do not agree."""
    line = (
        f"{name}: largest R-hat {found['largest R-hat']:.3f}, smallest effective sample size "
        f"{found['smallest effective sample size']:.0f}, {found['divergences']} divergences, "
        f"label - prediction {found['label - prediction']['value']:.3f} (root mean square)"
    )
    if not found["converged"]:
        line += f". R-hat exceeds {CONVERGED}: the chains do NOT agree, these are no samples of it"
    return line
