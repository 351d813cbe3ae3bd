"""`python -m train.indrnn`."""

import functools
import sys

from train.indrnn.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run,
    "train.indrnn",
    Config,
    "train.indrnn.experiment",
    description="Independently recurrent networks on sequences of pixels ([A] 5.1).",
    example="""
        python -m train.indrnn --order permuted --data-dir FOLDER
        python -m train.indrnn --data digits --features 16 --epochs 5
    """,
    continues="from its last checkpoint",
)

if __name__ == "__main__":
    sys.exit(cli())
