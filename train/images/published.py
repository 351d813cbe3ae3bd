"""[B] Table 1, as printed; which of our networks and methods stand for its rows and columns; and
where its first column stands in print elsewhere."""

from typing import NamedTuple

from train.images.settings import Data, Method, Name

Row = tuple[Data, str]  # data, name of the network in print

SETS: tuple[Data, ...] = ("cifar10", "cifar100", "tiny_imagenet")
# [B] does not say which ResNet and which Mixer.
ROWS: dict[str, Name] = {
    "DenseNet-BC": "densenet-bc-100-12",
    "ResNet": "preact-resnet-18",
    "WRN-28-10": "wrn-28-10",
    "Eff.NetB0": "efficientnet-b0-cifar",
    "MLP Mixer-S": "mixer-s-4",
}
COLUMNS: dict[Method, str] = {
    "plain": "vanilla NN",
    "weight_sample": "reparam.",
    "weight_sample_ensemble": "reparam./NF + NG + ensemble",
    "moments": "BP/NF",
    "moments_natural": "BP/NF + NG",
}
_PRINTED: dict[Data, str] = {
    "cifar10": """
        4.51 4.75 4.50 4.40 4.35
        5.46 5.70 4.75 4.35 5.10
        3.50 3.65 3.50 3.40 3.30
        4.40 5.15 4.35 4.10 3.90
        8.20 9.35 8.55 6.70 4.85
    """,
    "cifar100": """
        22.27 23.05 21.05 21.90 20.50
        27.22 29.55 28.35 27.10 25.90
        18.80 18.95 18.90 18.30 17.70
        20.50 21.75 20.30 20.05 19.30
        30.60 32.90 32.25 28.35 26.00
    """,
    "tiny_imagenet": """
        30.10 30.50 30.15 29.95 29.25
        31.50 33.00 32.00 31.50 30.70
        28.70 29.15 28.75 28.55 27.30
        29.45 30.00 29.25 29.10 28.95
        35.85 38.45 36.35 34.30 31.10
    """,
}


class Cell(NamedTuple):
    """What is trained for one number of the table."""

    data: Data
    network: Name
    method: Method


def printed(data: Data, row: str, method: Method) -> str:
    """An error in percent, as it is printed.

    Example:
        >>> printed("cifar10", "ResNet", "moments"), printed("cifar10", "ResNet", "moments_natural")
        ('4.35', '5.10')
    """
    line = _PRINTED[data].split("\n")[1 + [*ROWS].index(row)]
    return line.split()[[*COLUMNS].index(method)]


class Match(NamedTuple):
    """An error of the first column, and where the same one stands in print."""

    data: Data
    row: str
    error: str
    of: str
    also: str  # what the same network has on the other data


def _matches(text: str) -> tuple[Match, ...]:
    """From lines of data, row, error, where else it stands, and what that has besides."""
    lines = (line.strip().split(" | ") for line in text.strip().splitlines())
    return tuple(
        Match(next(name for name in SETS if name == data), *others) for data, *others in lines
    )


# They are no proof of copying.
MATCHES = _matches("""
cifar10 | DenseNet-BC | 4.51 | DenseNet-BC, Huang et al. 2017 | 22.27 on CIFAR-100, as here
cifar100 | DenseNet-BC | 22.27 | DenseNet-BC, Huang et al. 2017 | 4.51 on CIFAR-10, as here
cifar10 | ResNet | 5.46 | pre-activation ResNet-164: He et al. 2016 | 24.33 on CIFAR-100, not 27.22
cifar100 | ResNet | 27.22 | ResNet-110: Huang et al. 2016 | 6.41 on CIFAR-10, not 5.46
cifar10 | WRN-28-10 | 3.50 | WRN-28-10 by SGD: Foret et al. 2021 | 18.8 ± 0.2 on CIFAR-100, as here
cifar100 | WRN-28-10 | 18.80 | WRN-28-10 by SGD: Foret et al. 2021 | 3.5 ± 0.1 on CIFAR-10, as here
""")
