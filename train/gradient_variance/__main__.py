"""`python -m train.gradient_variance`."""

import sys
from collections.abc import Sequence

from train.gradient_variance.settings import Config
from train.report import commandline

EXAMPLE = """
python -m train.gradient_variance                                  # scikit-learn's digits
python -m train.gradient_variance --data mnist --data-dir FOLDER   # [B] Figure 1 a, b
python -m train.gradient_variance --data cifar10 --network vgg16   # [B] Figure 1 c, d, on a GPU
python -m train.gradient_variance --data cifar10 --network small_vgg --images 2000
"""


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.gradient_variance",
        Config,
        "train.gradient_variance.experiment",
        description="Variance of gradients of procedures for weights ([B] Figure 1).",
        example=EXAMPLE,
        continues="from its last checkpoint",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(cli())
