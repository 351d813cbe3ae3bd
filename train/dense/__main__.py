"""`python -m train.dense`."""

import functools
import sys

from train.dense.settings import Config
from train.report import commandline

cli = functools.partial(commandline.run, "train.dense", Config)

if __name__ == "__main__":
    sys.exit(cli())
