"""`python -m train.tagging`."""

import functools
import sys

from train.report import commandline
from train.tagging.settings import Config

cli = functools.partial(commandline.run, "train.tagging", Config, continues="with the next cell")

if __name__ == "__main__":
    sys.exit(cli())
