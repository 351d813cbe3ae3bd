"""`python -m train.indrnn`."""

import functools
import sys

from train.indrnn.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run, "train.indrnn", Config, continues="from its last checkpoint"
)

if __name__ == "__main__":
    sys.exit(cli())
