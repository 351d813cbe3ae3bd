"""`train.resnet` and `train.indrnn` where only the library and its own requirements are installed.

    python -m train.bare resnet --data-dir FOLDER --out FOLDER --length 25
    python -m train.bare indrnn --data-dir FOLDER --out FOLDER --order permuted --epochs 20

No command line of options for everything, no progress bar, no checkpoint, no figure: trains, tests,
and writes the same `result.json`. For machines that others have set up, with a GPU for example. To
draw: `python -m train.sweep_figure`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train import data, indrnn, report, resnet, sweep
from train.files import DataFileError
from train.recipes import PatientRecipe, SteppedRecipe
from train.runs import Silent


class Lines(Silent):
    """Tells progress in lines."""

    def message(self, text: str) -> None:
        """A line."""
        print(text, flush=True)

    def update(self, **figures: float) -> None:
        """A line."""
        print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Trains, tests, and leaves the result behind.

    Raises:
        DataFileError, ValueError: see `train.resnet.main`.
    """
    parser = argparse.ArgumentParser(prog="python -m train.bare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("experiment", choices=("resnet", "indrnn"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-none", action="store_true", help="not without regulariser")
    parser.add_argument("--dropout", type=float, nargs="*", help="drop rates")
    parser.add_argument("--pcff", type=float, nargs="*", help="rates of PCFF")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, help="train on the first so many")
    parser.add_argument("--mode", choices=("auto", "vmap", "sequential"), default="auto")
    parser.add_argument("--epochs", type=int, help="the most of a run")
    parser.add_argument("--length", type=int, default=250, help="of ResNet's schedule, in epochs")
    parser.add_argument("--blocks", type=int, default=3, help="of each of ResNet's stages")
    parser.add_argument("--channels", type=int, default=16, help="of ResNet's first stage")
    parser.add_argument("--batch-size", type=int, help="other than the recipe's")
    parser.add_argument("--order", choices=("sequential", "permuted"), default="sequential")
    given = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "train.bare", *arguments])
    shared: dict[str, Any] = {
        "none": not given.no_none,
        "seeds": tuple(given.seeds),
        "images": given.images,
        "mode": given.mode,
    }
    for name in ("dropout", "pcff"):
        if getattr(given, name) is not None:
            shared[name] = tuple(getattr(given, name))
    batch = {} if given.batch_size is None else {"batch_size": given.batch_size}
    if given.experiment == "resnet":
        recipe = SteppedRecipe(length=given.length, epochs=given.epochs, **batch)
        config = resnet.Config(
            **shared, blocks=given.blocks, channels=given.channels, recipe=recipe
        )
        experiment = resnet.experiment(config, data.load(config.data, given.data_dir))
    else:
        recipe = PatientRecipe(epochs=given.epochs, **batch)
        config = indrnn.Config(**shared, data_dir=given.data_dir, order=given.order, recipe=recipe)
        experiment = indrnn.experiment(config, data.load(config.data, given.data_dir))
    finished = sweep.trained(experiment, None, Lines())
    result = sweep.tested(experiment, finished, command, given.out)
    print(report.markdown([result]), end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (DataFileError, ValueError) as error:
        sys.exit(f"error: {error}")
