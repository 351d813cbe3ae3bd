"""Draws resnet.svg, resnet_curves.svg, indrnn.svg and indrnn_curves.svg from results/, where it has
changed since: a picture says which results it was drawn from.

python -m docs.figures.sweeps
"""

import pathlib

from train.report import sweep_figure

EXPERIMENTS = ("resnet", "indrnn")
DRAW = {"": sweep_figure.draw, "_curves": sweep_figure.draw_curves}


def outdated(root: pathlib.Path) -> list[str]:
    """The pictures that are not of the results.

    Args:
        root: of the repository.

    Returns:
        paths below the root.
    """
    return [
        name
        for experiment in EXPERIMENTS
        for name in _pictures(experiment)
        if (files := _files(root, experiment))
        and not _says(root / name, sweep_figure.digest(files))
    ]


def draw(root: pathlib.Path, names: list[str]) -> None:
    """Draws pictures anew.

    Args:
        root: of the repository.
        names: as `outdated` gives them.
    """
    for experiment in EXPERIMENTS:
        for name, drawing in _pictures(experiment).items():
            if name in names:
                drawing(_files(root, experiment), root / name)


def _pictures(experiment: str):
    return {f"docs/figures/{experiment}{end}.svg": drawing for end, drawing in DRAW.items()}


def _files(root: pathlib.Path, experiment: str) -> list[pathlib.Path]:
    return sorted(root.glob(f"results/{experiment}/*/result.json"))


def _says(picture: pathlib.Path, digest: str) -> bool:
    return picture.exists() and digest in picture.read_text()


if __name__ == "__main__":
    root = pathlib.Path(__file__).parent.parent.parent
    names = outdated(root)
    draw(root, names)
    print(f"drawn: {', '.join(names) or 'none'}")
