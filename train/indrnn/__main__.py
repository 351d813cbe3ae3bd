"""`python -m train.indrnn`."""

import functools
import sys

from train.indrnn.settings import Config
from train.report import commandline

cli = functools.partial(commandline.run, "train.indrnn", Config)

if __name__ == "__main__":
    sys.exit(cli())
