"""`python -m train.observation_density`."""

import functools
import sys

from train.observation_density.settings import Config
from train.report import commandline

cli = functools.partial(commandline.run, "train.observation_density", Config, continues=None)

if __name__ == "__main__":
    sys.exit(cli())
