"""Draws the pictures of results/ again where these have changed since: a picture says which results
it was drawn from.

python -m docs.figures.pictures
"""

import pathlib

from train import figure
from train.report.figures import digest

# The results that each picture is of; how they are drawn is known to `train.figure`.
PICTURES = {
    "dense.svg": "dense/*/*/result.json",
    "resnet.svg": "resnet/*/result.json",
    "resnet_curves.svg": "resnet/*/result.json",
    "indrnn.svg": "indrnn/*/result.json",
    "indrnn_curves.svg": "indrnn/*/result.json",
    "gradient_variance.svg": "gradient_variance/*/result.json",
    "segmentation.png": "segmentation/digits/result.json",
    "observation_density.png": "observation_density/boston/result.json",
    "tagging.svg": "tagging/*/*.json",
    "characters.svg": "characters/*/result.json",
    "gan_ring.png": "gan/ring/result.json",
    "gan_digits.png": "gan/digits/result.json",
    "gan_mnist.png": "gan/mnist/result.json",
    "images_cifar10.svg": "images/cifar10_part/*/result.json",
    "images_digits.svg": "images/digits/*/result.json",
    "vae_digits.png": "vae/digits/result.json",
    "vae_mnist.png": "vae/mnist_*/result.json",
}


def outdated(root: pathlib.Path) -> list[str]:
    """The pictures that are not of the results, as paths below the root of the repository."""
    outdated = []
    for path in (root / "docs" / "figures" / name for name in PICTURES):
        files = _files(root, path.name)
        drawn = path.exists() and digest(files).encode() in path.read_bytes()
        outdated += [f"docs/figures/{path.name}"] * bool(files and not drawn)
    return outdated


def draw(root: pathlib.Path, names: list[str]) -> None:
    """Draws pictures anew, by their names as `outdated` gives them."""
    for path in (root / name for name in names):
        files = _files(root, path.name)
        module = figure.drawing(files)
        (module.draw_curves if path.stem.endswith("_curves") else module.draw)(files, path)


def _files(root: pathlib.Path, name: str) -> list[pathlib.Path]:
    return sorted((root / "results").glob(PICTURES[name]))


if __name__ == "__main__":
    root = pathlib.Path(__file__).parent.parent.parent
    names = outdated(root)
    draw(root, names)
    print(f"drawn: {', '.join(names) or 'none'}")
