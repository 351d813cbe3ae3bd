"""Draws the pictures of results/ again where these have changed since: a picture says which results
it was drawn from.

python -m docs.figures.pictures
"""

import pathlib
from collections.abc import Callable, Sequence

from train.dense import figure as dense
from train.gradient_variance import figure as gradient_variance
from train.observation_density import figure as observation_density
from train.report import sweep_figure
from train.report.figures import digest

Draw = Callable[[Sequence[pathlib.Path], pathlib.Path], None]

# The results of each picture of docs/figures/, and what draws them.
PICTURES: dict[str, tuple[str, Draw]] = {
    "dense.svg": ("dense/*/*/result.json", dense.draw),
    "resnet.svg": ("resnet/*/result.json", sweep_figure.draw),
    "resnet_curves.svg": ("resnet/*/result.json", sweep_figure.draw_curves),
    "indrnn.svg": ("indrnn/*/result.json", sweep_figure.draw),
    "indrnn_curves.svg": ("indrnn/*/result.json", sweep_figure.draw_curves),
    "gradient_variance.svg": ("gradient_variance/*/result.json", gradient_variance.draw),
    "observation_density.png": (
        "observation_density/boston/result.json",
        observation_density.draw,
    ),
}


def outdated(root: pathlib.Path) -> list[str]:
    """The pictures that are not of the results, as paths below the root of the repository."""
    return [
        f"docs/figures/{name}"
        for name in PICTURES
        if (files := _files(root, name)) and not _says(root / "docs/figures" / name, files)
    ]


def draw(root: pathlib.Path, names: list[str]) -> None:
    """Draws pictures anew.

    Args:
        root: of the repository.
        names: as `outdated` gives them.
    """
    for name in names:
        path = root / name
        PICTURES[path.name][1](_files(root, path.name), path)


def _files(root: pathlib.Path, name: str) -> list[pathlib.Path]:
    return sorted((root / "results").glob(PICTURES[name][0]))


def _says(picture: pathlib.Path, files: list[pathlib.Path]) -> bool:
    return picture.exists() and digest(files).encode() in picture.read_bytes()


if __name__ == "__main__":
    root = pathlib.Path(__file__).parent.parent.parent
    names = outdated(root)
    draw(root, names)
    print(f"drawn: {', '.join(names) or 'none'}")
