"""`train.resnet` and `train.indrnn` where only the library and its own requirements are installed.

    python -m train.bare resnet --data-dir FOLDER --out FOLDER --length 25
    python -m train.bare indrnn --data-dir FOLDER --out FOLDER --order permuted --epochs 20

No progress bar and no figure: trains, tests, and writes the same `result.json`. For machines that
others have set up, with a GPU for example. To draw: `python -m train.report.sweep_figure`.

**Continues** from the checkpoint that it leaves in `--out`, or from one in the `--out` of an
earlier call that was brought back and may be read-only (`--from FOLDER`). With
`--budget-seconds 420` it begins no epoch after seven minutes, saves, tests the best weights so far,
and says how to continue; the runs are then "running" in `result.json`. Results are those of an
uninterrupted training: on a CPU to the same bits, on a GPU not yet tried.

A checkpoint is an index and parts of at most 15 MiB, in the folder `checkpoint`: with Adam's state
and its copy, 2.1 MB for each run of six recurrent layers; 3.5 MB for each of ResNet20.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from train import data
from train.engine import sweep
from train.engine.checkpoint import CheckpointError
from train.engine.plain_checkpoint import PlainCheckpoints
from train.engine.recipes import PatientRecipe, SteppedRecipe
from train.engine.runs import Silent
from train.indrnn import experiment as indrnn
from train.models.indrnn import Implementation
from train.report import machine
from train.report import tables as report
from train.report.files import DataFileError
from train.resnet import experiment as resnet

CHECKPOINT = "checkpoint"


class Lines(Silent):
    """Tells progress in lines."""

    def message(self, text: str) -> None:
        """A line."""
        print(text, flush=True)

    def update(self, **figures: float) -> None:
        """A line."""
        print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)


def parser() -> argparse.ArgumentParser:
    """The options: those of both experiments, and those of each."""
    both = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    both.add_argument("--data-dir", type=Path, help="the folder with the data set")
    both.add_argument("--out", type=Path, required=True, help="the folder for results")
    both.add_argument("--from", type=Path, dest="earlier", help="an earlier --out to continue")
    both.add_argument("--budget-seconds", type=float, help="begin no epoch after so long")
    both.add_argument("--no-none", action="store_true", help="not without regulariser")
    both.add_argument("--dropout", type=float, nargs="*", help="drop rates")
    both.add_argument("--pcff", type=float, nargs="*", help="rates of PCFF")
    both.add_argument("--both", type=float, nargs="*", help="drop rates and rates of PCFF in turn")
    both.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    both.add_argument("--images", type=int, help="train on the first so many")
    both.add_argument("--mode", choices=("auto", "vmap", "sequential"), default="auto")
    both.add_argument("--width", type=int, help="so many runs at a time")
    both.add_argument("--batch-size", type=int, help="other than the recipe's")
    made = argparse.ArgumentParser(
        prog="python -m train.bare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    experiments = made.add_subparsers(dest="experiment", required=True)
    options = experiments.add_parser("resnet", parents=[both], allow_abbrev=False)
    options.add_argument("--epochs", type=int, help="the most of a run; default: --length")
    options.add_argument("--length", type=int, default=250, help="of the schedule, in epochs")
    options.add_argument("--blocks", type=int, default=3, help="of each stage")
    options.add_argument("--channels", type=int, default=16, help="of the first stage")
    options.add_argument("--shortcut", choices=get_args(resnet.Shortcut), default="convolution")
    options.add_argument("--form", choices=get_args(resnet.Form), default="convolution")
    options.add_argument("--dtype", choices=get_args(resnet.Dtype), default="float32")
    options = experiments.add_parser("indrnn", parents=[both], allow_abbrev=False)
    options.add_argument("--epochs", type=int, required=True, help="the most of a run")
    options.add_argument("--data", choices=("mnist", "fashion_mnist", "digits"), default="mnist")
    options.add_argument("--order", choices=get_args(indrnn.Order), default="sequential")
    options.add_argument("--order-seed", type=int, default=0)
    options.add_argument("--stack", choices=get_args(indrnn.Stack), default="plain")
    options.add_argument("--depth", type=int, default=6, help="of a plain stack")
    options.add_argument("--features", type=int, default=128)
    options.add_argument("--patience", type=int, default=100)
    options.add_argument("--implementation", choices=get_args(Implementation))
    return made


def experiment(given: argparse.Namespace) -> sweep.Experiment:
    """The experiment that was chosen.

    Raises:
        DataFileError, ValueError: see `train.resnet.main`.
    """
    shared: dict[str, Any] = {
        "none": not given.no_none,
        "seeds": tuple(given.seeds),
        "images": given.images,
        "mode": given.mode,
        "width": given.width,
        "data_dir": given.data_dir,
    }
    for name in ("dropout", "pcff"):
        if getattr(given, name) is not None:
            shared[name] = tuple(getattr(given, name))
    if given.both is not None:
        if len(given.both) % 2:
            raise ValueError(f"--both takes pairs of rates, got {len(given.both)} numbers.")
        shared["both"] = tuple(zip(given.both[::2], given.both[1::2], strict=True))
    batch = {} if given.batch_size is None else {"batch_size": given.batch_size}

    def chosen(*names: str) -> dict[str, Any]:
        return {name: getattr(given, name) for name in names}

    if given.experiment == "resnet":
        recipe = SteppedRecipe(**chosen("length", "epochs"), **batch)
        names = "shortcut", "blocks", "channels", "form", "dtype"
        config = resnet.Config(**shared, **chosen(*names), recipe=recipe)
        return resnet.experiment(config, data.load(config.data, config.data_dir))
    recipe = PatientRecipe(**chosen("epochs", "patience"), **batch)
    names = "data", "order", "order_seed", "stack", "depth", "features", "implementation"
    config = indrnn.Config(**shared, **chosen(*names), recipe=recipe)
    return indrnn.experiment(config, data.load(config.data, config.data_dir))


def prepared(out: Path, earlier: Path | None) -> None:
    """Finds out whether `out` can be written, and brings a later step that `earlier` has there.

    Raises:
        CheckpointError: it cannot, or `earlier` has no checkpoint, or a damaged one.
    """
    store = PlainCheckpoints(out / CHECKPOINT)
    store.require_writable()
    if earlier is None:
        return
    brought, here = PlainCheckpoints(earlier / CHECKPOINT).latest(), store.latest()
    if brought is None:
        raise CheckpointError(
            f"{earlier / CHECKPOINT}: no checkpoint there. Give the folder that was --out, or "
            "leave --from out to begin anew."
        )
    if here is None or here.step < brought.step:
        store.save(*brought)


def main(arguments: Sequence[str]) -> None:
    """Trains, tests, and leaves the result behind.

    Raises:
        CheckpointError, DataFileError, ValueError: see `train.engine.sweep.run`.
    """
    begin = time.monotonic()
    given = parser().parse_args(arguments)
    deadline = None if given.budget_seconds is None else begin + given.budget_seconds
    machine.keep_memory()
    prepared(given.out, given.earlier)
    chosen = experiment(given)
    finished = sweep.trained(
        chosen, given.out / CHECKPOINT, Lines(), store=PlainCheckpoints, deadline=deadline
    )
    command = shlex.join(["python", "-m", "train.bare", *arguments])
    result = sweep.tested(chosen, finished, command, given.out)
    print(report.markdown([result]), end="")
    running = sum(run.status == "running" for run in finished)
    if running:
        print(
            f"{running} of {len(finished)} runs have not ended. The same command continues them, "
            f"elsewhere with --from and a copy of {given.out}."
        )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (CheckpointError, DataFileError, ValueError) as error:
        sys.exit(f"error: {error}")
