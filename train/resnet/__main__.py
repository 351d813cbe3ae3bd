"""`python -m train.resnet`."""

import functools
import sys

from train.report import commandline
from train.resnet.settings import Config

cli = functools.partial(
    commandline.run,
    "train.resnet",
    Config,
    "train.resnet.experiment",
    description="Residual networks on CIFAR-10: none, dropout, PCFF ([A] 5.1, Figure 4 right).",
    example="""
        python -m train.resnet --data-dir FOLDER
        python -m train.resnet --length 25 --images 9000 --seeds 0 --dropout .1 --pcff .3
    """,
    continues="from its last checkpoint",
)

if __name__ == "__main__":
    sys.exit(cli())
