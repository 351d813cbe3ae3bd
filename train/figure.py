"""Draws results again, from their JSON alone: the figure that their experiment leaves behind.

python -m train.figure results/dense/*/*/result.json --out figure.svg
python -m train.figure results/indrnn/*/result.json --out errors.svg --curves curves.svg
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from train.report.files import DataFileError
from train.report.results import read_json

# How the name of an experiment begins, in its results, and the module that draws them.
DRAWN = {
    "dense networks": "train.dense.figure",
    "residual networks": "train.report.sweep_figure",
    "independently recurrent networks": "train.report.sweep_figure",
    "variance of gradients": "train.gradient_variance.figure",
    "examples that a trained network expects": "train.observation_density.figure",
    "noisy pictures cleaned": "train.segmentation.figure",
    "tags of sentences": "train.tagging.figure",
    "characters of a text": "train.characters.figure",
    "generators that learn from a critic": "train.gan.figure",
    "variational autoencoders": "train.vae.figure",
    "image classification": "train.images.figure",
}


def drawing(results: Sequence[Path]) -> ModuleType:
    """The module that draws results, by the experiment that they say they are of. DataFileError
    names a file that is no result with a figure; ValueError if they are of several, or there are
    none."""
    found: dict[str, Path] = {}
    for path in results:
        result = read_json(path, lambda result: result["experiment"], "result of an experiment")
        name = str(result["experiment"])
        module = next((m for start, m in DRAWN.items() if name.startswith(start)), None)
        if module is None:
            known = "; ".join(DRAWN)
            raise DataFileError(f"{path} is of {name!r}, which has no figure; these have: {known}")
        found.setdefault(module, path)
    if len(found) != 1:
        files = " and ".join(map(str, found.values()))
        raise ValueError(f"{files} are drawn in other ways" if found else "no results were given")
    return importlib.import_module(*found)


def draw(
    results: tuple[Path, ...], /, out: Path = Path("figure.png"), curves: Path | None = None
) -> None:
    """Draws results of the experiments, for example: python -m train.figure
    results/dense/*/*/result.json --out figure.svg

    Args:
        results: the files result.json to draw, of one experiment.
        out: the picture to write; its suffix (.png, .svg, .pdf) is the format.
        curves: a picture of learning curves, of train.resnet and train.indrnn.
    """
    module = drawing(results)
    if curves is not None and not hasattr(module, "draw_curves"):
        raise ValueError(f"{results[0]} is of no sweep over rates, and has no learning curves")
    try:
        module.draw(results, out)
        if curves is not None:
            module.draw_curves(results, curves)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        told = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{', '.join(map(str, results))}: {told}") from error


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    import tyro

    try:
        tyro.cli(draw, args=arguments, prog="python -m train.figure")
    except (DataFileError, OSError, ValueError) as error:
        print(f"error: these results cannot be drawn: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(cli())
