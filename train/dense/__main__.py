"""`python -m train.dense`."""

import functools
import sys

from train.dense.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run,
    "train.dense",
    Config,
    "train.dense.experiment",
    description="Dense networks on images: none, dropout, PCFF, both ([A] 5.1, Figure 4 left).",
    example="""
        python -m train.dense
        python -m train.dense --data mnist --data-dir FOLDER --seeds 0 --epochs 100
    """,
    continues="from its last checkpoint",
)

if __name__ == "__main__":
    sys.exit(cli())
