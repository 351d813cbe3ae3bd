"""`python -m train.gradient_variance`."""

import functools
import sys

from train.gradient_variance.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run,
    "train.gradient_variance",
    Config,
    "train.gradient_variance.experiment",
    description="Variance of gradients of procedures for weights ([B] Figure 1).",
    example="""
        python -m train.gradient_variance
        python -m train.gradient_variance --data mnist --data-dir FOLDER
        python -m train.gradient_variance --data cifar10 --data-dir FOLDER --network vgg16
    """,
    continues="from its last checkpoint",
)


if __name__ == "__main__":
    sys.exit(cli())
