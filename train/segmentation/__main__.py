"""`python -m train.segmentation`."""

import functools
import sys

from train.report import commandline
from train.segmentation.settings import Config

cli = functools.partial(commandline.run, "train.segmentation", Config, continues=None)

if __name__ == "__main__":
    sys.exit(cli())
