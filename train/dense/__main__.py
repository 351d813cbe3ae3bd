"""`python -m train.dense`."""

import functools
import sys

from train.dense.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run, "train.dense", Config, continues="from its last checkpoint"
)

if __name__ == "__main__":
    sys.exit(cli())
