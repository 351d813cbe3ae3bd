"""The experiment from the data to `result.json`; see `train.gradient_variance`."""

from pathlib import Path
from typing import Any

import jax

from cgjax import weights
from train import data
from train.data import Dataset
from train.engine.progress import ProgressBar
from train.gradient_variance.figure import draw, variance_grids
from train.gradient_variance.measurements import biases, costs, posteriors, variances
from train.gradient_variance.settings import Config
from train.gradient_variance.training import all_runs, learn, tested, uncertain
from train.report import machine, results
from train.report.files import held, refuse_other_result

TITLE = "variance of gradients and learning curves of procedures for weights"


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, measures, and leaves the result behind.

    Raises:
        DataFileError: no data, or bad files.
        CheckpointError: see `train.engine.runs.train`.
        ValueError: training diverged, so that there is nothing to measure at.
    """
    dataset, settings = restricted(config, data.load(config.data, config.data_dir)), config.facts()
    out = config.out or Path("runs/gradient_variance") / config.data
    say, runs = results.said_on(console), all_runs(config)
    with held(out):
        refuse_other_result(out / "result.json", TITLE, settings)
        say(f"{dataset.source}; results go to {out}")
        with ProgressBar(config.scale.epochs, len(runs), console) as bar:
            finished = learn(config, dataset, out / "checkpoint", bar)
        told = [tested(config, dataset, *pair) for pair in zip(runs, finished, strict=True)]
        points = posteriors(config, dataset, finished)
        result = results.origin(
            TITLE,
            "[B] 4.1, Figure 1",
            command=command,
            identity=machine.identity(config.how),
            data=dataset.source,
            settings=settings,
        ) | {
            "sizes": sizes(dataset, points["initial"]),
            "variance": variances(config, dataset, points, say),
            "bias": biases(config, dataset, points, say),
            "cost": costs(config, dataset, points["initial"]),
            "runs": told,
        }
        results.write(out / "result.json", result)
        draw([out / "result.json"], out / "figure.png")
    console.print(*(grid.rich() for grid in variance_grids(result)))
    say(f"{out}/result.json, {out}/figure.png")
    return result


def restricted(config: Config, dataset: Dataset) -> Dataset:
    """The images that are used."""
    few = config.evaluation_images
    sizes = {"train": config.images, "validation": few, "test": few}
    names = [(f"{part}_{what}", size) for part, size in sizes.items() for what in "xy"]
    return dataset._replace(**{name: getattr(dataset, name)[:size] for name, size in names})


def sizes(dataset: Dataset, posterior: Any) -> dict[str, int]:
    """The sizes of data and network."""
    return {
        "training images": len(dataset.train_x),
        "validation images": len(dataset.validation_x),
        "test images": len(dataset.test_x),
        "uncertain weights": sum(kernel.mean.size for kernel in uncertain(posterior)),
        "parameters": sum(a.size for a in jax.tree.leaves(weights.means(posterior))),
    }
