"""`python -m train.gradient_variance`."""

import functools
import sys

from train.gradient_variance.settings import Config
from train.report import commandline

cli = functools.partial(commandline.run, "train.gradient_variance", Config)

if __name__ == "__main__":
    sys.exit(cli())
