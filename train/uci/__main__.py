"""`python -m train.uci`."""

import functools
import sys

from train.report import commandline
from train.uci.settings import Config

cli = functools.partial(commandline.run, "train.uci", Config, continues="with the next cell")

if __name__ == "__main__":
    sys.exit(cli())
