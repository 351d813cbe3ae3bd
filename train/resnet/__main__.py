"""`python -m train.resnet`."""

import functools
import sys

from train.report import commandline
from train.resnet.settings import Config

cli = functools.partial(commandline.run, "train.resnet", Config)

if __name__ == "__main__":
    sys.exit(cli())
