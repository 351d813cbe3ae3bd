"""`python -m train.resnet`."""

import sys
from collections.abc import Sequence

from train.report import commandline
from train.resnet.settings import Config


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.resnet",
        Config,
        "train.resnet.experiment",
        description="Residual networks on CIFAR-10: none, dropout, PCFF ([A] 5.1, Figure 4 right).",
        example="""
            python -m train.resnet --data-dir FOLDER
            python -m train.resnet --length 25 --images 9000 --seeds 0 --dropout .1 --pcff .3
        """,
        continues="from its last checkpoint",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(cli())
